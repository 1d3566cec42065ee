"""The tasks that waited when the dispatcher stopped: a worker of before may be running any of them.

Assignments are not written down, so the journal cannot tell what ran. Until every session of before
has come back, is reported gone, or the reconnect grace is over, these tasks lie apart from the
queue. Meanwhile each counts as one that runs under the caps in flight: something new that took its
place would run beside it.
"""

from penstock_dispatcher.core import key_counts, settings, waiting_keys
from penstock_dispatcher.core import task as tasks


class Held:
    """Tasks of one pool. `in_flight` counts what runs, and these, by concurrency key."""

    def __init__(self, in_flight: key_counts.KeyCounts) -> None:
        self._in_flight = in_flight
        self._tasks: dict[str, tasks.Task] = {}
        self._by_key = waiting_keys.WaitingKeys()
        self._slots = 0
        self._later: dict[str, tasks.Task] = {}
        """Those that were put off since; few, and some have left."""

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: tasks.Task) -> None:
        """One that may be running."""
        task.place = tasks.Place.HELD
        self._tasks[task.id] = task
        self._slots += task.slots
        if task.concurrency_key:
            self._in_flight.add(task.concurrency_key)
            self._by_key.add(task.concurrency_key, task.slots)

    def remove(self, task: tasks.Task) -> None:
        """It runs, as is known now, or is over."""
        del self._tasks[task.id]
        self._slots -= task.slots
        if task.concurrency_key:
            self._in_flight.remove(task.concurrency_key)
            self._by_key.remove(task.concurrency_key, task.slots)

    def take_all(self) -> list[tasks.Task]:
        """Nothing of before can still be running."""
        taken = list(self._tasks.values())
        for task in taken:
            self.remove(task)
        self._later.clear()
        return taken

    def put_off(self, task: tasks.Task) -> None:
        """It is to start later than now."""
        self._later[task.id] = task

    def startable(self, config: settings.PoolSettings, now: int) -> tuple[int, int, int]:
        """For scaling: tasks that run or could run now, what they take, and what they take at most
        under the cap of each concurrency key.
        """
        put_off = [
            task
            for task in self._later.values()
            if task.place is tasks.Place.HELD and task.not_before > now
        ]
        slots = self._slots - sum(task.slots for task in put_off)
        cap = config.max_in_flight_per_key
        if not cap:
            return len(self) - len(put_off), slots, slots
        keyed = self._by_key.startable(lambda key: cap - self._running(key))
        free = self._slots - self._by_key.slots
        return len(self) - len(put_off), slots, min(slots, free + keyed)

    def _running(self, key: str) -> int:
        """Tasks of that key that do run."""
        return self._in_flight.of(key) - self._by_key.count(key)
