"""The tasks that could start now, in their order, where no key matters.

Order is exact: by `rank`, then lower admission sequence. Each *shape* (type, and slots where it
takes more than one) has a heap of its own, because a worker may know only some types or have few
slots, and a task that nobody connected can run must not stand in the way of others. A heap of
*heads* finds the best of all shapes without asking each of them: a shape's first task, or something
better that is gone by now, is always in it.

Pools that are fair, or cap or limit keys, keep their tasks in `lanes` instead.
"""

import heapq
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from penstock_dispatcher.core import lazy_heap, units
from penstock_dispatcher.core import task as tasks

HEADS_FREE: Final = 64
"""Heads beyond two for each shape that are not worth making the heap anew."""


def rank(task: tasks.Task, aging_ns: int) -> int:
    """What orders tasks before their sequence; lower is first. Without aging (0) it is the
    priority. With it a task gains a unit of priority by waiting `aging_ns`: all that wait gain
    alike, so their order never changes and the rank is a constant of each.
    """
    if aging_ns:
        return task.create_time - task.priority * aging_ns
    return -task.priority


class Ready:
    """Tasks of one pool that are not delayed."""

    def __init__(self, aging_ns: int = 0) -> None:
        self._aging_ns = aging_ns
        self._by_shape: dict[tasks.Shape, lazy_heap.LazyHeap[lazy_heap.Stay]] = {}
        self._heads: list[lazy_heap.Stay] = []

    def add(self, task: tasks.Task) -> None:
        """Put a task in."""
        shape = task.shape
        heap = self._by_shape.get(shape)
        if heap is None:
            heap = self._by_shape[shape] = lazy_heap.LazyHeap(lazy_heap.waits)
        first = rank(task, self._aging_ns) if self._aging_ns else -task.priority
        entry = (first, task.sequence, task.ticket, task)
        heap.push(entry)
        if heap.head() == entry:
            self._push_head(entry)

    def _push_head(self, entry: lazy_heap.Stay) -> None:
        heapq.heappush(self._heads, entry)
        if len(self._heads) > 2 * len(self._by_shape) + HEADS_FREE:
            found = (heap.head() for heap in self._by_shape.values())
            self._heads = [head for head in found if head is not None]
            heapq.heapify(self._heads)

    def remove(self, task: tasks.Task) -> None:
        """A task has left out of turn; its ticket is another one already."""
        shape = task.shape
        heap = self._by_shape[shape]
        heap.died()
        if not heap:
            del self._by_shape[shape]

    def pop(self, task: tasks.Task) -> None:
        """Take out the task that `head` or `first` just returned."""
        shape = task.shape
        heap = self._by_shape[shape]
        heap.head()
        entry = heap.pop()
        assert entry[3] is task, "tasks are popped in their order"
        if not heap:
            del self._by_shape[shape]

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
        if types is None:
            return self._head_of_all()
        best: lazy_heap.Stay | None = None
        for type_ in types:
            entry = self._head_of(type_)
            if entry is not None and (best is None or entry < best):
                best = entry
        return None if best is None else best[3]

    def _head_of(self, shape: tasks.Shape) -> lazy_heap.Stay | None:
        heap = self._by_shape.get(shape)
        return None if heap is None else heap.head()

    def _head_of_all(self) -> tasks.Task | None:
        if len(self._by_shape) == 1:
            (heap,) = self._by_shape.values()
            entry = heap.head()
            return None if entry is None else entry[3]
        heads = self._heads
        gone: set[tasks.Shape] = set()
        while heads and not lazy_heap.waits(heads[0]):
            gone.add(heapq.heappop(heads)[3].shape)
        for shape in gone:  # one for each, however often it was listed
            following = self._head_of(shape)
            if following is not None:
                heapq.heappush(heads, following)
        return heads[0][3] if heads else None

    def first(self, stuck: Collection[tasks.Shape]) -> tasks.Task | None:
        """The task that is next in order among those of other shapes than `stuck`, or None."""
        best: lazy_heap.Stay | None = None
        for shape, heap in self._by_shape.items():
            if shape not in stuck:
                entry = heap.head()
                if entry is not None and (best is None or entry < best):
                    best = entry
        return None if best is None else best[3]

    def wake(self, now: int) -> None:
        """Nothing is held up by keys."""

    def next_wake(self) -> int:
        """See `wake`."""
        return units.NEVER

    def open(self, fairness_keys: Iterable[str]) -> None:
        """Nothing is held up by keys."""

    def all(self) -> Iterator[tasks.Task]:
        """Every task, in no order."""
        for heap in self._by_shape.values():
            for entry in heap:
                yield entry[3]
