"""The promises that a simulated history is checked against; see `rig.simulation`.

Kept apart from the world that tries to break them: this module only looks.
"""

import collections
import itertools

from penstock.v1 import task_pb2
from penstock_dispatcher.core import control, settings, units
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
        self._terms: dict[str, dict[int, control.Terms]] = {}
        """Terms that a task may have, by the number of the call that asked for them."""
        self._numbers = itertools.count(1)

    def saw_start(self, name: str) -> None:
        """A worker has started a task."""
        self._runs[name.rpartition("/")[2]] += 1

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
        self._terms.pop(task_id, None)

    def next_number(self) -> int:
        """For a call that changes a task's terms."""
        return next(self._numbers)

    def asked_for(
        self, task_id: str, before: control.Terms, wanted: control.Terms, number: int
    ) -> None:
        """That call has begun, and is not answered yet."""
        self._terms.setdefault(task_id, {0: before})[number] = wanted

    def saw_terms(self, task_id: str, number: int) -> None:
        """The call was answered: those of before are over for good."""
        allowed = self._terms.get(task_id, {})
        self._terms[task_id] = {each: terms for each, terms in allowed.items() if each >= number}

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
        table = server.pool.fleet.workers
        open_slots = sum(worker.slots for worker in table.all() if worker.takes_work)
        assert table.slots == open_slots, "slots are counted as they change"
        assert server.pool.runnable_slots(now) <= runnable, "demand is what could run"
        for call in self._calls:
            assert not call.task_id or call.task_id in book.tasks, f"{call.task_id} is lost"
        for task_id, allowed in self._terms.items():
            terms = control.terms_of(book.tasks[task_id])
            assert not allowed or terms in allowed.values(), f"{task_id} has terms of nobody's"
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
