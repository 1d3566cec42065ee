"""The worker's session against a naive dispatcher, whatever the order of events."""

from hypothesis import settings as hypothesis_settings
from hypothesis import stateful
from hypothesis import strategies as st

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import session

SLOTS = 5
WORK_MIN = 5
"""Tasks given and things told before streams break, or the worker is to leave."""


class SessionMachine(stateful.RuleBasedStateMachine):
    """The dispatcher here keeps the rules; the session must keep its own, and lose nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.session = session.Session(
            session.Identity(
                pool="namespaces/d/pools/p",
                pool_uid="",
                pod_name="pod",
                pod_uid="uid",
                slots=SLOTS,
                task_types=(),
                revision="",
                sdk_version="",
            )
        )
        self.now = 0.0
        self.open = self.greeted = False
        self.credit = 0
        self.tokens = 0
        self.sizes: dict[str, int] = {}  # slots of every lease
        self.outstanding: set[str] = set()  # assigned, no outcome received on any stream
        self.received: set[str] = set()  # outcome received, not acknowledged
        self.running: set[str] = set()  # what the shell runs
        self.saved: dict[str, bytes] = {}  # newest checkpoint of every lease, as told
        self.kept: dict[str, bytes] = {}  # as the dispatcher has it
        self.reported: dict[str, float] = {}  # when, of leases that have not ended
        self.draining = self.drained = self.goodbye = False

    @property
    def worked(self) -> bool:
        """Enough has happened for what ends it all."""
        return self.tokens >= WORK_MIN

    def commands(self, commands: list[session.Command]) -> None:
        for command in commands:
            match command:
                case session.Start(assignment):
                    assert assignment.lease.lease_id not in self.running
                    self.running.add(assignment.lease.lease_id)
                case session.BecomeUnready():
                    assert not self.running, "not ready while work runs"
                    self.session.unready()

    @stateful.precondition(lambda self: not self.open and not self.goodbye)
    @stateful.rule()
    def connect(self) -> None:
        self.session.opened()
        self.open, self.greeted, self.credit = True, False, 0
        self.reported = {}

    @stateful.precondition(lambda self: self.open and self.worked)
    @stateful.rule(lost=st.booleans())
    def lose_stream(self, *, lost: bool) -> None:
        if lost:
            # What was on it, too.
            for lease_id in self.outstanding:
                self.kept.pop(lease_id, None)
        self.session.broke()
        self.open = self.greeted = False
        self.credit = 0

    @stateful.precondition(lambda self: self.open and self.worked)
    @stateful.rule(lost=st.booleans())
    def reconnect(self, *, lost: bool) -> None:
        self.lose_stream(lost=lost)
        if not self.goodbye:
            self.connect()
        for _ in range(SLOTS):
            self.write()

    @stateful.precondition(lambda self: self.open)
    @stateful.rule()
    def write(self) -> None:
        if not self.open:
            return
        frame = self.session.next_frame(self.now)
        if frame is None:
            return
        match frame.WhichOneof("message"):
            case "hello":
                named = {lease.lease_id for lease in frame.hello.running}
                # An assignment that never arrived is not named; everything that runs is.
                assert self.running & self.outstanding <= named
                assert named <= self.outstanding | self.received
                self.outstanding &= named
                self.greeted = True
                self.commands(
                    self.session.received(
                        wire.WorkResponse(welcome=wire.Welcome(session_id="s")), self.now
                    )
                )
            case "credit":
                self.grant(frame.credit.slots)
            case "progress":
                lease_id = frame.progress.lease_id
                assert lease_id in self.outstanding | self.received
                if lease_id in self.running:
                    assert self.now >= self.reported.get(lease_id, -1.0) + 1.0, "once a second"
                    self.reported[lease_id] = self.now
                if frame.progress.progress.checkpoint:
                    self.kept[lease_id] = frame.progress.progress.checkpoint
            case "outcomes":
                for outcome in frame.outcomes.outcomes:
                    newest = self.saved.get(outcome.lease_id)
                    assert self.kept.get(outcome.lease_id) == newest, "saved, and never sent"
                    assert outcome.lease_id not in self.running, "an outcome while it runs"
                    assert outcome.lease_id in self.outstanding | self.received
                    self.outstanding.discard(outcome.lease_id)
                    self.received.add(outcome.lease_id)
                self.grant(frame.outcomes.credit)
            case "drained":
                assert not self.running
                assert not self.received, "drained with unacknowledged outcomes"
                self.drained = True
            case "goodbye":
                assert not self.running
                assert not self.received
                self.goodbye = True

    def grant(self, slots: int) -> None:
        assert slots >= 0
        if self.draining:
            return  # sent before the Drain was seen
        self.credit += slots
        taken = sum(self.sizes[lease_id] for lease_id in self.outstanding)
        assert self.credit + taken <= SLOTS, "credit for a slot that is taken"

    @stateful.precondition(lambda self: self.greeted and self.credit and not self.draining)
    @stateful.rule(sizes=st.lists(st.integers(0, SLOTS), min_size=1, max_size=SLOTS))
    def assign(self, sizes: list[int]) -> None:
        assignments = []
        for size in sizes:
            if max(1, size) > self.credit:
                continue
            self.credit -= max(1, size)
            self.tokens += 1
            lease = wire.Lease(lease_id=f"{self.tokens:x}", fencing_token=self.tokens)
            self.sizes[lease.lease_id] = max(1, size)
            self.outstanding.add(lease.lease_id)
            assignments.append(wire.Assignment(task=task_pb2.Task(slots=size), lease=lease))
        frame = wire.WorkResponse(assignments=wire.Assignments(assignments=assignments))
        self.commands(self.session.received(frame, self.now))

    @stateful.precondition(lambda self: bool(self.running))
    @stateful.rule(data=st.data(), last_words=st.integers(0, 2))
    def finish(self, data: st.DataObject, last_words: int) -> None:
        lease_id = data.draw(st.sampled_from(sorted(self.running)))
        for _ in range(last_words):
            self.say(lease_id, saves=True)
        self.running.discard(lease_id)
        done = wire.TaskOutcome(completed=wire.TaskOutcome.Completed())
        self.commands(self.session.ended(lease_id, done))
        self.write()

    @stateful.precondition(lambda self: bool(self.running))
    @stateful.rule(data=st.data(), saves=st.booleans())
    def tell(self, data: st.DataObject, *, saves: bool) -> None:
        self.say(data.draw(st.sampled_from(sorted(self.running))), saves=saves)

    def say(self, lease_id: str, *, saves: bool) -> None:
        progress = task_pb2.Progress(fraction=0.5)
        if saves:
            self.tokens += 1
            progress.checkpoint = self.saved[lease_id] = str(self.tokens).encode()
        self.session.progressed(lease_id, progress)
        self.write()

    @stateful.precondition(lambda self: self.greeted and bool(self.received))
    @stateful.rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        lease_id = data.draw(st.sampled_from(sorted(self.received)))
        self.received.discard(lease_id)
        acks = wire.OutcomeAcks(acks=[wire.OutcomeAck(lease_id=lease_id, accepted=True)])
        self.commands(self.session.received(wire.WorkResponse(outcome_acks=acks), self.now))

    @stateful.precondition(lambda self: self.greeted and self.worked and not self.draining)
    @stateful.rule()
    def drain(self) -> None:
        self.draining, self.credit = True, 0
        frame = wire.WorkResponse(drain=wire.Drain(reservation_id="r"))
        self.commands(self.session.received(frame, self.now))

    @stateful.precondition(lambda self: self.worked)
    @stateful.rule()
    def stop(self) -> None:
        self.session.stop("SIGTERM", 1.0)

    @stateful.rule(seconds=st.floats(0.1, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @stateful.invariant()
    def never_more_than_the_slots(self) -> None:
        taken = sum(self.sizes[lease_id] for lease_id in self.running)
        assert taken + self.session.free_slots <= SLOTS
        assert self.session.free_slots >= 0
        assert set(self.session.running) >= self.running


SessionMachine.TestCase.settings = hypothesis_settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
TestSession = SessionMachine.TestCase
