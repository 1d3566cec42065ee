"""Who is first of many who may move, against a look at all of them."""

from typing import Any

from hypothesis import stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import heads

NAMES = st.integers(0, 11)
STEPS = st.integers(1, 5)


class Member:
    def __init__(self) -> None:
        self.listed: tuple[heads.Place, int, Any] | None = None


class HeadsMachine(stateful.RuleBasedStateMachine):
    """Members come, go, move back without a word, and forward by an offer."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: heads.Heads[Member] = heads.Heads()
        self.members = [Member() for _ in range(12)]
        self.places: dict[Member, int] = {}

    @stateful.rule(name=NAMES, place=st.integers(0, 30), times=st.integers(1, 100))
    def come(self, name: int, place: int, times: int) -> None:
        member = self.members[name]
        for _ in range(times):
            self.heads.withdraw(member)
            self.heads.offer(member, (place,))
        self.places[member] = place

    @stateful.rule(name=NAMES, step=STEPS)
    def move_back(self, name: int, step: int) -> None:
        member = self.members[name]
        if member in self.places:
            self.places[member] += step

    @stateful.rule(name=NAMES, step=STEPS)
    def move_forward(self, name: int, step: int) -> None:
        member = self.members[name]
        if member in self.places:
            self.places[member] -= step
            self.heads.offer(member, (self.places[member],))

    @stateful.rule(name=NAMES)
    def go(self, name: int) -> None:
        self.heads.withdraw(self.members[name])
        self.places.pop(self.members[name], None)

    @stateful.rule(name=NAMES)
    def be_held_up(self, name: int) -> None:
        """It is found out when it comes up, and not before."""
        held = self.members[name]

        def look(member: Member) -> heads.Place | None:
            return None if member is held else (self.places[member],)

        others = {member: place for member, place in self.places.items() if member is not held}
        first = self.heads.first(look)
        assert (first is None) == (not others)
        if first is not None:
            assert others[first] == min(others.values())
        if held in self.places and held.listed is None:
            del self.places[held]

    @stateful.rule()
    def ask(self) -> None:
        asked = []

        def look(member: Member) -> heads.Place:
            asked.append(member)
            return (self.places[member],)  # who has gone is not asked

        first = self.heads.first(look)
        assert (first is None) == (not self.places)
        if first is not None:
            assert self.places[first] == min(self.places.values())
        assert len(asked) <= 2 * len(self.places), "each is put where it stands once"

    @stateful.invariant()
    def counted(self) -> None:
        assert len(self.heads) == len(self.places)


TestHeads = HeadsMachine.TestCase
