"""A heap whose entries may die where they lie.

What leaves out of turn is not searched for: its entry is dead from then on, and whoever owns the
heap says so. Dead entries go when they come up, and by a sweep when they are the larger part: each
removal pays for some of it, so that none stands still for a heap of a million, and a heap never
keeps much more than that of what is over.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from penstock_dispatcher.core import task as tasks

Stay = tuple[int, int, int, tasks.Task]
"""A task that waits, by some key: (key, sequence, the ticket of its stay, task)."""

DEAD_ENTRIES_FREE: Final = 16
"""Dead entries beyond the living ones that are not worth a sweep."""

SWEPT_AT_ONCE: Final = 32
"""Entries that a removal looks at while a sweep is under way."""

_Entry = TypeVar("_Entry", bound=tuple[object, ...])


def waits(entry: Stay) -> bool:
    """The task has not left since: its ticket is still the same."""
    return entry[2] == entry[3].ticket


class LazyHeap(Generic[_Entry]):
    """Entries in order. `alive` tells whether one still counts; `len` is how many do."""

    __slots__ = ("_alive", "_count", "_entries", "_swept")

    def __init__(self, alive: Callable[[_Entry], bool]) -> None:
        self._alive = alive
        self._entries: list[_Entry] = []
        self._swept: list[_Entry] = []
        """Another heap, while a sweep is under way: its living go over to the first, from its end,
        which leaves what is before a heap.
        """
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Entry]:
        """The living, in no order."""
        both = itertools.chain(self._entries, self._swept)
        return (entry for entry in both if self._alive(entry))

    @property
    def dead(self) -> int:
        """Entries that are kept and do not count."""
        return len(self._entries) + len(self._swept) - self._count

    def push(self, entry: _Entry) -> None:
        """One more, alive."""
        heapq.heappush(self._entries, entry)
        self._count += 1

    def head(self) -> _Entry | None:
        """The least of the living, or None."""
        entries, alive = self._entries, self._alive
        while entries and not alive(entries[0]):
            heapq.heappop(entries)
        if self._swept:
            return self._head_of_both()
        return entries[0] if entries else None

    def _head_of_both(self) -> _Entry | None:
        entries, swept, alive = self._entries, self._swept, self._alive
        while swept and not alive(swept[0]):
            heapq.heappop(swept)
        heads = [heap[0] for heap in (entries, swept) if heap]
        return min(heads) if heads else None

    def pop(self) -> _Entry:
        """Take out what `head` has just returned."""
        self._count -= 1
        entries, swept = self._entries, self._swept
        if swept and (not entries or swept[0] < entries[0]):
            return heapq.heappop(swept)
        return heapq.heappop(entries)

    def died(self) -> None:
        """One entry, wherever it lies, does not count any more."""
        self._count -= 1
        if not self._swept and len(self._entries) > 2 * self._count + DEAD_ENTRIES_FREE:
            self._entries, self._swept = [], self._entries
        if self._swept:
            self._sweep()

    def _sweep(self) -> None:
        swept, alive = self._swept, self._alive
        for _ in range(min(SWEPT_AT_ONCE, len(swept))):
            entry = swept.pop()
            if alive(entry):
                heapq.heappush(self._entries, entry)
