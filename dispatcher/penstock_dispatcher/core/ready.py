"""The tasks that could start now, in their order, where no key matters.

Order is exact: by `rank`, then lower admission sequence. Each *shape* (type and slots) has a heap
of its own, because a worker may know only some types or have few slots, and a task that nobody
connected can run must not stand in the way of others. For each number of slots, a heap of *heads*
finds the best of all types without asking each of them: a type's first task, or something better
that is gone by now, is always in it.

Pools that are fair, or cap or limit keys, keep their tasks in `lanes` instead.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

from penstock_dispatcher.core import budget, heads, kinds, lazy_heap, units
from penstock_dispatcher.core import task as tasks

Standing = tuple[heads.Place, tasks.Task]
"""A task, and where it stands: the least is next."""

HEADS_FREE: Final = 64
"""Heads beyond two for each type that are not worth making the heap anew."""


def rank(task: tasks.Task, aging_ns: int) -> int:
    """What orders tasks before their sequence; lower is first. Without aging (0) it is the
    priority. With it a task gains a unit of priority by waiting `aging_ns`: all that wait gain
    alike, so their order never changes and the rank is a constant of each.
    """
    if aging_ns:
        return task.create_time - task.priority * aging_ns
    return -task.priority


class _Size:
    """Tasks that take the same number of slots, by type."""

    __slots__ = ("by_type", "heads")

    def __init__(self) -> None:
        self.by_type: dict[str, lazy_heap.LazyHeap[lazy_heap.Stay]] = {}
        self.heads: list[lazy_heap.Stay] = []

    def push_head(self, entry: lazy_heap.Stay) -> None:
        """A type has a new first task."""
        heapq.heappush(self.heads, entry)
        if len(self.heads) > 2 * len(self.by_type) + HEADS_FREE:
            found = (heap.head() for heap in self.by_type.values())
            self.heads = [head for head in found if head is not None]
            heapq.heapify(self.heads)

    def head_of(self, type_: str) -> lazy_heap.Stay | None:
        """The first of a type."""
        heap = self.by_type.get(type_)
        return None if heap is None else heap.head()

    def head_of_some(self, types: Iterable[str]) -> lazy_heap.Stay | None:
        """The first of those types."""
        best: lazy_heap.Stay | None = None
        for type_ in types:
            entry = self.head_of(type_)
            if entry is not None and (best is None or entry < best):
                best = entry
        return best

    def head_of_all(self) -> lazy_heap.Stay | None:
        """The first of all types, where none is lifted."""
        if len(self.by_type) == 1:
            (heap,) = self.by_type.values()
            return heap.head()
        listed = self.heads
        gone: set[str] = set()
        while listed and not lazy_heap.waits(listed[0]):
            gone.add(heapq.heappop(listed)[3].type)
        self._push_heads_of(gone)
        return listed[0] if listed else None

    def first_of_all(self) -> lazy_heap.Stay | None:
        """The first of all types that is not lifted."""
        listed = self.heads
        gone: set[str] = set()
        while listed and self.head_of(listed[0][3].type) != listed[0]:
            gone.add(heapq.heappop(listed)[3].type)
        self._push_heads_of(gone)
        return listed[0] if listed else None

    def _push_heads_of(self, types: set[str]) -> None:
        for type_ in types:  # one for each, however often it was listed
            following = self.head_of(type_)
            if following is not None:
                heapq.heappush(self.heads, following)


class Ready:
    """Tasks of one pool that are not delayed."""

    def __init__(self, aging_ns: int = 0) -> None:
        self._aging_ns = aging_ns
        self._ones = _Size()
        """Those that take one slot."""
        self._sizes: dict[int, _Size] = {1: self._ones}
        """By slots; but for that one, each has a task."""
        self._types = 0
        """Of all numbers of slots."""

    @property
    def structure_bytes(self) -> int:
        """What lies around the tasks takes so much."""
        return self._types * budget.SHAPE_BYTES

    def _size(self, slots: int) -> _Size:
        size = self._sizes.get(slots)
        if size is None:
            size = self._sizes[slots] = _Size()
        return size

    def add(self, task: tasks.Task) -> None:
        """Put a task in."""
        size = self._ones if task.slots == 1 else self._size(task.slots)
        heap = size.by_type.get(task.type)
        if heap is None:
            heap = size.by_type[task.type] = lazy_heap.LazyHeap(lazy_heap.waits)
            self._types += 1
        first = rank(task, self._aging_ns) if self._aging_ns else -task.priority
        entry = (first, task.sequence, task.ticket, task)
        heap.push(entry)
        if heap.head() == entry:
            size.push_head(entry)

    def remove(self, task: tasks.Task) -> None:
        """A task has left out of turn; its ticket is another one already."""
        size = self._sizes[task.slots]
        heap = size.by_type[task.type]
        heap.died()
        if not heap:
            self._drop(size, task)

    def pop(self, task: tasks.Task) -> None:
        """Take out the task that `head` or `first` just returned."""
        size = self._sizes[task.slots]
        heap = size.by_type[task.type]
        heap.head()
        entry = heap.pop()
        assert entry[3] is task, "tasks are popped in their order"
        if not heap:
            self._drop(size, task)

    def _drop(self, size: _Size, last: tasks.Task) -> None:
        del size.by_type[last.type]
        self._types -= 1
        if last.slots != 1 and not size.by_type:
            del self._sizes[last.slots]

    def lift(self, task: tasks.Task) -> None:
        """Take out the task that `first` just returned for a while: see `put_back`."""
        self.pop(task)

    def put_back(self, task: tasks.Task) -> None:
        """A lifted task is back in its place."""
        self.add(task)

    def head(self, types: Iterable[str] | None = None) -> tasks.Task | None:
        """The task that is next in order among those types (None = all), or None. Only where every
        task takes one slot, and none is lifted.
        """
        ones = self._ones
        entry = ones.head_of_all() if types is None else ones.head_of_some(types)
        return None if entry is None else entry[3]

    def shapes(self, reach: kinds.Reach) -> list[kinds.Shape]:
        """What to ask `first` for, to be told of every task that is within that reach."""
        found: list[kinds.Shape] = []
        for slots in reach.sizes(self._sizes):
            found += reach.shapes(slots, self._sizes[slots].by_type)
        return found

    def first(self, shape: kinds.Shape) -> Standing | None:
        """The task of that shape that is next in order, or None."""
        type_, slots = shape
        size = self._sizes.get(slots)
        if size is None:
            return None
        entry = size.first_of_all() if type_ is None else size.head_of(type_)
        return None if entry is None else (entry[:2], entry[3])

    def wake(self, now: int) -> None:
        """Nothing is held up by keys."""

    def next_wake(self) -> int:
        """See `wake`."""
        return units.NEVER

    def open(self, fairness_keys: Iterable[str]) -> None:
        """Nothing is held up by keys."""

    def all(self) -> Iterator[tasks.Task]:
        """Every task, in no order."""
        for size in self._sizes.values():
            for heap in size.by_type.values():
                for entry in heap:
                    yield entry[3]
