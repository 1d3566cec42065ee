"""What waits for a record to become durable: effects, and tasks that are to be queued.

Whoever waits comes in the order of the records, and leaves in the same order.
"""

from penstock_dispatcher.core import effects
from penstock_dispatcher.core import task as tasks

Entry = tuple[int, effects.Effect, tasks.Task | None, int]
"""A record's number, an effect, and a task with the ticket of its stay: with another one it has
left meanwhile."""


class Awaiting:
    """What waits in one pool."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._last = 0

    def __len__(self) -> int:
        return len(self._entries)

    def hold(self, lsn: int, effect: effects.Effect, task: tasks.Task | None = None) -> None:
        """Keep the effect, and the task that is queued then, until record `lsn` is durable, and
        until what came before is released.
        """
        self._last = max(lsn, self._last)
        ticket = 0 if task is None else task.ticket
        self._entries.append((self._last, effect, task, ticket))

    def told(self, lsn: int) -> int:
        """Up to which record, at most `lsn`, nobody waits any more."""
        return min(lsn, self._entries[0][0] - 1) if self._entries else lsn

    def release(self, lsn: int) -> list[Entry]:
        """What waited for records up to `lsn`."""
        entries, count = self._entries, 0
        while count < len(entries) and entries[count][0] <= lsn:
            count += 1
        released = entries[:count]
        del entries[:count]
        return released
