"""The promises that a simulated history is checked against; see `rig.simulation`.

Kept apart from the world that tries to break them: this module only looks.
"""

import collections

from penstock.v1 import task_pb2
from penstock_dispatcher.core import settings, units
from penstock_dispatcher.core import task as tasks
from rig import clients, simulated, simulated_disk


class Promises:
    """What has been seen of one history, and what must be true of it."""

    def __init__(
        self,
        config: settings.PoolSettings,
        disk: simulated_disk.Disk,
        calls: list[clients.Call],
    ) -> None:
        self._config = config
        self._calls = calls
        self._disk = disk
        self._assigned: list[simulated.Assigned] = []
        self._runs: collections.Counter[str] = collections.Counter()
        self._ended: dict[str, tasks.TaskState] = {}
        self._saved: dict[str, list[bytes]] = collections.defaultdict(list)
        """Checkpoints of each task, as its attempts saved them."""

    def saw_start(self, name: str) -> None:
        """A worker has started a task."""
        self._runs[name.rpartition("/")[2]] += 1

    def saw_saved(self, saved: tuple[str, bytes]) -> None:
        """An attempt has saved a checkpoint."""
        name, checkpoint = saved
        self._saved[name.rpartition("/")[2]].append(checkpoint)

    def _check_checkpoint(self, task: tasks.Task) -> None:
        saved = [b"", *self._saved[task.id]]
        assert task.checkpoint in saved, "a checkpoint is the task's own"
        durable = self._disk.checkpoints().get(task.sequence, b"")
        assert saved.index(task.checkpoint) >= saved.index(durable), "what is durable is kept"

    def saw_assigned(self, one: simulated.Assigned, server: simulated.Server | None) -> None:
        """The dispatcher has given a task out; `server` None = while it loads."""
        assert one.pod_uid not in self._disk.tombstones(), "a drained pod gets no more work"
        if self._assigned:
            assert one.token > self._assigned[-1].token, "tokens only grow"
        self._assigned.append(one)
        task = one.task
        assert not any(call.cancelled and call.task_id == task.id for call in self._calls), (
            "what was cancelled never starts again"
        )
        self._check_checkpoint(task)
        assert one.time >= task.not_before, "delayed tasks wait for their time"
        assert task.attempt > 1 or one.time < (task.expire_time or units.NEVER), "in time or never"
        if server is None:
            return
        rank = (-task.priority, task.sequence)
        better = [
            other.id
            for other in server.pool.book.tasks.values()
            if other.place is tasks.Place.QUEUED
            and other.state is tasks.TaskState.PENDING
            and (-other.priority, other.sequence) < rank
        ]
        assert not better, f"the best task first: {better} before {task.id}"
        running = len(server.pool.fleet.leases)
        assert running <= (self._config.max_in_flight or running), "at most maxInFlight"

    def saw_redriven(self, task_id: str) -> None:
        """A task that failed was queued again: from now on another outcome may be seen."""
        self._ended.pop(task_id, None)

    def check(self, server: simulated.Server, now: int) -> None:
        """What must hold after every step."""
        book, valid = server.pool.book, server.pool.fleet.leases.all()
        assert len({lease.task.id for lease in valid}) == len(valid), "one valid lease a task"
        for lease in valid:
            assert lease.task.lease is lease
            assert lease.task.state in tasks.IN_FLIGHT
        runnable = 0
        for task in book.tasks.values():
            runnable += task.place is not tasks.Place.NOWHERE and task.not_before <= now
            places = (task.place is not tasks.Place.NOWHERE, task.lease is not None, task.terminal)
            assert sum(places) == 1, f"{task.id} waits, runs or is over, and only one of them"
            if task.terminal and task.lsn <= server.durable_lsn:
                seen = self._ended.setdefault(task.id, task.state)
                assert seen is task.state, "an outcome that was seen stays"
        left = self._config.max_pending_bytes - book.waiting_bytes
        for waiter in server.waiting:
            room = book.waiting < self._config.max_pending and waiter.wanted.size <= left
            assert not room, "nobody waits while there is room"
        assert len(server.pool.room) == len(server.waiting) <= self._config.max_waiters
        assert server.pool.runnable_slots() <= runnable, "demand is what could run"
        for call in self._calls:
            assert not call.task_id or call.task_id in book.tasks, f"{call.task_id} is lost"
        names = {task.request_id for task in book.tasks.values()}
        assert len(names) == len(book.tasks), "one task for a request id"

    def check_end(self, server: simulated.Server, *, gentle: bool) -> None:
        """What must hold once everything has ended."""
        book, states = server.pool.book, tasks.TaskState
        assert not server.pool.fleet.leases.all()
        for call in self._calls:
            task = book.tasks[call.task_id]
            if task.state is states.SUCCEEDED:
                payload = task_pb2.Task.FromString(task.body).payload
                assert task.result == payload[::-1], "the outcome is the task's own"
            if call.cancelled:
                assert task.state in (states.CANCELLED, states.SUCCEEDED), "cancelled, or done"
        assert len(self._disk.ended()) == len(book.tasks), "each task has one recorded outcome"
        self._check_rate()
        if gentle:
            again = {name: count for name, count in self._runs.items() if count > 1}
            assert not again, f"run twice: {again}"
            attempts = [task.attempt for task in book.tasks.values()]
            assert max(attempts) <= 1
            ended = {task.state for task in book.tasks.values()}
            assert ended <= {states.SUCCEEDED, states.CANCELLED, states.EXPIRED}

    def _check_rate(self) -> None:
        """In every window of t: starts <= burst + t * rate, across restarts."""
        rate = self._config.rate_limit
        if rate is None:
            return
        times = [one.time for one in self._assigned]
        for first in range(len(times)):
            for last in range(first, len(times)):
                allowed = rate.burst * rate.period_ns + (times[last] - times[first]) * rate.tasks
                assert (last - first + 1) * rate.period_ns <= allowed, "the rate is exact"
