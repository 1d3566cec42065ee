"""The promises that a simulated history is checked against; see `rig.simulation`.

Kept apart from the world that tries to break them: this module only looks. What it knows, it has
from what was told to clients, workers and the operator, and from what was written to the disk; the
core's own counts are what is judged.
"""

import collections

from penstock.v1 import task_pb2, worker_service_pb2
from penstock_dispatcher import loading
from penstock_dispatcher.core import bounds, budget, effects, records, settings, units
from penstock_dispatcher.core import task as tasks
from rig import clients, counted_memory, rate_window, simulated, simulated_disk


class Promises:
    """What has been seen of one history, and what must be true of it."""

    def __init__(
        self,
        config: settings.PoolSettings,
        disk: simulated_disk.Disk,
        wanted: clients.Clients,
        *,
        now: int,
    ) -> None:
        self.config = config
        self.paused = False
        """Somebody was told so, and has not asked for anything else since."""
        self._wanted = wanted
        self._calls = wanted.calls
        self._disk = disk
        self._token = 0
        self._newest: dict[str, int] = {}
        """By task uid: a lower token's outcome comes too late, as far as this process can know."""
        self._lease_of: dict[str, tuple[str, int]] = {}
        """By lease id: task uid and token."""
        self._heard: dict[str, int] = {}
        """By lease id: when its worker named it last."""
        self._claimed: dict[str, int] = {}
        """By lease id: when its worker named it last as it came back."""
        self._silent: set[str] = set()
        """Sessions that lost a lease because nothing was heard of it, and said nothing since."""
        self._shut_out: set[str] = set()
        self._runs: collections.Counter[str] = collections.Counter()
        self._ended: dict[str, tasks.TaskState] = {}
        self._checkpoints: dict[str, list[bytes]] = collections.defaultdict(list)
        """Of each task, by uid, in the order in which they have arrived."""
        self._given: dict[str, bytes] = {}
        """By lease id: what the attempt was to begin with."""
        self._rate = rate_window.RateWindow(config.rate_limit, now=now)

    # ------------------------------------------------------------ what is seen

    def saw_start(self, assignment: worker_service_pb2.Assignment) -> None:
        """A worker has started a task."""
        lease, checkpoint = assignment.lease, assignment.checkpoint
        self._runs[lease.task.rpartition("/")[2]] += 1
        assert checkpoint == self._given[lease.lease_id], "a worker gets the checkpoint"

    def saw_checkpoint(self, lease_id: str, checkpoint: bytes) -> None:
        """One has arrived, and counts."""
        self._checkpoints[self._lease_of[lease_id][0]].append(checkpoint)

    def saw_config(self, config: settings.PoolSettings, now: int) -> None:
        """The operator's configuration is in force."""
        self.config = config
        self._rate.limited(config.rate_limit, now)

    def saw_restart(self, now: int) -> None:
        """A dispatcher process begins."""
        self._rate.emptied(now)
        self._newest.clear()
        self._silent.clear()

    def saw_drained(self, pod_uids: list[str]) -> None:
        """Somebody was told that these pods get no more work."""
        self._shut_out.update(pod_uids)

    def saw_heard(self, lease_id: str, now: int) -> None:
        """A worker has named a lease."""
        self._heard[lease_id] = now

    def saw_claimed(self, lease_id: str, now: int) -> None:
        """A worker that comes back has named a lease."""
        self._heard[lease_id] = self._claimed[lease_id] = now

    def saw_frame(self, session_id: str) -> None:
        """A session has said something."""
        self._silent.discard(session_id)

    def saw_due(self, server: simulated.Server, now: int) -> None:
        """Leases that nothing was heard of for long are about to end."""
        for lease in server.pool.fleet.leases.all():
            if self._heard[lease.id] + self.config.lease_ns <= now:
                self._silent.add(lease.session_id)

    def saw_stall(self, server: simulated.Server, now: int) -> None:
        """The dispatcher could hear nobody until now."""
        for lease in server.pool.fleet.leases.all():
            self._heard[lease.id] = now

    def saw_assigned(self, one: simulated.Assigned, server: simulated.Server) -> None:
        """The dispatcher has given a task out."""
        task = one.task
        assert one.token > self._token, "tokens only grow"
        self._token = self._newest[task.uid] = one.token
        assert task.lease is not None
        self._lease_of[task.lease.id] = task.uid, one.token
        self._heard[task.lease.id] = one.time
        assert one.pod_uid not in self._disk.tombstones(), "a drained pod gets no more work"
        assert one.pod_uid not in self._shut_out, "a pod that was shut out gets no work"
        assert one.session_id not in self._silent, "a silent worker gets no work"
        assert not self.paused, "a paused pool gives nothing out"
        assert not self.config.suspended, "a suspended pool gives nothing out"
        call = self._wanted.find(task.request_id)
        assert not (call.cancelled and call.task_uid == task.uid), (
            "what was cancelled never starts again"
        )
        assert call.wanted.body == task.body, "what runs is what was wanted"
        self._check_terms(task, call)
        self._check_checkpoint(task)
        assert task.sequence in self._disk.accepted_ever, "nothing runs before it is durable"
        assert one.time >= task.not_before, "delayed tasks wait for their time"
        again = task.attempt > 1 or task.worker_losses
        assert again or one.time < (task.expire_time or units.NEVER), "in time or never"
        self._rate.started(one.time)
        if not server.loading:
            self._check_order(one, server)

    def _check_terms(self, task: tasks.Task, call: clients.Call) -> None:
        assert task.priority == (call.wanted.priority or task.priority), "a task keeps its priority"

    def _check_checkpoint(self, task: tasks.Task) -> None:
        assert task.lease is not None
        self._given[task.lease.id] = task.checkpoint
        arrived = [b"", *self._checkpoints[task.uid]]
        assert task.checkpoint in arrived, "a checkpoint is the task's own"
        written = self._disk.checkpoint(task.sequence)
        # The same one may have arrived twice: its last time counts.
        arrived.reverse()
        assert arrived.index(task.checkpoint) <= arrived.index(written), (
            "an attempt begins with the newest durable checkpoint, or a newer one"
        )

    def _check_order(self, one: simulated.Assigned, server: simulated.Server) -> None:
        rank = (-one.task.priority, one.task.sequence)
        better = [
            other.id
            for other in server.pool.book.tasks.values()
            if other.place is tasks.Place.QUEUED
            and other.state is tasks.TaskState.PENDING
            and (-other.priority, other.sequence) < rank
            and (not one.types or other.type in one.types)
        ]
        assert not better, f"the best task first: {better} before {one.task.id}"
        may_run = sum(task.place is tasks.Place.HELD for task in server.pool.book.tasks.values())
        running = len(server.pool.fleet.leases) + may_run
        assert running <= (self.config.max_in_flight or running), (
            "at most maxInFlight, with what may be running since a restart"
        )

    def saw_outcome(self, lease_id: str, server: simulated.Server) -> None:
        """The dispatcher has taken an outcome, and it counts."""
        assert lease_id not in server.recorded, "an attempt's outcome is recorded once"
        uid, token = self._lease_of[lease_id]
        assert token >= self._newest.get(uid, 0), "a late outcome is refused"

    def saw_told(self, effect: effects.Effect, server: simulated.Server) -> None:
        """Somebody is told something, that a crash must not take back."""
        disk = self._disk
        match effect:
            case effects.OutcomeAcked(accepted=True):
                written = server.recorded.get(effect.lease_id)
                assert written is not None, "only what is recorded is acknowledged"
                assert written <= server.durable_lsn, "no acknowledgement before the sync"
            case effects.TaskChanged(previous=None):
                assert effect.task.sequence in disk.accepted_ever, "no news before the sync"
            case effects.TaskChanged(state=state) if state in tasks.TERMINAL:
                assert effect.task.sequence in disk.ended_ever, "no news before the sync"
            case effects.Welcomed():
                assert effect.session_id in disk.sessions_ever, "no welcome before the sync"

    def saw_redriven(self, task: tasks.Task) -> None:
        """A task that failed was queued again: from now on another outcome may be seen."""
        self._ended.pop(task.uid, None)
        self._newest[task.uid] = self._token + 1
        self._checkpoints.pop(task.uid, None)

    # ------------------------------------------------------------ after every step

    def check(self, server: simulated.Server, now: int) -> None:
        """What must hold after every step."""
        self._check_tasks(server, now)
        self._check_leases(server)
        counted_memory.check_all(server.memory, [server.pool.book, server.neighbour.book])
        book, room, config = server.pool.book, server.pool.room, self.config
        left = config.max_pending_bytes - book.waiting_bytes
        for waiter in server.waiting:
            fits = book.waiting < config.max_pending and waiter.wanted.size <= left
            key = waiter.wanted.fairness_key
            fits = fits and server.memory.has_room(bounds.memory_bytes(waiter.wanted))
            if fits and config.max_pending_per_key:
                there = book.tasks.values()
                waiting = [task for task in there if task.place is not tasks.Place.NOWHERE]
                fits = clients.key_has_room(key, waiting, config)
            assert not fits, "nobody waits while there is room"
        assert len(room) == len(server.waiting) <= config.max_waiters, "waiters are those who wait"
        assert room.payload_bytes == sum(each.wanted.size for each in server.waiting), (
            "the bytes of waiters are counted"
        )

    def _check_tasks(self, server: simulated.Server, now: int) -> None:
        book, durable_lsn = server.pool.book, server.durable_lsn
        waiting = waiting_bytes = runnable = over = 0
        nowhere, terminal = tasks.Place.NOWHERE, tasks.TERMINAL
        for task in book.tasks.values():
            if task.place is not nowhere:
                waiting += 1
                waiting_bytes += task.size
                runnable += task.slots if task.not_before <= now else 0
                apart = task.lease is None and task.state not in terminal
            else:
                over += task.state in terminal
                apart = (task.lease is not None) != (task.state in terminal)
            assert apart, f"{task.id} waits, runs or is over, and only one of them"
        assert book.waiting == waiting, "who waits is counted"
        assert book.waiting_bytes == waiting_bytes, "the bytes that wait are counted"
        assert server.pool.runnable_slots(now) <= runnable, "demand is what could run"
        running = len(server.pool.fleet.leases)
        assert len(book.tasks) == waiting + running + over, "accepted = waiting + running + over"
        for call in self._calls:
            if not call.task_id or call.deleting:
                continue
            mine = book.tasks.get(call.task_id)
            if mine is None and self._given_up(call, server):
                continue
            assert mine is not None, f"{call.task_id} is lost"
            assert mine.uid == call.task_uid, f"{call.task_id} is lost: another one has its name"
            assert mine.sequence == call.sequence, "a task keeps its place in the order"
            if mine.state in terminal and mine.lsn <= durable_lsn:
                seen = self._ended.setdefault(mine.uid, mine.state)
                assert seen is mine.state, "an outcome that was seen stays"
        names = {task.request_id for task in book.tasks.values()}
        assert len(names) == len(book.tasks), "one task for a request id"
        if server.pool.drained:
            left = running + (waiting if server.pool.dispatching else 0)
            assert not left, "a drained pool has nothing to do"

    def _given_up(self, call: clients.Call, server: simulated.Server) -> bool:
        """The task has ended, and is gone because its memory was needed."""
        if server.memory.limit == budget.UNLIMITED:
            return False
        return call.sequence in self._disk.ended_ever or any(
            isinstance(record, records.TaskEnded) and record.sequence == call.sequence
            for record in server.unsynced
        )

    def _check_leases(self, server: simulated.Server) -> None:
        valid, table = server.pool.fleet.leases.all(), server.pool.fleet.workers
        assert len({lease.task.id for lease in valid}) == len(valid), "one valid lease a task"
        for lease in valid:
            assert lease.task.lease is lease, "one valid lease a task"
            assert lease.task.state in tasks.IN_FLIGHT, "what has a lease runs"
            worker = table.get(lease.session_id)
            held = worker is not None and worker.leases.get(lease.id) is lease
            assert held, "a lease belongs to a session that is there"
        for worker in table.all():
            assert not worker.silent or worker.session_id in self._silent, (
                "a worker is silent only if nothing was heard of it"
            )

    def check_ticked(self, server: simulated.Server, now: int) -> None:
        """What must hold when timers have fired: every lease ends."""
        for lease in server.pool.fleet.leases.all():
            heard = self._heard[lease.id] + self.config.lease_ns
            assert now < heard, "a lease ends when nothing is heard of it"
            end = lease.start_time + lease.task.execution_timeout_ns + self.config.cancel_grace_ns
            if lease.id in self._claimed:
                # What was done while nobody listened can still be handed in.
                end = max(end, self._claimed[lease.id] + self.config.heartbeat_ns)
            assert now < end, "a lease ends with its execution time-out"

    # ------------------------------------------------------------ when everything is synced

    def check_written(self, server: simulated.Server) -> None:
        """Everything is synced: what a restart would load is what there is."""
        pool, disk = server.pool, self._disk
        loaded = [loading.task_of(entry, self.config) for entry in disk.stored_tasks()]
        mine = pool.book.tasks.values()
        waiting = {task.uid for task in mine if task.place is not tasks.Place.NOWHERE}
        differ = {_durable(task, waiting) for task in mine}
        differ ^= {_durable(task, waiting) for task in loaded}
        assert not differ, f"what is loaded is what was there: {differ!s:.1000}"
        assert disk.tombstones() == pool.fleet.workers.tombstones, "tombstones are written"
        sessions = {worker.session_id for worker in pool.fleet.workers.all()}
        assert sessions <= disk.sessions().keys(), "sessions are written"
        latches = (pool.paused, pool.closed_time, pool.draining)
        written = disk.latched
        assert latches == (written.paused, written.closed_time, written.draining), (
            "latches are written"
        )

    def check_end(self, server: simulated.Server, *, gentle: bool) -> None:
        """What must hold once everything has ended."""
        book, states = server.pool.book, tasks.TaskState
        assert not server.pool.fleet.leases.all(), "every lease ends"
        self.check_written(server)
        for call in self._calls:
            if call.deleting:
                continue
            if call.task_id not in book.tasks and self._given_up(call, server):
                continue
            task = book.tasks[call.task_id]
            if task.state is states.SUCCEEDED:
                payload = task_pb2.Task.FromString(task.body).payload
                assert task.result == payload[::-1], "the outcome is the task's own"
            if call.cancelled:
                assert task.state in (states.CANCELLED, states.SUCCEEDED), "cancelled, or done"
        assert len(self._disk.ended()) == len(book.tasks), "each task has one recorded outcome"
        if gentle:
            again = {name: count for name, count in self._runs.items() if count > 1}
            assert not again, f"run twice: {again}"
            attempts = [task.attempt for task in book.tasks.values()]
            assert max(attempts) <= 1, "run twice: max(attempts)"
            ended = {task.state for task in book.tasks.values()}
            assert ended <= {states.SUCCEEDED, states.CANCELLED, states.EXPIRED}


def _durable(task: tasks.Task, waiting: set[str]) -> tuple[object, ...]:
    """What of a task must survive. One that runs is loaded as if it had been handed back."""
    return (
        task.uid,
        task.id,
        task.sequence,
        task.priority,
        task.size,
        task.state if task.terminal else None,
        task.attempt - (task.lease is not None),
        task.worker_losses,
        task.not_before if task.uid in waiting else 0,
        task.expire_time,
        task.cancelling and not task.terminal,
        task.result,
        task.checkpoint,
    )
