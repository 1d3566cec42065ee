"""Tasks that have ended, in the order in which they are deleted.

Results and dead letters have a time each, counted from the end of the task by the configuration
that was in force then. Results go before it when their memory is needed, dead letters when all of
them take too much of it (see `budget`); these have a bound in each pool, too, beyond which those
that would be deleted first go at once. What was taken out here is not kept here: a deleted task
leaves the memory. A task that is taken out of turn has another ticket afterwards.
"""

from typing import Final

from penstock_dispatcher.core import budget, lazy_heap, settings, units
from penstock_dispatcher.core import task as tasks

_DEAD_LETTERED: Final = tasks.TaskState.DEAD_LETTERED
_Heap = lazy_heap.LazyHeap[lazy_heap.Stay]


class Retention:
    """Ended tasks of one pool."""

    def __init__(self, share: budget.Share) -> None:
        self._share = share
        self._results: _Heap = lazy_heap.LazyHeap(lazy_heap.waits)
        self._dead: _Heap = lazy_heap.LazyHeap(lazy_heap.waits)

    @property
    def dead_letters(self) -> int:
        """How many dead letters are kept."""
        return len(self._dead)

    def _kept(self, task: tasks.Task) -> _Heap:
        return self._dead if task.state is _DEAD_LETTERED else self._results

    def keep(self, task: tasks.Task, config: settings.PoolSettings) -> list[tasks.Task]:
        """Keep one more; returns the dead letters that must make room, maybe the same one."""
        kept = self._kept(task)
        if kept is self._results:
            due = task.end_time + config.result_retention_ns
            kept.push((due, task.sequence, task.ticket, task))
            self._share.keep(task, dead_letter=False)
            return []
        due = task.end_time + config.dead_letter_retention_ns
        kept.push((due, task.sequence, task.ticket, task))
        self._share.keep(task, dead_letter=True)
        surplus = []
        while len(kept) > config.max_dead_letters and (oldest := self.take_oldest(True)):
            surplus.append(oldest)
        return surplus

    def release(self, task: tasks.Task) -> None:
        """Take out one that is kept; its state is still the one that it ended in."""
        task.ticket += 1
        kept = self._kept(task)
        kept.died()
        self._share.take(task, dead_letter=kept is self._dead)

    def take_due(self, now: int, *, limit: int) -> list[tasks.Task]:
        """What is past its retention, at most `limit` of each kind."""
        due = []
        for kept in (self._results, self._dead):
            for _ in range(limit):
                head = kept.head()
                if head is None or head[0] > now:
                    break
                kept.pop()
                self._share.take(head[3], dead_letter=kept is self._dead)
                due.append(head[3])
        return due

    def take_oldest(self, dead_letter: bool) -> tasks.Task | None:
        """The dead letter, or the result, whose time would come first, or None."""
        kept = self._dead if dead_letter else self._results
        head = kept.head()
        if head is None:
            return None
        kept.pop()
        self._share.take(head[3], dead_letter=dead_letter)
        return head[3]

    def next_due(self) -> int:
        """When the next one is past its retention, never late."""
        heads = (self._results.head(), self._dead.head())
        return min((head[0] for head in heads if head is not None), default=units.NEVER)
