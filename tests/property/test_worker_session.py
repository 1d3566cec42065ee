"""The worker's session against a naive dispatcher, whatever the order of events."""

from hypothesis import settings as hypothesis_settings
from hypothesis import stateful
from hypothesis import strategies as st

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import session

SLOTS = 5


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
        self.draining = self.drained = self.goodbye = False

    def commands(self, commands: list[session.Command]) -> None:
        for command in commands:
            match command:
                case session.Start(assignment):
                    assert assignment.lease.lease_id not in self.running
                    self.running.add(assignment.lease.lease_id)
                case session.BecomeUnready():
                    assert not self.running, "not ready while work runs"
                    self.session.unready()

    @stateful.rule()
    def connect(self) -> None:
        if not self.open and not self.goodbye:
            self.session.opened()
            self.open, self.greeted, self.credit = True, False, 0

    @stateful.rule()
    def lose_stream(self) -> None:
        if self.open:
            self.session.broke()
            self.open = self.greeted = False
            self.credit = 0

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
            case "outcomes":
                for outcome in frame.outcomes.outcomes:
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

    @stateful.rule(sizes=st.lists(st.integers(0, SLOTS), min_size=1, max_size=SLOTS))
    def assign(self, sizes: list[int]) -> None:
        if not self.greeted or self.draining:
            return
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

    @stateful.rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.running:
            lease_id = data.draw(st.sampled_from(sorted(self.running)))
            self.running.discard(lease_id)
            done = wire.TaskOutcome(completed=wire.TaskOutcome.Completed())
            self.commands(self.session.ended(lease_id, done))

    @stateful.rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        if self.greeted and self.received:
            lease_id = data.draw(st.sampled_from(sorted(self.received)))
            self.received.discard(lease_id)
            acks = wire.OutcomeAcks(acks=[wire.OutcomeAck(lease_id=lease_id, accepted=True)])
            self.commands(self.session.received(wire.WorkResponse(outcome_acks=acks), self.now))

    @stateful.rule()
    def drain(self) -> None:
        if self.greeted and not self.draining:
            self.draining, self.credit = True, 0
            frame = wire.WorkResponse(drain=wire.Drain(reservation_id="r"))
            self.commands(self.session.received(frame, self.now))

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
