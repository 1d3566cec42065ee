"""The worker's session, transition by transition: what comes in, what goes out."""

import pytest

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import leased, session
from rig import worker_sessions

identity = worker_sessions.identity
welcome = worker_sessions.welcome
assign = worker_sessions.assign
ack = worker_sessions.ack
drain = worker_sessions.drain
undrain = worker_sessions.undrain
done = worker_sessions.done
kinds = worker_sessions.kinds
frames = worker_sessions.frames


@pytest.fixture
def connected() -> session.Session:
    """Welcomed, with its first credit sent."""
    return worker_sessions.connected()


def test_hello_comes_first_and_nothing_before_welcome() -> None:
    subject = session.Session(identity())
    assert subject.next_frame(0.0) is None
    subject.opened()
    (hello,) = frames(subject)
    assert hello.hello.pool == "namespaces/default/pools/p"
    assert hello.hello.slots == 2
    assert hello.hello.protocol_version == 1
    assert subject.next_due() is None


def test_credit_is_granted_once_a_slot(connected: session.Session) -> None:
    assert frames(connected) == []
    commands = connected.received(assign("1"), 0.0)
    assert [type(each) for each in commands] == [session.Start]
    assert frames(connected) == []
    connected.ended("1", done())
    (frame,) = frames(connected)
    assert frame.outcomes.outcomes[0].fencing_token == 1
    assert frame.outcomes.credit == 1


def test_what_gathered_goes_in_one_frame(connected: session.Session) -> None:
    connected.received(assign("1", "2"), 0.0)
    connected.ended("1", done())
    connected.ended("2", done())
    (frame,) = frames(connected)
    assert len(frame.outcomes.outcomes) == 2
    assert frame.outcomes.credit == 2


def test_large_results_are_split_over_frames() -> None:
    subject = session.Session(identity(slots=3))
    subject.opened()
    frames(subject)
    subject.received(welcome(), 0.0)
    frames(subject)
    subject.received(assign("1", "2", "3"), 0.0)
    big = b"x" * (leased.OUTCOME_BYTES_PER_FRAME - 10)
    for each in ("1", "2", "3"):
        subject.ended(each, wire.TaskOutcome(completed=wire.TaskOutcome.Completed(result=big)))
    assert [len(frame.outcomes.outcomes) for frame in frames(subject)] == [1, 1, 1]


def test_an_assignment_beyond_the_slots_is_handed_back(connected: session.Session) -> None:
    commands = connected.received(assign("1", "2", "3"), 0.0)
    assert len(commands) == 2
    (frame,) = frames(connected)
    assert frame.outcomes.outcomes[0].lease_id == "3"
    assert frame.outcomes.outcomes[0].WhichOneof("outcome") == "released"


def test_a_repeated_assignment_starts_nothing(connected: session.Session) -> None:
    assert connected.received(assign("1"), 0.0)
    assert connected.received(assign("1"), 0.0) == []
    assert connected.running == ["1"]


def test_an_outcome_is_sent_again_until_acknowledged(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.ended("1", done())
    assert kinds(connected) == ["outcomes"]
    connected.broke()
    connected.opened()
    (hello,) = frames(connected)
    assert hello.hello.session_id == "s1"
    assert [lease.lease_id for lease in hello.hello.running] == ["1"]
    connected.received(welcome(), 0.0)
    sent = frames(connected)
    assert [each.lease_id for each in sent[0].outcomes.outcomes] == ["1"]
    assert sent[0].outcomes.credit == 2
    connected.received(ack("1"), 0.0)
    assert connected.unacknowledged == []


def test_running_work_outlives_the_stream_and_takes_no_credit(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.broke()
    connected.opened()
    frames(connected)
    connected.received(welcome(), 0.0)
    assert [frame.credit.slots for frame in frames(connected)] == [1]


def test_a_revoked_lease_is_stopped_and_its_outcome_dropped(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.broke()
    connected.opened()
    frames(connected)
    commands = connected.received(welcome(revoked_lease_ids=["1"]), 0.0)
    assert [(type(each), each.lease_id) for each in commands] == [(session.Stop, "1")]  # type: ignore[union-attr]
    assert [frame.credit.slots for frame in frames(connected)] == [1], "its slot is still taken"
    connected.ended("1", done())
    assert [frame.WhichOneof("message") for frame in frames(connected)] == ["credit"]
    assert connected.leases == []


def test_a_lost_lease_whose_outcome_is_ready_is_forgotten(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.ended("1", done())
    lost = wire.WorkResponse(lease_state=wire.LeaseState(lost_lease_ids=["1"]))
    assert connected.received(lost, 0.0) == []
    assert connected.unacknowledged == []


def test_cancel_asks_for_a_stop(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    cancel = wire.WorkResponse(cancel=wire.CancelLease(lease_id="1", reason="because"))
    assert connected.received(cancel, 0.0) == [session.Stop("1", "because")]
    assert connected.received(cancel, 0.0), "asking again is harmless"
    connected.ended("1", done())
    assert connected.received(cancel, 0.0) == []


def test_heartbeats_name_what_is_answered_for(connected: session.Session) -> None:
    connected.received(assign("1", "2"), 0.0)
    connected.ended("2", done())
    frames(connected)
    assert connected.next_due() == 5.0
    assert frames(connected, 4.9) == []
    (frame,) = frames(connected, 5.0)
    assert list(frame.heartbeat.lease_ids) == ["1", "2"]
    assert connected.next_due() == 10.0


def test_a_worker_that_answers_for_nothing_beats_every_third_interval(
    connected: session.Session,
) -> None:
    frames(connected)
    assert connected.next_due() == 15.0
    assert frames(connected, 14.9) == []
    (frame,) = frames(connected, 15.0)
    assert list(frame.heartbeat.lease_ids) == []
    assert connected.next_due() == 30.0
    connected.received(assign("1"), 22.0)
    (frame,) = frames(connected, 22.0)
    assert list(frame.heartbeat.lease_ids) == ["1"], "the lease began long after the last heartbeat"
    assert connected.next_due() == 27.0
    connected.ended("1", done())
    frames(connected, 23.0)
    assert connected.next_due() == 27.0, "its outcome is not acknowledged"
    connected.received(ack("1"), 23.0)
    assert connected.next_due() == 37.0


def test_drain_is_confirmed_after_work_acks_and_readiness(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    assert connected.received(drain(), 0.0) == []
    assert connected.ended("1", done()) == []
    (frame,) = frames(connected)
    assert frame.outcomes.credit == 0, "a draining worker grants nothing"
    assert connected.received(ack("1"), 0.0) == [session.BecomeUnready()]
    assert frames(connected) == [], "not before the probe fails"
    connected.unready()
    (frame,) = frames(connected)
    assert frame.drained.reservation_id == "r"
    assert frames(connected) == [], "once"


def test_an_undrained_worker_grants_credit_anew(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.received(drain(), 0.0)
    connected.received(undrain(), 0.0)
    assert [frame.credit.slots for frame in frames(connected)] == [1]
    connected.ended("1", done())
    assert kinds(connected) == ["outcomes"]


def test_undrain_comes_too_late_once_readiness_went_off(connected: session.Session) -> None:
    assert connected.received(drain(), 0.0) == [session.BecomeUnready()]
    connected.received(undrain(), 0.0)
    connected.unready()
    assert kinds(connected) == ["drained"]
    assert connected.drained
    assert connected.received(assign("1"), 0.0) == []
    (frame,) = frames(connected)
    assert frame.outcomes.outcomes[0].WhichOneof("outcome") == "released"


def reopened(subject: session.Session) -> list[str]:
    """Its stream breaks, and it introduces itself on another one."""
    subject.broke()
    subject.opened()
    return kinds(subject)


def test_a_drained_worker_says_so_again_after_a_reconnect(connected: session.Session) -> None:
    connected.received(drain(), 0.0)
    connected.unready()
    frames(connected)
    assert reopened(connected) == ["hello"]
    connected.received(welcome(), 0.0)
    assert kinds(connected) == ["drained"]


def test_a_drain_that_is_over_may_not_have_been_told(connected: session.Session) -> None:
    """It was taken back while the stream was broken, or the dispatcher has forgotten it."""
    connected.received(assign("1"), 0.0)
    connected.received(drain(), 0.0)
    reopened(connected)
    connected.received(welcome(), 0.0)
    assert [frame.credit.slots for frame in frames(connected)] == [1]
    connected.ended("1", done())
    assert connected.received(ack("1"), 0.0) == []


def test_a_drain_that_stands_is_told_again(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.received(drain(), 0.0)
    reopened(connected)
    for frame in (welcome(), drain()):
        connected.received(frame, 0.0)
    connected.ended("1", done())
    frames(connected)
    assert connected.received(ack("1"), 0.0) == [session.BecomeUnready()]


def test_stopping_tells_finishes_and_says_goodbye(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.stop("SIGTERM", 30.0)
    (frame,) = frames(connected)
    assert frame.drain_started.reason == "SIGTERM"
    assert frame.drain_started.grace.seconds == 30
    assert not connected.finished
    assert kinds(connected, 5.0) == ["heartbeat"], "heartbeats go on"
    connected.ended("1", done())
    (frame,) = frames(connected)
    assert frame.outcomes.credit == 0
    assert not connected.finished, "the outcome is not acknowledged"
    connected.received(ack("1"), 0.0)
    assert kinds(connected) == ["goodbye"]
    assert connected.finished


def test_what_crosses_the_goodbye_is_not_waited_for(connected: session.Session) -> None:
    """The dispatcher takes it back with the goodbye: an outcome would have nobody to go to."""
    connected.stop("SIGTERM", 30)
    assert kinds(connected) == ["drain_started", "goodbye"]
    assert connected.received(assign("a"), 0.0) == []
    assert connected.finished


def test_stopping_without_a_stream_and_without_work_is_finished() -> None:
    subject = session.Session(identity())
    subject.stop("SIGTERM", 30.0)
    assert subject.finished


def test_a_worker_that_stops_says_so_in_its_next_hello(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.broke()
    connected.stop("SIGTERM", 30.0)
    connected.opened()
    (hello,) = frames(connected)
    assert hello.hello.draining
    connected.received(welcome(), 0.0)
    assert kinds(connected) == ["drain_started"]


def test_go_away_reconnects_and_keeps_the_work(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    frame = wire.WorkResponse(go_away=wire.GoAway(reason="upgrade"))
    frame.go_away.reconnect_after.nanos = 500_000_000
    assert connected.received(frame, 0.0) == [session.Reconnect(0.5, "upgrade")]
    assert connected.running == ["1"]


def test_a_forgotten_session_introduces_itself_as_new(connected: session.Session) -> None:
    connected.broke()
    connected.forget_session()
    connected.opened()
    (hello,) = frames(connected)
    assert hello.hello.session_id == ""


def test_the_grace_is_what_the_dispatcher_said_last(connected: session.Session) -> None:
    assert connected.grace_seconds == session.GRACE_SECONDS_DEFAULT
    connected.received(welcome(cancel_grace={"seconds": 3}), 0.0)
    assert connected.grace_seconds == 3
    connected.received(assign("1"), 0.0)
    cancel = wire.CancelLease(lease_id="1", grace={"nanos": 500_000_000})
    assert connected.received(wire.WorkResponse(cancel=cancel), 0.0)
    assert connected.grace_seconds == 0.5
    connected.received(welcome(cancel_grace={"seconds": 0}), 0.0)
    assert connected.grace_seconds == 0
