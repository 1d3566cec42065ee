"""Who is first of many, each of whom may move.

A *member* stands at a place. It may move back at any time, and nobody is told: a member is looked
at when it comes up, and put where it stands by then. Moving forward is told by `offer`. So what
does not come up costs nothing, however many there are.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

ENTRIES_FREE: Final = 64
"""Entries beyond two for each member that are not worth a sweep."""

Place = tuple[int, ...]
"""Compared like any tuple; the least is first. All of one `Heads` have the same length."""


class Member(Protocol):
    """In at most one `Heads`, which owns `listed`."""

    listed: "tuple[Place, int, Any] | None"


_M = TypeVar("_M", bound=Member)


def _stands(entry: tuple[Place, int, Member]) -> bool:
    """The member has neither moved nor left since. By the serial: a tuple has no identity to go by
    in compiled code.
    """
    listed = entry[2].listed
    return listed is not None and listed[1] == entry[1]


class Heads(Generic[_M]):
    """Members in the order of their places."""

    __slots__ = ("_count", "_entries", "_serials")

    def __init__(self) -> None:
        self._entries: list[tuple[Place, int, _M]] = []
        self._serials = itertools.count()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def offer(self, member: _M, place: Place) -> None:
        """The member stands at `place`, or further ahead if it is listed there already."""
        listed = member.listed
        if listed is None:
            self._count += 1
        elif listed[0] <= place:
            return
        entry = (place, next(self._serials), member)
        member.listed = entry
        heapq.heappush(self._entries, entry)
        if len(self._entries) > 2 * self._count + ENTRIES_FREE:
            self._entries = [entry for entry in self._entries if _stands(entry)]
            heapq.heapify(self._entries)

    def withdraw(self, member: _M) -> None:
        """The member is not among them, until it is offered again. Idempotent."""
        if member.listed is not None:
            member.listed = None
            self._count -= 1
            if not self._count:
                # Who drops all of this with its members is not to be kept alive by them.
                self._entries.clear()

    def first(self, look: Callable[[_M], Place | None]) -> _M | None:
        """Who is first, or None. `look` says where a member stands at this moment; None = it cannot
        come up, and is withdrawn.
        """
        entries = self._entries
        while entries:
            entry = entries[0]
            if not _stands(entry):
                heapq.heappop(entries)
                continue
            member = entry[2]
            place = look(member)
            if place is None:
                heapq.heappop(entries)
                self.withdraw(member)
            elif place == entry[0]:
                return member
            else:
                moved = (place, next(self._serials), member)
                member.listed = moved
                heapq.heapreplace(entries, moved)
        return None
