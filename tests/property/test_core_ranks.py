"""Places by rank against a sorted list."""

import bisect

import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import ranks

RANK = st.integers(-(2**80), 2**80) | st.integers(-3, 3)
Place = tuple[int, int]


class RanksMachine(stateful.RuleBasedStateMachine):
    """The model is a sorted list of (rank, sequence)."""

    def __init__(self) -> None:
        super().__init__()
        self.ranks = ranks.Ranks()
        self.model: list[Place] = []
        self.sequence = 0

    def _add(self, rank: int) -> None:
        self.sequence += 1
        bisect.insort(self.model, (rank, self.sequence))
        self.ranks.add(rank, self.sequence)

    @stateful.rule(rank=RANK)
    def add(self, rank: int) -> None:
        self._add(rank)

    @stateful.rule(rank=RANK, step=st.sampled_from([-5, 0, 1, 2**40]))
    def add_many(self, rank: int, step: int) -> None:
        for number in range(ranks.BLOCK):
            self._add(rank + number * step)

    @stateful.rule(share=st.floats(0, 1), count=st.sampled_from([1, 10, ranks.BLOCK]))
    def remove(self, share: float, count: int) -> None:
        for _ in range(min(count, len(self.model))):
            self.ranks.remove(*self.model.pop(int(share * (len(self.model) - 1))))

    @stateful.rule(step=st.integers(2, 100))
    def thin_out(self, step: int) -> None:
        for place in [each for number, each in enumerate(self.model) if number % step]:
            self.model.remove(place)
            self.ranks.remove(*place)

    @stateful.rule()
    def make_anew(self) -> None:
        self.ranks = ranks.Ranks(reversed(self.model))

    @stateful.rule(share=st.floats(0, 1))
    def before(self, share: float) -> None:
        if self.model:
            index = int(share * (len(self.model) - 1))
            assert self.ranks.before(*self.model[index]) == index

    @stateful.rule(rank=RANK)
    def before_one_that_is_not_there(self, rank: int) -> None:
        assert self.ranks.before(rank, 0) == bisect.bisect_left(self.model, (rank, 0))

    @stateful.invariant()
    def blocks_are_few(self) -> None:
        blocks = self.ranks._blocks
        assert all(0 < len(block) <= 2 * ranks.BLOCK for block in blocks)
        assert len(blocks) <= 2 * len(self.model) // ranks.BLOCK + 2
        assert self.ranks._lasts == [block[-1] for block in blocks]


TestRanks = RanksMachine.TestCase


def test_what_is_not_there_cannot_leave() -> None:
    some = ranks.Ranks([(1, 1), (3, 3)])
    for place in ((2, 2), (4, 4)):
        with pytest.raises((AssertionError, IndexError)):
            some.remove(*place)
