"""The tasks that could start now, in their order.

Order is exact: higher priority first, then lower admission sequence. Each task type has a heap of
its own, because a worker may know only some types, and a task that nobody connected can run must
not stand in the way of others. A heap of *heads* finds the best of all types without asking each of
them: a type's first task, or something better that is gone by now, is always in it.
"""

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

from penstock_dispatcher.core import lazy_heap, places, priorities
from penstock_dispatcher.core import task as tasks

HEADS_FREE: Final = 64
"""Heads beyond two for each type that are not worth making the heap anew."""


class Ready:
    """Tasks of one pool that are not delayed."""

    def __init__(self) -> None:
        self._by_type: dict[str, lazy_heap.LazyHeap[lazy_heap.Stay]] = {}
        self._heads: list[lazy_heap.Stay] = []
        self._count = 0
        self.by_priority = priorities.Priorities()
        self.places = places.Places()

    def __len__(self) -> int:
        return self._count

    def add(self, task: tasks.Task) -> None:
        """Put a task in."""
        heap = self._by_type.get(task.type)
        if heap is None:
            heap = self._by_type[task.type] = lazy_heap.LazyHeap(lazy_heap.waits)
        entry = (-task.priority, task.sequence, task.ticket, task)
        heap.push(entry)
        self._count += 1
        self.by_priority.add(task.priority)
        self.places.add(task.priority, task.sequence)
        if heap.head() is entry:
            self._push_head(entry)

    def _push_head(self, entry: lazy_heap.Stay) -> None:
        heapq.heappush(self._heads, entry)
        if len(self._heads) > 2 * len(self._by_type) + HEADS_FREE:
            found = (heap.head() for heap in self._by_type.values())
            self._heads = [head for head in found if head is not None]
            heapq.heapify(self._heads)

    def remove(self, task: tasks.Task) -> None:
        """A task has left out of turn; its ticket is another one already."""
        heap = self._by_type[task.type]
        heap.died()
        self._left(task, heap)

    def pop(self, task: tasks.Task) -> None:
        """Take out the task that `head` just returned."""
        heap = self._by_type[task.type]
        heap.head()
        entry = heap.pop()
        assert entry[3] is task, "tasks are popped in their order"
        self._left(task, heap)

    def _left(self, task: tasks.Task, heap: lazy_heap.LazyHeap[lazy_heap.Stay]) -> None:
        self._count -= 1
        self.by_priority.remove(task.priority)
        self.places.remove(task.priority, task.sequence)
        if not heap:
            del self._by_type[task.type]

    def head(self, types: Iterable[str] | None = None) -> tasks.Task | None:
        """The task that is next in order among those types (None = all), or None."""
        if types is None:
            return self._head_of_all()
        best: lazy_heap.Stay | None = None
        for type_ in types:
            entry = self._head_of(type_)
            if entry is not None and (best is None or entry < best):
                best = entry
        return None if best is None else best[3]

    def _head_of(self, type_: str) -> lazy_heap.Stay | None:
        heap = self._by_type.get(type_)
        return None if heap is None else heap.head()

    def _head_of_all(self) -> tasks.Task | None:
        heads = self._heads
        while heads:
            task = heads[0][3]
            if lazy_heap.waits(heads[0]):
                return task
            following = self._head_of(task.type)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, following)
        return None

    def of(self, types: Iterable[str]) -> Iterator[tasks.Task]:
        """Tasks of those types, in no order."""
        for type_ in types:
            for entry in self._by_type.get(type_, ()):
                yield entry[3]
