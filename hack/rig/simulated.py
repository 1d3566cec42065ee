"""The parts of the simulation: a dispatcher's shell, links, worker processes.

What is under test is real: the pool state machine, the loader's reading of tasks, the worker's
`session`, and the frames between them, encoded and decoded. What is made here is what a machine
may do to them: a disk that forgets what was not synced, links that break with frames on them,
processes that end. A second pool shares the dispatcher: its records and fencing tokens lie between
those of the pool that is watched. Nothing waits and nothing reads a clock: `rig.simulation` says
what happens next, and when.
"""

import collections
import dataclasses
from collections.abc import Callable

from penstock.v1 import task_pb2, worker_service_pb2
from penstock_dispatcher import loading
from penstock_dispatcher.convert import frames, times, worker_side
from penstock_dispatcher.core import (
    admission,
    afterlife,
    control,
    effects,
    idempotency,
    leases,
    records,
    settings,
    units,
)
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from penstock_worker import session
from rig import neighbour, simulated_disk

POOL = "namespaces/default/pools/sim"
UID = "uid-sim"


@dataclasses.dataclass(eq=False)
class Link:
    """One stream: ordered, and whatever is on it may be lost when it breaks."""

    up: collections.deque[bytes] = dataclasses.field(default_factory=collections.deque)
    down: collections.deque[bytes] = dataclasses.field(default_factory=collections.deque)
    session_id: str = ""
    served: bool = True
    """The dispatcher's end is open."""
    held: bool = True
    """The worker's end is open."""


@dataclasses.dataclass(frozen=True, slots=True)
class Assigned:
    """What a simulation checks of an assignment."""

    task: tasks.Task
    token: int
    pod_uid: str
    time: int


class Server:
    """A dispatcher process around one pool, from its start to its crash."""

    def __init__(
        self,
        config: settings.PoolSettings,
        disk: simulated_disk.Disk,
        *,
        now: Callable[[], int],
        draw: Callable[[], float],
        on_assigned: Callable[[Assigned], None],
    ) -> None:
        disk.epoch += 1
        self.epoch = disk.epoch
        self.disk = disk
        self.durable_lsn = 0
        self.unsynced: list[records.Record] = []
        self.answers: list[tuple[int, Callable[[], None]]] = []
        self.waiting: dict[admission.Waiter, Callable[[admission.Admission], None]] = {}
        """Calls that wait for room."""
        self._now = now
        self._log = records.RecordLog()
        self._on_assigned = on_assigned
        self._links: dict[str, Link] = {}
        tokens = leases.TokenSource(disk.epoch)
        self.neighbour = neighbour.Neighbour(log=self._log, tokens=tokens, now=now())
        self.pool = pools.Pool(
            config,
            log=self._log,
            tokens=tokens,
            draw=draw,
            now=now(),
            fresh=disk.epoch == 1,
        )
        stored = disk.stored_tasks()
        self.pool.restore(
            stored=[loading.task_of(entry, config) for entry in stored],
            requests=[
                (entry.accepted.request_id, _request(entry.accepted))
                for entry in stored
                if entry.accepted.request_id
            ],
            sessions=disk.sessions().items(),
            tombstones=disk.tombstones(),
            paused=False,
            closed_time=0,
            now=now(),
        )
        self.turn()

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

    def redrive(self, task: tasks.Task) -> bool:
        """One call for a task that has ended, as it may be seen."""
        if task.lsn > self.durable_lsn or not afterlife.redrive(self.pool.book, task):
            return False
        self.turn()
        return True

    # ------------------------------------------------------------ workers

    def receive(self, link: Link, data: bytes) -> None:
        """One frame of a worker."""
        frame = worker_service_pb2.WorkRequest.FromString(data)
        fleet, now = self.pool.fleet, self._now()
        match frame.WhichOneof("message"):
            case "hello":
                self._hello(link, frame.hello)
            case "outcomes":
                for ended in frame.outcomes.outcomes:
                    fleet.outcome(link.session_id, worker_side.outcome_of(ended), now)
                fleet.credit(link.session_id, frame.outcomes.credit)
            case "credit":
                fleet.credit(link.session_id, frame.credit.slots)
            case "heartbeat":
                fleet.heartbeat(link.session_id, frame.heartbeat.lease_ids, now)
            case "drain_started":
                fleet.stopping(link.session_id)
            case "drained":
                self.pool.reservations.confirm(link.session_id)
            case "goodbye":
                fleet.goodbye(link.session_id, now)
        self.turn()

    def _hello(self, link: Link, hello: worker_service_pb2.Hello) -> None:
        link.session_id = hello.session_id or f"s{self.epoch}-{self._log.last}-{hello.pod_uid}"
        earlier = self._links.get(link.session_id)
        if earlier is not None:
            earlier.served = False
        self._links[link.session_id] = link
        introduction = worker_side.introduction(hello, link.session_id)
        assert self.pool.fleet.hello(introduction, self._now())

    def disconnected(self, link: Link) -> None:
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
            self.pool.tick(self._now())
        self.turn()
        assert self.pool.next_deadline() > self._now(), "or its timer would fire all the time"

    def turn(self) -> None:
        """Carry effects out; tell clients what is durable."""
        for effect in self.pool.take_effects(self.durable_lsn, self._now()):
            self._carry(effect)
        self.neighbour.turn(self.durable_lsn, self._now())
        self.unsynced += self._log.take()
        ready = [told for lsn, told in self.answers if lsn <= self.durable_lsn]
        self.answers = [each for each in self.answers if each[0] > self.durable_lsn]
        for told in ready:
            told()

    def _carry(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.TaskChanged):
            return
        if isinstance(effect, effects.WaiterAnswered):
            decided, told = effect.answer, self.waiting.pop(effect.waiter)
            self.answers.append((decided.lsn, lambda: told(decided)))
            return
        if isinstance(effect, effects.Assigned):
            worker = self.pool.fleet.workers.get(effect.session_id)
            assert worker is not None, "work is given to workers that are there"
            self._on_assigned(
                Assigned(effect.task, effect.lease.token, worker.pod_uid, effect.lease.start_time)
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
                prefix = f"{POOL}/tasks/".encode()
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


def _request(accepted: records.TaskAccepted) -> idempotency.Request:
    return idempotency.Request(
        accepted.sequence, accepted.task_id, accepted.fingerprint, accepted.create_time
    )


class WorkerProcess:
    """One worker process: the real session, and a runner whose tasks end when they are told to."""

    def __init__(
        self, pod_uid: str, *, slots: int, revision: str, on_start: Callable[[str], None]
    ) -> None:
        self.pod_uid = pod_uid
        self.session = session.Session(
            session.Identity(
                pool=POOL,
                pool_uid=UID,
                pod_name=pod_uid,
                pod_uid=pod_uid,
                slots=slots,
                task_types=(),
                revision=revision,
                sdk_version="",
            )
        )
        self.link: Link | None = None
        self.running: dict[str, task_pb2.Task] = {}
        self.stopped: set[str] = set()
        """Leases whose attempts were told to stop and have not ended yet."""
        self._on_start = on_start

    def connect(self) -> Link:
        """Open a new stream."""
        self.link = Link()
        self.session.opened()
        return self.link

    def broke(self) -> None:
        """Notice that the stream is over."""
        if self.link is not None:
            self.link.held = False
            self.link = None
            self.session.broke()

    def write(self, now: int) -> bool:
        """Send the next frame, if there is one."""
        if self.link is None:
            return False
        frame = self.session.next_frame(now / units.SECOND)
        if frame is None:
            return False
        self.link.up.append(frame.SerializeToString())
        return True

    def read(self, now: int) -> bool:
        """Take one frame; a stream that has ended is noticed after its last one."""
        if self.link is None:
            return False
        if not self.link.down:
            if not self.link.served:
                self.broke()
            return False
        frame = worker_service_pb2.WorkResponse.FromString(self.link.down.popleft())
        self._obey(self.session.received(frame, now / units.SECOND))
        return True

    def end(self, lease_id: str, outcome: worker_service_pb2.TaskOutcome) -> None:
        """An attempt ends."""
        del self.running[lease_id]
        self.stopped.discard(lease_id)
        self._obey(self.session.ended(lease_id, outcome))

    def _obey(self, commands: list[session.Command]) -> None:
        for command in commands:
            match command:
                case session.Start():
                    lease = command.assignment.lease
                    assert lease.lease_id not in self.running
                    assert not self.session.drained, "a drained worker starts nothing more"
                    self.running[lease.lease_id] = command.assignment.task
                    self._on_start(lease.task)
                case session.Stop():
                    if command.lease_id in self.running:
                        self.stopped.add(command.lease_id)
                case session.BecomeUnready():
                    assert not self.running, "a worker that runs something stays ready"
                    self.session.unready()
