"""Tasks that have ended, in the order in which they are deleted.

Results and dead letters have a time each, counted from the end of the task by the configuration
that was in force then; dead letters have a bound too, beyond which those that would be deleted
first go at once. What was taken out here is not kept here: a deleted task leaves the memory.
"""

import heapq

from penstock_dispatcher.core import settings, units
from penstock_dispatcher.core import task as tasks

_Entry = tuple[int, int, tasks.Task]  # (when it is deleted, sequence, task)


class Retention:
    """Ended tasks of one pool."""

    def __init__(self) -> None:
        self._results: list[_Entry] = []
        self._dead: list[_Entry] = []

    @property
    def dead_letters(self) -> int:
        """How many dead letters are kept."""
        return len(self._dead)

    def keep(self, task: tasks.Task, config: settings.PoolSettings) -> list[tasks.Task]:
        """Keep one more; returns the dead letters that must make room, maybe the same one."""
        if task.state is not tasks.TaskState.DEAD_LETTERED:
            due = task.end_time + config.result_retention_ns
            heapq.heappush(self._results, (due, task.sequence, task))
            return []
        due = task.end_time + config.dead_letter_retention_ns
        heapq.heappush(self._dead, (due, task.sequence, task))
        surplus = max(0, len(self._dead) - config.max_dead_letters)
        return [heapq.heappop(self._dead)[-1] for _ in range(surplus)]

    def take_due(self, now: int, *, limit: int) -> list[tasks.Task]:
        """What is past its retention, at most `limit` of each kind."""
        due = []
        for kept in (self._results, self._dead):
            for _ in range(min(limit, len(kept))):
                if kept[0][0] > now:
                    break
                due.append(heapq.heappop(kept)[-1])
        return due

    def next_due(self) -> int:
        """When the next one is past its retention, never late."""
        return min(
            (kept[0][0] for kept in (self._results, self._dead) if kept), default=units.NEVER
        )
