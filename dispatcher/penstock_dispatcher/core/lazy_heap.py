"""A heap whose entries may die where they lie.

What leaves out of turn is not searched for: its entry is dead from then on, and whoever owns the
heap says so. Dead entries go when they come up, and all at once when they are the larger part: each
removal pays for one of them, and a heap never keeps more than that of what is over.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from penstock_dispatcher.core import task as tasks

Stay = tuple[int, int, int, tasks.Task]
"""A task that waits, by some key: (key, sequence, the ticket of its stay, task)."""

DEAD_ENTRIES_FREE: Final = 16
"""Dead entries beyond the living ones that are not worth a sweep."""

_Entry = TypeVar("_Entry", bound=tuple[object, ...])


def waits(entry: Stay) -> bool:
    """The task has not left since: its ticket is still the same."""
    return entry[2] == entry[3].ticket


class LazyHeap(Generic[_Entry]):
    """Entries in order. `alive` tells whether one still counts; `len` is how many do."""

    __slots__ = ("_alive", "_count", "_entries")

    def __init__(self, alive: Callable[[_Entry], bool]) -> None:
        self._alive = alive
        self._entries: list[_Entry] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Entry]:
        """The living, in no order."""
        return (entry for entry in self._entries if self._alive(entry))

    @property
    def dead(self) -> int:
        """Entries that are kept and do not count."""
        return len(self._entries) - self._count

    def push(self, entry: _Entry) -> None:
        """One more, alive."""
        heapq.heappush(self._entries, entry)
        self._count += 1

    def head(self) -> _Entry | None:
        """The least of the living, or None."""
        entries, alive = self._entries, self._alive
        while entries and not alive(entries[0]):
            heapq.heappop(entries)
        return entries[0] if entries else None

    def pop(self) -> _Entry:
        """Take out what `head` has just returned."""
        self._count -= 1
        return heapq.heappop(self._entries)

    def died(self) -> None:
        """One entry, wherever it lies, does not count any more."""
        self._count -= 1
        if len(self._entries) > 2 * self._count + DEAD_ENTRIES_FREE:
            self._entries = [entry for entry in self._entries if self._alive(entry)]
            heapq.heapify(self._entries)
