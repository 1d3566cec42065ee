"""A heap whose entries may die where they lie, and mostly come in order.

An entry that comes after all others is appended to a *line*, where it costs nothing but its place:
what is first in, first out takes the same time for a million as for ten. Whatever comes out of
order lies in a heap beside it.

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

LEFT_FREE: Final = 64
"""Places in the line that their entries have left and that are not worth a move of what follows."""

_Entry = TypeVar("_Entry", bound=tuple[object, ...])


def waits(entry: Stay) -> bool:
    """The task has not left since: its ticket is still the same."""
    return entry[2] == entry[3].ticket


class LazyHeap(Generic[_Entry]):
    """Entries in order. `alive` tells whether one still counts; `len` is how many do."""

    __slots__ = ("_alive", "_count", "_first", "_heap", "_line", "_swept")

    def __init__(self, alive: Callable[[_Entry], bool]) -> None:
        self._alive = alive
        self._line: list[_Entry] = []
        """In order from `_first` on."""
        self._first = 0
        self._heap: list[_Entry] = []
        self._swept: list[list[_Entry]] = []
        """Other heaps, while a sweep is under way: their living go over to the first, from their
        ends, which leaves what is before a heap.
        """
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Entry]:
        """The living, in no order."""
        line = itertools.islice(self._line, self._first, None)
        every = itertools.chain(line, self._heap, *self._swept)
        return (entry for entry in every if self._alive(entry))

    @property
    def dead(self) -> int:
        """Entries that are kept and do not count."""
        kept = len(self._line) - self._first + len(self._heap)
        return kept + sum(map(len, self._swept)) - self._count

    def push(self, entry: _Entry) -> None:
        """One more, alive."""
        self._count += 1
        line = self._line
        if not line or line[-1] < entry:
            line.append(entry)
        else:
            heapq.heappush(self._heap, entry)

    def head(self) -> _Entry | None:
        """The least of the living, or None."""
        line, heap, alive = self._line, self._heap, self._alive
        while line and not alive(line[self._first]):
            self._leave_line()
        while heap and not alive(heap[0]):
            heapq.heappop(heap)
        if self._swept:
            return self._head_of_all()
        if not line:
            return heap[0] if heap else None
        first = line[self._first]
        return heap[0] if heap and heap[0] < first else first

    def _head_of_all(self) -> _Entry | None:
        for swept in self._swept:
            while swept and not self._alive(swept[0]):
                heapq.heappop(swept)
        self._swept = [swept for swept in self._swept if swept]
        heads = [heap[0] for heap in (self._heap, *self._swept) if heap]
        heads += self._line[self._first : self._first + 1]
        return min(heads, default=None)

    def pop(self) -> _Entry:
        """Take out what `head` has just returned."""
        self._count -= 1
        entry = self._take_first()
        if self._swept or self._mostly_dead():
            self._tidy()
        return entry

    def _take_first(self) -> _Entry:
        heap, line = self._heap, self._line
        for swept in self._swept:
            if swept and (not heap or swept[0] < heap[0]):
                heap = swept
        if not line or (heap and heap[0] < line[self._first]):
            return heapq.heappop(heap)
        first = line[self._first]
        self._leave_line()
        return first

    def _leave_line(self) -> None:
        """The first of the line is not in it any more."""
        line, first = self._line, self._first
        line[first] = line[-1]  # the entry is let go of now, its place in time
        first += 1
        if first == len(line):
            line.clear()
            first = 0
        elif first > LEFT_FREE and first > len(line) // 2:
            del line[:first]
            first = 0
        self._first = first

    def died(self) -> None:
        """One entry, wherever it lies, does not count any more."""
        self._count -= 1
        if self._swept or self._mostly_dead():
            self._tidy()

    def _mostly_dead(self) -> bool:
        kept = len(self._line) - self._first + len(self._heap)
        return kept > 2 * self._count + DEAD_ENTRIES_FREE

    def _tidy(self) -> None:
        if not self._swept:
            self.head()  # what dies in order lies at the beginning
            if not self._mostly_dead():
                return
            del self._line[: self._first]
            # What is in order is a heap as well.
            self._swept = [each for each in (self._heap, self._line) if each]
            self._heap, self._line, self._first = [], [], 0
        self._sweep()

    def _sweep(self) -> None:
        for _ in range(SWEPT_AT_ONCE):
            if not self._swept:
                return
            swept = self._swept[-1]
            if swept:
                entry = swept.pop()
                if self._alive(entry):
                    heapq.heappush(self._heap, entry)
            else:
                self._swept.pop()
