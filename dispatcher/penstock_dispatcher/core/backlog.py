"""The tasks that wait: in order, counted, and found by their due time.

Order is exact: higher priority first, then lower admission sequence. Each task type has a heap of
its own, because a worker may know only some types, and a task that nobody connected can run must
not stand in the way of others. Delayed tasks lie in a heap by due time and cross over when it has
come.

Heaps hold tuples and are cleaned lazily: a task that leaves out of turn only has its `ticket`
bumped, and entries with an old ticket are dropped when they come up, or all at once when they are
the larger half.

Who counts: `len(backlog)` is ready + delayed. The pool adds what is being committed, and decides
about the bound.
"""

import collections
import heapq
from collections.abc import Iterable, Iterator

from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.core import units

_Entry = tuple[int, int, int, tasks.Task]  # (-priority or due time, sequence, ticket, task)


class Backlog:
    """Waiting tasks of one pool."""

    def __init__(self) -> None:
        self._ready: dict[str, list[_Entry]] = {}
        self._delayed: list[_Entry] = []
        self._expiring: list[_Entry] = []
        self._stale = 0
        self.ready_count = 0
        self.delayed_count = 0
        self.by_priority: collections.Counter[int] = collections.Counter()

    def __len__(self) -> int:
        return self.ready_count + self.delayed_count

    def add(self, task: tasks.Task, now: int) -> None:
        """Put a task in, ready or delayed by its `not_before`; sets its state."""
        task.ticket += 1
        if task.not_before > now:
            task.state = tasks.TaskState.DELAYED
            heapq.heappush(self._delayed, (task.not_before, task.sequence, task.ticket, task))
            self.delayed_count += 1
        else:
            self._make_ready(task)
        if task.expire_time and task.attempt == 0:
            heapq.heappush(self._expiring, (task.expire_time, task.sequence, 0, task))

    def _make_ready(self, task: tasks.Task) -> None:
        task.state = tasks.TaskState.PENDING
        heap = self._ready.get(task.type)
        if heap is None:
            heap = self._ready[task.type] = []
        heapq.heappush(heap, (-task.priority, task.sequence, task.ticket, task))
        self.ready_count += 1
        self.by_priority[task.priority] += 1

    def _uncount_ready(self, task: tasks.Task) -> None:
        self.ready_count -= 1
        left = self.by_priority[task.priority] - 1
        if left:
            self.by_priority[task.priority] = left
        else:
            del self.by_priority[task.priority]

    def remove(self, task: tasks.Task) -> None:
        """Take a waiting task out of turn. Its state says where it is; the caller sets the next
        one.
        """
        task.ticket += 1
        self._stale += 1
        if task.state is tasks.TaskState.DELAYED:
            self.delayed_count -= 1
        else:
            self._uncount_ready(task)
        if self._stale > 1024 and self._stale > len(self):
            self._sweep()

    def _sweep(self) -> None:
        """Drop every stale entry at once; linear, and paid for by as many removals."""
        self._delayed = [entry for entry in self._delayed if entry[2] == entry[3].ticket]
        heapq.heapify(self._delayed)
        for type_, heap in list(self._ready.items()):
            kept = [entry for entry in heap if entry[2] == entry[3].ticket]
            if kept:
                heapq.heapify(kept)
                self._ready[type_] = kept
            else:
                del self._ready[type_]
        self._expiring = [entry for entry in self._expiring if _may_expire(entry[3])]
        heapq.heapify(self._expiring)
        self._stale = 0

    def promote(self, now: int) -> int:
        """Delayed tasks that are due become ready. Returns how many."""
        promoted = 0
        while self._delayed and self._delayed[0][0] <= now:
            _, _, ticket, task = heapq.heappop(self._delayed)
            if ticket != task.ticket:
                self._stale -= 1
                continue
            self.delayed_count -= 1
            task.ticket += 1
            self._make_ready(task)
            promoted += 1
        return promoted

    def take_expired(self, now: int) -> list[tasks.Task]:
        """Remove and return the waiting tasks whose `expire_time` has passed before they ever
        started.
        """
        expired = []
        while self._expiring and self._expiring[0][0] <= now:
            task = heapq.heappop(self._expiring)[3]
            if _may_expire(task):
                self.remove(task)
                expired.append(task)
        return expired

    def head(self, types: Iterable[str] | None = None) -> tasks.Task | None:
        """The task that is next in order among those types (None = all), or None."""
        best: _Entry | None = None
        for type_ in list(self._ready) if types is None else types:
            entry = self._head_of(type_)
            if entry is not None and (best is None or entry < best):
                best = entry
        return None if best is None else best[3]

    def _head_of(self, type_: str) -> _Entry | None:
        heap = self._ready.get(type_)
        if heap is None:
            return None
        while heap:
            entry = heap[0]
            if entry[2] == entry[3].ticket:
                return entry
            heapq.heappop(heap)
            self._stale -= 1
        del self._ready[type_]
        return None

    def pop(self, task: tasks.Task) -> None:
        """Take out the task that `head` just returned. The caller sets its next state."""
        heapq.heappop(self._ready[task.type])
        task.ticket += 1
        self._uncount_ready(task)

    def next_due(self) -> int:
        """When the next delayed task is due or the next task expires; may be early, never late."""
        due = self._delayed[0][0] if self._delayed else units.NEVER
        expiry = self._expiring[0][0] if self._expiring else units.NEVER
        return min(due, expiry)

    def ready_of(self, types: Iterable[str]) -> Iterator[tasks.Task]:
        """Ready tasks of those types, in no order."""
        for type_ in types:
            for entry in self._ready.get(type_, ()):
                if entry[2] == entry[3].ticket:
                    yield entry[3]


def _may_expire(task: tasks.Task) -> bool:
    return task.state in tasks.WAITING and task.attempt == 0
