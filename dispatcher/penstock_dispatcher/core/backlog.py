"""The tasks that wait: in order, counted, and found by their due time.

What could start now lies in order (see `ready`). Delayed tasks lie in a heap by due time and cross
over when it has come; tasks that must start by a certain time lie in another one as well.

A task's `ticket` tells one stay in the backlog from the next: it is bumped when the task leaves,
and entries with an old ticket are dead (see `lazy_heap`).

Who counts: `len(backlog)` is ready + delayed. The pool adds what is being committed, and decides
about the bound.
"""

from collections.abc import Iterable, Iterator

from penstock_dispatcher.core import lazy_heap, places, priorities, ready, units
from penstock_dispatcher.core import task as tasks

_Heap = lazy_heap.LazyHeap[lazy_heap.Stay]


class Backlog:
    """Waiting tasks of one pool."""

    def __init__(self) -> None:
        self._ready = ready.Ready()
        self._delayed: _Heap = lazy_heap.LazyHeap(lazy_heap.waits)
        self._expiring: _Heap = lazy_heap.LazyHeap(lazy_heap.waits)

    def __len__(self) -> int:
        return len(self._ready) + len(self._delayed)

    @property
    def ready_count(self) -> int:
        """Tasks that could start now."""
        return len(self._ready)

    @property
    def delayed_count(self) -> int:
        """Tasks whose time has not come."""
        return len(self._delayed)

    @property
    def by_priority(self) -> priorities.Priorities:
        """The ready ones, counted."""
        return self._ready.by_priority

    @property
    def places(self) -> places.Places:
        """Where each of the ready ones stands."""
        return self._ready.places

    @property
    def dead_entries(self) -> int:
        """Entries of tasks that have left, kept by the heaps of times."""
        return self._delayed.dead + self._expiring.dead

    def add(self, task: tasks.Task, now: int) -> None:
        """Put a task in, ready or delayed by its `not_before`; sets its state."""
        if task.not_before > now:
            task.state = tasks.TaskState.DELAYED
            self._delayed.push((task.not_before, task.sequence, task.ticket, task))
        else:
            self._make_ready(task)
        if _may_expire(task):
            self._expiring.push((task.expire_time, task.sequence, task.ticket, task))

    def _make_ready(self, task: tasks.Task) -> None:
        task.state = tasks.TaskState.PENDING
        self._ready.add(task)

    def remove(self, task: tasks.Task) -> None:
        """Take a waiting task out of turn. Its state says where it is; the caller sets the next
        one.
        """
        self._take_out(task)
        if _may_expire(task):
            self._expiring.died()

    def _take_out(self, task: tasks.Task) -> None:
        task.ticket += 1
        if task.state is tasks.TaskState.DELAYED:
            self._delayed.died()
        else:
            self._ready.remove(task)

    def promote(self, now: int) -> int:
        """Delayed tasks that are due become ready. Returns how many."""
        promoted = 0
        while (head := self._delayed.head()) is not None and head[0] <= now:
            self._delayed.pop()
            self._make_ready(head[3])
            promoted += 1
        return promoted

    def take_expired(self, now: int) -> list[tasks.Task]:
        """Remove and return the waiting tasks whose `expire_time` has passed before they ever
        started.
        """
        expired = []
        while (head := self._expiring.head()) is not None and head[0] <= now:
            self._expiring.pop()
            self._take_out(head[3])
            expired.append(head[3])
        return expired

    def head(self, types: Iterable[str] | None = None) -> tasks.Task | None:
        """The task that is next in order among those types (None = all), or None."""
        return self._ready.head(types)

    def pop(self, task: tasks.Task) -> None:
        """Take out the task that `head` just returned. The caller sets its next state."""
        self._ready.pop(task)
        task.ticket += 1
        if _may_expire(task):
            self._expiring.died()

    def next_due(self) -> int:
        """When the next delayed task is due or the next task expires."""
        heads = (self._delayed.head(), self._expiring.head())
        return min((head[0] for head in heads if head is not None), default=units.NEVER)

    def ready_of(self, types: Iterable[str]) -> Iterator[tasks.Task]:
        """Ready tasks of those types, in no order."""
        return self._ready.of(types)


def _may_expire(task: tasks.Task) -> bool:
    """Does not change while the task waits."""
    return bool(task.expire_time) and task.attempt == 0
