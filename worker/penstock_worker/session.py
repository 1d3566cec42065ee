"""The worker's side of its stream, without the stream: a pure state machine.

The session owns what must outlive any one stream: the leases, the outcomes that are not
acknowledged yet, and how far the worker is on its way out. It is driven by events (a stream opened
or broke, a frame came, an attempt ended, SIGTERM was seen), takes the time as an argument (`now`,
float seconds on any steadily growing clock), and answers with *commands* for the shell. What to
send is asked for, not pushed: when the writer is free it calls `next_frame`, and gets one frame
with everything that has gathered since; that is all the batching there is.

Invariants, whatever the dispatcher says: what runs never takes more than `slots`, each attempt as
many as its task needs; credit only for slots that are free; one attempt a lease; an outcome is
kept, and sent on every new stream, until it is acknowledged; nothing is sent for a lease that was
revoked or lost; `Drained` only when nothing runs and nothing is unacknowledged, and after the shell
was told to fail its readiness probe.
"""

import dataclasses
from collections.abc import Iterable
from typing import Final

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import leased, outcomes

PROTOCOL_VERSION: Final = 1
HEARTBEAT_SECONDS_DEFAULT: Final = 5.0
IDLE_INTERVALS: Final = 3
"""Between heartbeats of a worker that answers for no lease: they extend nothing. That the
connection is alive is the keepalive's to find out."""
GRACE_SECONDS_DEFAULT: Final = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the worker is; the same on every stream."""

    pool: str
    pool_uid: str
    pod_name: str
    pod_uid: str
    slots: int
    task_types: tuple[str, ...]
    revision: str
    sdk_version: str


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """Run this assignment; report its end with `Session.ended`."""

    assignment: wire.Assignment


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """Stop this attempt; its end must still be reported, so that its slot becomes free."""

    lease_id: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class BecomeUnready:
    """Fail the readiness probe from now on, then call `Session.unready`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reconnect:
    """Close the stream and open another one after the delay."""

    after_seconds: float
    reason: str


Command = Start | Stop | BecomeUnready | Reconnect


class Session:
    """See the module's docstring."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.session_id = ""
        self.heartbeat_seconds = HEARTBEAT_SECONDS_DEFAULT
        self.grace_seconds = GRACE_SECONDS_DEFAULT
        """How long a stopped attempt may take to end, as the dispatcher said last."""
        self.welcomed = False
        self._leases = leased.Leases()
        self._connected = False
        self._hello_sent = False
        self._granted = 0
        self._beat_at = 0.0
        self._stopping = ""
        self._stop_grace_seconds = 0.0
        self._stop_told = False
        self._reservation: str | None = None
        self._unready_asked = False
        self._unready = False
        self._drained_told = False
        self._goodbye_told = False

    # ------------------------------------------------------------ looking

    @property
    def running(self) -> list[str]:
        """Lease ids of attempts that occupy a slot."""
        return self._leases.ids(leased.Place.RUNNING, leased.Place.DISOWNED)

    @property
    def free_slots(self) -> int:
        """Slots that no attempt occupies, granted or not."""
        return self.identity.slots - self._leases.slots_used

    @property
    def unacknowledged(self) -> list[str]:
        """Lease ids of attempts whose outcome the dispatcher has not acknowledged."""
        return self._leases.ids(leased.Place.ENDED)

    @property
    def leases(self) -> list[str]:
        """Lease ids that this worker answers for: running, or ended and not acknowledged."""
        return self._leases.ids(leased.Place.RUNNING, leased.Place.ENDED)

    @property
    def drained(self) -> bool:
        """Confirmed: this process will never get work again."""
        return self._unready

    @property
    def finished(self) -> bool:
        """Stopping, and nothing is left to do but to say goodbye (which is done, if connected)."""
        return bool(
            self._stopping and not self._leases and (self._goodbye_told or not self.welcomed)
        )

    # ------------------------------------------------------------ the stream

    def opened(self) -> None:
        """A stream was opened; `next_frame` gives its Hello."""
        self._connected, self.welcomed = True, False
        self._hello_sent = self._stop_told = self._drained_told = self._goodbye_told = False
        self._granted = 0
        if not self._unready_asked:
            # One that stands is told again on each stream; one that is over may not have been.
            self._reservation = None

    def broke(self) -> None:
        """The stream is over. Work goes on."""
        self._connected = self.welcomed = False

    def forget_session(self) -> None:
        """The dispatcher does not know this session any more: introduce ourselves as new."""
        self.session_id = ""

    def received(self, frame: wire.WorkResponse, now: float) -> list[Command]:
        """A frame came."""
        match frame.WhichOneof("message"):
            case "welcome":
                return self._welcome(frame.welcome, now)
            case "assignments":
                return self._assigned(frame.assignments.assignments)
            case "outcome_acks":
                for ack in frame.outcome_acks.acks:
                    attempt = self._leases.get(ack.lease_id)
                    if attempt is not None and attempt.place is leased.Place.ENDED:
                        self._leases.forget(ack.lease_id)
                return self._maybe_unready()
            case "cancel":
                attempt = self._leases.get(frame.cancel.lease_id)
                if attempt is None or attempt.place is not leased.Place.RUNNING:
                    return []
                if frame.cancel.HasField("grace"):
                    self.grace_seconds = outcomes.seconds(frame.cancel.grace)
                return [Stop(frame.cancel.lease_id, frame.cancel.reason or "cancelled")]
            case "lease_state":
                return self._disown(frame.lease_state.lost_lease_ids, "the lease was lost")
            case "drain":
                self._reservation = frame.drain.reservation_id
                self._granted = 0
                self._drained_told = False
                return self._maybe_unready()
            case "undrain":
                if not self._unready_asked:
                    self._reservation = None
                    self._granted = 0
                return []
            case "go_away":
                after = outcomes.seconds(frame.go_away.reconnect_after)
                return [Reconnect(after, frame.go_away.reason or "go away")]
            case _:
                return []  # a newer dispatcher's frame

    def _welcome(self, welcome: wire.Welcome, now: float) -> list[Command]:
        self.session_id = welcome.session_id
        self.heartbeat_seconds = (
            outcomes.seconds(welcome.heartbeat_interval) or HEARTBEAT_SECONDS_DEFAULT
        )
        if welcome.HasField("cancel_grace"):
            self.grace_seconds = outcomes.seconds(welcome.cancel_grace)
        self.welcomed = True
        self._beat_at = now
        self._leases.again()
        commands = self._disown(welcome.revoked_lease_ids, "somebody else runs it, or it is over")
        return commands + self._maybe_unready()

    def _assigned(self, assignments: Iterable[wire.Assignment]) -> list[Command]:
        commands: list[Command] = []
        for assignment in assignments:
            lease = assignment.lease
            slots = max(1, assignment.task.slots)
            self._granted = max(0, self._granted - slots)
            if self._leases.get(lease.lease_id) is not None:
                continue
            if self._goodbye_told:
                continue  # the two crossed: with our goodbye the dispatcher takes it back
            attempt = self._leases.add(lease, slots)
            if self.free_slots < 0 or self._stopping or self._unready_asked:
                self._leases.end(
                    attempt,
                    wire.TaskOutcome(
                        released=wire.TaskOutcome.Released(
                            reason=f"the worker has too few free slots, the task takes {slots}"
                        )
                    ),
                )
            else:
                commands.append(Start(assignment))
        return commands

    def _disown(self, lease_ids: Iterable[str], reason: str) -> list[Command]:
        commands: list[Command] = []
        for lease_id in lease_ids:
            attempt = self._leases.get(lease_id)
            if attempt is None:
                continue
            if attempt.place is leased.Place.RUNNING:
                attempt.place = leased.Place.DISOWNED
                commands.append(Stop(lease_id, reason))
            elif attempt.place is leased.Place.ENDED:
                self._leases.forget(lease_id)
        return commands + self._maybe_unready()

    # ------------------------------------------------------------ the work

    def progressed(self, lease_id: str, progress: task_pb2.Progress) -> None:
        """An attempt tells how far it is, or saves a checkpoint."""
        attempt = self._leases.get(lease_id)
        if attempt is not None and attempt.place is leased.Place.RUNNING:
            self._leases.tell(attempt, progress)

    def ended(self, lease_id: str, outcome: wire.TaskOutcome) -> list[Command]:
        """An attempt ended and its slot is free; `outcome` needs no lease id or token."""
        attempt = self._leases.get(lease_id)
        if attempt is None:
            return []
        if attempt.place is leased.Place.DISOWNED:
            self._leases.forget(lease_id)
        elif attempt.place is leased.Place.RUNNING:
            self._leases.end(attempt, outcome)
        return self._maybe_unready()

    # ------------------------------------------------------------ the way out

    def stop(self, reason: str, grace_seconds: float) -> None:
        """SIGTERM was seen: no more credit; what runs goes on."""
        if not self._stopping:
            self._stopping, self._stop_grace_seconds = reason, grace_seconds
            self._granted = 0

    def _maybe_unready(self) -> list[Command]:
        if self._reservation is None or self._leases or self._unready_asked or not self.welcomed:
            return []
        self._unready_asked = True
        return [BecomeUnready()]

    def unready(self) -> None:
        """The readiness probe fails from now on: the drain may be confirmed."""
        self._unready = True

    # ------------------------------------------------------------ sending

    def next_due(self) -> float | None:
        """When `next_frame` has something to send by the passing of time alone; None while there is
        no stream.
        """
        if not self.welcomed:
            return None
        return min(self._heartbeat_due(), self._leases.report_due())

    def next_frame(self, now: float) -> wire.WorkRequest | None:
        """What to send next, or None. Each frame must be sent, in order, on the open stream."""
        if not self._connected:
            return None
        if not self._hello_sent:
            self._hello_sent = True
            return wire.WorkRequest(hello=self._hello())
        if not self.welcomed or self._goodbye_told:
            return None
        if self._stopping and not self._stop_told:
            self._stop_told = True
            return wire.WorkRequest(
                drain_started=wire.DrainStarted(
                    reason=self._stopping, grace=outcomes.duration(self._stop_grace_seconds)
                )
            )
        # What was told is told late rather than a lease lost: this goes first.
        if now >= self._heartbeat_due():
            self._beat_at = now
            return wire.WorkRequest(heartbeat=wire.Heartbeat(lease_ids=self.leases))
        report = self._leases.take_report(now)
        if report is not None:
            return wire.WorkRequest(progress=report)
        ended = self._leases.take_outcomes()
        credit = self._credit()
        if ended:
            return wire.WorkRequest(outcomes=wire.TaskOutcomes(outcomes=ended, credit=credit))
        if credit:
            return wire.WorkRequest(credit=wire.Credit(slots=credit))
        if self._unready and not self._drained_told and self._reservation is not None:
            self._drained_told = True
            return wire.WorkRequest(drained=wire.Drained(reservation_id=self._reservation))
        if self._stopping and not self._leases:
            self._goodbye_told = True
            return wire.WorkRequest(goodbye=wire.Goodbye(reason=self._stopping))
        return None

    def _heartbeat_due(self) -> float:
        # The first lease long after the last heartbeat makes the next one due at once.
        return self._beat_at + self.heartbeat_seconds * (1 if self._leases else IDLE_INTERVALS)

    def _hello(self) -> wire.Hello:
        who = self.identity
        return wire.Hello(
            pool=who.pool,
            pool_uid=who.pool_uid,
            pod_name=who.pod_name,
            pod_uid=who.pod_uid,
            session_id=self.session_id,
            slots=who.slots,
            task_types=who.task_types,
            revision=who.revision,
            sdk_version=who.sdk_version,
            protocol_version=PROTOCOL_VERSION,
            running=self._leases.of(self.leases),
            draining=bool(self._stopping),
        )

    def _credit(self) -> int:
        if self._stopping or self._reservation is not None or self._unready_asked:
            return 0
        free = self.free_slots - self._granted
        if free > 0:
            self._granted += free
            return free
        return 0
