"""What waits for a record to become durable: effects, and tasks that are to be queued.

Whoever waits comes in the order of the records, and leaves in the same order.
"""

import collections

from penstock_dispatcher.core import effects
from penstock_dispatcher.core import task as tasks

_Entry = tuple[int, effects.Effect, tasks.Task | None, int]  # (lsn, effect, task, its ticket)


class Awaiting:
    """What waits in one pool."""

    def __init__(self) -> None:
        self._entries: collections.deque[_Entry] = collections.deque()

    def __len__(self) -> int:
        return len(self._entries)

    def hold(self, lsn: int, effect: effects.Effect, task: tasks.Task | None = None) -> None:
        """Keep the effect, and the task that is queued then, until record `lsn` is durable, and
        until what came before is released.
        """
        last = self._entries[-1][0] if self._entries else 0
        self._entries.append((max(lsn, last), effect, task, task.ticket if task else 0))

    def release(self, lsn: int) -> list[tuple[effects.Effect, tasks.Task | None]]:
        """What waited for records up to `lsn`; a task only if it has not left meanwhile."""
        entries, released = self._entries, []
        while entries and entries[0][0] <= lsn:
            _, effect, task, ticket = entries.popleft()
            stays = task is not None and task.ticket == ticket
            released.append((effect, task if stays else None))
        return released
