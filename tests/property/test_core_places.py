"""Counts of priorities and places against lists that are searched from end to end."""

import pytest
from hypothesis import given, stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import places, priorities, settings

INT32 = st.integers(settings.INT32_MIN, settings.INT32_MAX)
SOME = st.sampled_from([settings.INT32_MIN, -257, -256, -1, 0, 1, 255, 256, settings.INT32_MAX])


class PlacesMachine(stateful.RuleBasedStateMachine):
    """The model is a set of (priority, sequence)."""

    def __init__(self) -> None:
        super().__init__()
        self.places = places.Places()
        self.priorities = priorities.Priorities()
        self.model: set[tuple[int, int]] = set()

    def _add(self, priority: int, sequence: int) -> None:
        if (priority, sequence) not in self.model:
            self.model.add((priority, sequence))
            self.places.add(priority, sequence)
            self.priorities.add(priority)

    @stateful.rule(priority=SOME | INT32, sequence=st.integers(1, 5 * places.BLOCK))
    def add(self, priority: int, sequence: int) -> None:
        self._add(priority, sequence)

    @stateful.rule(first=INT32, step=st.sampled_from([1, 255, 70_000]))
    def add_many_priorities(self, first: int, step: int) -> None:
        for number in range(priorities.SCANNED_MAX + 2):
            self._add(min(first + number * step, settings.INT32_MAX), 7 + number)

    @stateful.rule(data=st.data(), count=st.integers(1, 200))
    def remove(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.model))):
            gone = data.draw(st.sampled_from(sorted(self.model))) if count == 1 else min(self.model)
            self.model.remove(gone)
            self.places.remove(*gone)
            self.priorities.remove(gone[0])

    @stateful.rule(priority=SOME | INT32)
    def at_least(self, priority: int) -> None:
        counted = sum(each >= priority for each, _ in self.model)
        assert self.priorities.at_least(priority) == counted

    @stateful.rule(data=st.data())
    def before(self, data: st.DataObject) -> None:
        if self.model:
            priority, sequence = data.draw(st.sampled_from(sorted(self.model)))
            counted = sum(p == priority and s < sequence for p, s in self.model)
            assert self.places.before(priority, sequence) == counted
            assert self.priorities.at_least(priority + 1) == sum(
                p > priority for p, _ in self.model
            )


TestPlaces = PlacesMachine.TestCase


@given(gap=st.integers(1, 3))
def test_scattered_over_too_many_blocks_a_place_is_not_told(gap: int) -> None:
    scattered = places.Places()
    for number in range(places.BLOCKS_LOOKED_AT_MAX + 1):
        scattered.add(0, 1 + number * gap * places.BLOCK)
    assert scattered.before(0, 1) == places.UNKNOWN
    scattered.remove(0, 1)
    assert scattered.before(0, 1 + gap * places.BLOCK) == 0


def test_what_is_not_there_cannot_leave() -> None:
    with pytest.raises(KeyError):
        places.Places().remove(0, 1)
