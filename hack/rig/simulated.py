"""The dispatcher of the simulation: a shell around the real pool.

What is under test is real: the pool state machine, the loader's reading of tasks, and the frames
between it and its workers, encoded and decoded. What is told, and to whom, is shown to `Eyes`. A
second pool shares the dispatcher: its records and fencing tokens lie between
those of the pool that is watched. Nothing waits and nothing reads a clock: `rig.simulation` says
what happens next, and when.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from penstock.v1 import worker_service_pb2
from penstock_dispatcher import loading
from penstock_dispatcher.convert import frames, times, worker_side
from penstock_dispatcher.core import (
    admission,
    afterlife,
    budget,
    control,
    effects,
    leases,
    records,
    settings,
)
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from rig import neighbour, simulated_disk, simulated_worker


@dataclasses.dataclass(frozen=True, slots=True)
class Assigned:
    """What a simulation checks of an assignment."""

    task: tasks.Task
    token: int
    session_id: str
    pod_uid: str
    time: int
    types: frozenset[str]
    """That its worker takes; empty = all."""


class Eyes(Protocol):
    """Who looks at what a dispatcher does; see `rig.promises`."""

    def saw_assigned(self, one: Assigned, server: "Server") -> None:
        """A task is given out."""

    def saw_told(self, effect: effects.Effect, server: "Server") -> None:
        """Somebody is told something."""

    def saw_outcome(self, lease_id: str, server: "Server") -> None:
        """An outcome was taken, and counts."""

    def saw_frame(self, session_id: str) -> None:
        """A session has said something."""

    def saw_due(self, server: "Server", now: int) -> None:
        """Leases that nothing was heard of for long are about to end."""

    def saw_heard(self, lease_id: str, now: int) -> None:
        """A worker has named a lease."""

    def saw_claimed(self, lease_id: str, now: int) -> None:
        """A worker that comes back has named a lease."""

    def saw_checkpoint(self, lease_id: str, checkpoint: bytes) -> None:
        """An attempt's checkpoint has arrived, and counts."""

    def saw_drained(self, pod_uids: list[str]) -> None:
        """These pods are known, durably, to get nothing any more."""


class Server:
    """A dispatcher process around one pool, from its start to its crash."""

    def __init__(
        self,
        config: settings.PoolSettings,
        disk: simulated_disk.Disk,
        *,
        now: Callable[[], int],
        draw: Callable[[], float],
        eyes: Eyes,
        memory: budget.Budget,
    ) -> None:
        disk.epoch += 1
        self.epoch = disk.epoch
        self.disk = disk
        self.memory = memory
        self.durable_lsn = 0
        self.unsynced: list[records.Record] = []
        self.answers: list[tuple[int, Callable[[], None]]] = []
        self.waiting: dict[admission.Waiter, Callable[[admission.Admission], None]] = {}
        """Calls that wait for room."""
        self.recorded: dict[str, int] = {}
        """Leases whose outcome this process has recorded → the number of its record."""
        self.loading = True
        self.turned_at = 0
        self._now = now
        self._log = records.RecordLog()
        self._eyes = eyes
        self._links: dict[str, simulated_worker.Link] = {}
        tokens = leases.TokenSource(disk.epoch)
        self.neighbour = neighbour.Neighbour(log=self._log, tokens=tokens, memory=memory, now=now())
        self.pool = pools.Pool(
            config,
            log=self._log,
            tokens=tokens,
            draw=draw,
            now=now(),
            memory=memory,
            fresh=disk.epoch == 1,
        )
        stored = [loading.task_of(entry, config) for entry in disk.stored_tasks()]
        self.pool.restore(
            stored=stored,
            requests=disk.outlived(),
            sessions=disk.sessions().items(),
            tombstones=disk.tombstones(),
            paused=disk.latched.paused,
            closed_time=disk.latched.closed_time,
            draining=disk.latched.draining,
            now=now(),
        )
        self.turn()
        self.loading = False

    # ------------------------------------------------------------ clients

    def submit(
        self, wanted: tasks.Submission, answer: Callable[[admission.Admission], None]
    ) -> None:
        """One call; it is answered when its record is durable."""
        decided = self.pool.submit(wanted, self._now())
        self.answers.append((decided.lsn, lambda: answer(decided)))
        self.turn()

    def submit_or_wait(
        self,
        wanted: tasks.Submission,
        answer: Callable[[admission.Admission], None],
        *,
        wait_ns: int,
    ) -> None:
        """The same for a caller who waits for room."""
        decided = self.pool.submit_or_wait(wanted, wait_ns=wait_ns, now=self._now())
        if isinstance(decided, admission.Waiter):
            self.waiting[decided] = answer
        else:
            self.answers.append((decided.lsn, lambda: answer(decided)))
        self.turn()

    def abandon(self, waiter: admission.Waiter) -> None:
        """A caller who waits goes away."""
        del self.waiting[waiter]
        self.pool.room.leave(waiter)
        self.turn()

    def cancel(self, task: tasks.Task, answer: Callable[[], None]) -> None:
        """One call for a task that has not ended; it is answered when that cannot be lost."""
        if self.pool.cancel(task, "not wanted any more", self._now()):
            self.answers.append((task.lsn, answer))
        self.turn()

    def update(self, task: tasks.Task, wanted: control.Terms, answer: Callable[[], None]) -> bool:
        """One call for a task as it may be seen, if it may be changed; it is answered when that
        cannot be lost.
        """
        if task.lsn > self.durable_lsn or not control.changeable(task):
            return False
        control.update(self.pool.book, task, wanted, self._now())
        self.answers.append((task.lsn, answer))
        self.turn()
        return True

    def when_durable(self, answer: Callable[[], None]) -> None:
        """One more call has had its effect; it is answered when everything so far is durable."""
        self.answers.append((self._log.last, answer))
        self.turn()

    def redrive(self, task: tasks.Task) -> bool:
        """One call for a task that has ended, as it may be seen."""
        if task.lsn > self.durable_lsn or not afterlife.redrive(self.pool.book, task):
            return False
        self.turn()
        return True

    # ------------------------------------------------------------ workers

    def receive(self, link: simulated_worker.Link, data: bytes) -> None:
        """One frame of a worker."""
        frame = worker_service_pb2.WorkRequest.FromString(data)
        fleet, now = self.pool.fleet, self._now()
        match frame.WhichOneof("message"):
            case "hello":
                self._hello(link, frame.hello)
            case "outcomes":
                for ended in frame.outcomes.outcomes:
                    self._outcome(link, ended)
                fleet.credit(link.session_id, frame.outcomes.credit)
            case "credit":
                fleet.credit(link.session_id, frame.credit.slots)
            case "heartbeat":
                for lease_id in frame.heartbeat.lease_ids:
                    self._eyes.saw_heard(lease_id, now)
                fleet.heartbeat(link.session_id, frame.heartbeat.lease_ids, now)
            case "progress":
                told, checkpoint = worker_side.progress_of(frame.progress, now)
                before = self._log.last
                fleet.progress(link.session_id, frame.progress.lease_id, told, checkpoint)
                if self._log.last > before:
                    self._eyes.saw_checkpoint(frame.progress.lease_id, checkpoint)
            case "drain_started":
                fleet.stopping(link.session_id)
            case "drained":
                self._drained(link.session_id)
            case "goodbye":
                fleet.goodbye(link.session_id, now)
        self._eyes.saw_frame(link.session_id)
        self.turn()

    def _outcome(self, link: simulated_worker.Link, ended: worker_service_pb2.TaskOutcome) -> None:
        before = self._log.last
        self.pool.fleet.outcome(link.session_id, worker_side.outcome_of(ended), self._now())
        if self._log.last > before:
            self._eyes.saw_outcome(ended.lease_id, self)
            # Others may follow: of what had to make room for it.
            self.recorded[ended.lease_id] = before + 1

    def _drained(self, session_id: str) -> None:
        self.pool.reservations.confirm(session_id)
        worker = self.pool.fleet.workers.get(session_id)
        if worker is not None and worker.drained:
            pod_uid = worker.pod_uid
            self.answers.append((self._log.last, lambda: self._eyes.saw_drained([pod_uid])))

    def _hello(self, link: simulated_worker.Link, hello: worker_service_pb2.Hello) -> None:
        link.session_id = hello.session_id or f"s{self.epoch}-{self._log.last}-{hello.pod_uid}"
        earlier = self._links.get(link.session_id)
        if earlier is not None:
            earlier.served = False
        self._links[link.session_id] = link
        for lease in hello.running:
            self._eyes.saw_claimed(lease.lease_id, self._now())
        introduction = worker_side.introduction(hello, link.session_id)
        assert self.pool.fleet.hello(introduction, self._now())

    def disconnected(self, link: simulated_worker.Link) -> None:
        """The dispatcher has noticed that a stream is over."""
        link.served = False
        if self._links.get(link.session_id) is link:
            del self._links[link.session_id]
            self.pool.fleet.disconnected(link.session_id, self._now())
            self.turn()

    # ------------------------------------------------------------ the shell

    def commit(self, count: int) -> None:
        """Sync the oldest records; what waited for them goes on."""
        batch, self.unsynced = self.unsynced[:count], self.unsynced[count:]
        self.disk.sync(batch)
        self.durable_lsn += len(batch)
        self.turn()

    def tick(self) -> None:
        """Act on what has come due."""
        if self.pool.next_deadline() <= self._now():
            self._eyes.saw_due(self, self._now())
            self.pool.tick(self._now())
        self.turn()
        assert self.pool.next_deadline() > self._now(), (
            "a timer that is due does something, or it would fire all the time"
        )

    def turn(self) -> None:
        """Carry effects out; tell clients what is durable."""
        self.turned_at = self._now()
        self._carry_all()
        self.neighbour.turn(self.durable_lsn, self._now())
        self.memory.let_in(self._now())  # what it has just done was said after its own turn
        while self.memory.take_let_in():
            self._carry_all()
        self.unsynced += self._log.take()
        ready = [told for lsn, told in self.answers if lsn <= self.durable_lsn]
        self.answers = [each for each in self.answers if each[0] > self.durable_lsn]
        for told in ready:
            told()

    def _carry_all(self) -> None:
        for effect in self.pool.take_effects(self.durable_lsn, self.turned_at):
            self._carry(effect)

    def _carry(self, effect: effects.Effect) -> None:
        self._eyes.saw_told(effect, self)
        if isinstance(effect, effects.TaskChanged):
            return
        if isinstance(effect, effects.WaiterAnswered):
            decided, told = effect.answer, self.waiting.pop(effect.waiter)
            self.answers.append((decided.lsn, lambda: told(decided)))
            return
        if isinstance(effect, effects.Assigned):
            worker = self.pool.fleet.workers.get(effect.session_id)
            assert worker is not None, "work is given to workers that are there"
            lease = effect.lease
            self._eyes.saw_assigned(
                Assigned(
                    effect.task,
                    lease.token,
                    worker.session_id,
                    worker.pod_uid,
                    lease.start_time,
                    worker.task_types,
                ),
                self,
            )
        link = self._links.get(effect.session_id)
        if link is None or not link.served:
            return
        if isinstance(effect, effects.SessionReplaced):
            link.served = False
        else:
            link.down.append(self._frame(effect))

    def _frame(self, effect: effects.Effect) -> bytes:
        response = worker_service_pb2.WorkResponse
        match effect:
            case effects.Assigned():
                prefix = f"{simulated_worker.POOL}/tasks/".encode()
                return frames.assignments([frames.assignment(prefix, effect.task, effect.lease)])
            case effects.OutcomeAcked():
                return frames.acks([frames.ack(effect.lease_id, effect.accepted)])
            case effects.Welcomed():
                welcome = worker_service_pb2.Welcome(
                    session_id=effect.session_id,
                    heartbeat_interval=times.duration(self.pool.config.heartbeat_ns),
                    revoked_lease_ids=effect.revoked,
                )
                frame = response(welcome=welcome)
            case effects.CancelRequested():
                cancel = worker_service_pb2.CancelLease(lease_id=effect.lease_id, reason="x")
                frame = response(cancel=cancel)
            case effects.LeasesLost():
                lost = worker_service_pb2.LeaseState(lost_lease_ids=effect.lease_ids)
                frame = response(lease_state=lost)
            case effects.DrainRequested():
                drain = worker_service_pb2.Drain(reservation_id=effect.reservation_id)
                frame = response(drain=drain)
            case effects.DrainRevoked():
                undrain = worker_service_pb2.Undrain(reservation_id=effect.reservation_id)
                frame = response(undrain=undrain)
            case _:
                raise AssertionError(f"no frame is known for {effect}")
        return frame.SerializeToString()
