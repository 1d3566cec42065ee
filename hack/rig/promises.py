"""The promises that a simulated history is checked against; see `rig.simulation`.

Kept apart from the world that tries to break them: this module only looks.
"""

import collections
import dataclasses

from penstock.v1 import task_pb2
from penstock_dispatcher.core import settings
from penstock_dispatcher.core import task as tasks
from rig import simulated


@dataclasses.dataclass
class Call:
    """What a client wants, and what it was told."""

    wanted: tasks.Submission
    task_id: str = ""
    """As the dispatcher answered; empty = not accepted yet."""


class Promises:
    """What has been seen of one history, and what must be true of it."""

    def __init__(self, config: settings.PoolSettings, disk: simulated.Disk) -> None:
        self._config = config
        self._disk = disk
        self._assigned: list[simulated.Assigned] = []
        self._runs: collections.Counter[str] = collections.Counter()
        self._ended: dict[str, tasks.TaskState] = {}

    def saw_start(self, name: str) -> None:
        """A worker has started a task."""
        self._runs[name.rpartition("/")[2]] += 1

    def saw_assigned(self, one: simulated.Assigned, server: simulated.Server | None) -> None:
        """The dispatcher has given a task out; `server` None = while it loads."""
        assert one.pod_uid not in self._disk.tombstones(), "a drained pod gets no more work"
        if self._assigned:
            assert one.token > self._assigned[-1].token, "tokens only grow"
        self._assigned.append(one)
        if server is None:
            return
        rank = (-one.task.priority, one.task.sequence)
        better = [
            task.id
            for task in server.pool.book.tasks.values()
            if task.place is tasks.Place.QUEUED
            and task.state is tasks.TaskState.PENDING
            and (-task.priority, task.sequence) < rank
        ]
        assert not better, f"the best task first: {better} before {one.task.id}"
        running = len(server.pool.fleet.leases)
        assert running <= (self._config.max_in_flight or running), "at most maxInFlight"

    def check(self, server: simulated.Server, calls: list[Call]) -> None:
        """What must hold after every step."""
        book, valid = server.pool.book, server.pool.fleet.leases.all()
        assert len({lease.task.id for lease in valid}) == len(valid), "one valid lease a task"
        for lease in valid:
            assert lease.task.lease is lease
            assert lease.task.state in tasks.IN_FLIGHT
        for task in book.tasks.values():
            places = (task.place is not tasks.Place.NOWHERE, task.lease is not None, task.terminal)
            assert sum(places) == 1, f"{task.id} waits, runs or is over, and only one of them"
            if task.terminal and task.lsn <= server.durable_lsn:
                seen = self._ended.setdefault(task.id, task.state)
                assert seen is task.state, "an outcome that was seen stays"
        for call in calls:
            assert not call.task_id or call.task_id in book.tasks, f"{call.task_id} is lost"
        names = {task.request_id for task in book.tasks.values()}
        assert len(names) == len(book.tasks), "one task for a request id"

    def check_end(self, server: simulated.Server, calls: list[Call], *, gentle: bool) -> None:
        """What must hold once everything has ended."""
        book = server.pool.book
        assert not server.pool.fleet.leases.all()
        for call in calls:
            task = book.tasks[call.task_id]
            if task.state is tasks.TaskState.SUCCEEDED:
                payload = task_pb2.Task.FromString(task.body).payload
                assert task.result == payload[::-1], "the outcome is the task's own"
        assert len(self._disk.ended()) == len(book.tasks), "each task has one recorded outcome"
        self._check_rate()
        if gentle:
            again = {name: count for name, count in self._runs.items() if count > 1}
            assert not again, f"run twice: {again}"
            assert {task.attempt for task in book.tasks.values()} == {1}

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
