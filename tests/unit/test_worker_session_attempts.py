"""What a worker's session does with tasks of several slots, and with what attempts tell."""

import pytest

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import session
from rig import worker_sessions

identity = worker_sessions.identity
welcome = worker_sessions.welcome
assign = worker_sessions.assign
done = worker_sessions.done
kinds = worker_sessions.kinds
frames = worker_sessions.frames


@pytest.fixture
def connected() -> session.Session:
    """Welcomed, with its first credit sent."""
    return worker_sessions.connected()


def wide(slots: int) -> session.Session:
    """Welcomed, with its first credit sent."""
    subject = session.Session(identity(slots))
    subject.opened()
    frames(subject)
    subject.received(welcome(), 0.0)
    assert [frame.credit.slots for frame in frames(subject)] == [slots]
    return subject


def test_a_task_of_several_slots_takes_and_gives_back_so_many() -> None:
    subject = wide(5)
    commands = subject.received(assign("1", slots=3), 0.0)
    assert [type(each) for each in commands] == [session.Start]
    assert subject.free_slots == 2
    assert frames(subject) == [], "the other two were granted already"
    subject.ended("1", done())
    (frame,) = frames(subject)
    assert frame.outcomes.credit == 3


def test_no_more_slots_than_there_are() -> None:
    subject = wide(5)
    subject.received(assign("1", slots=3), 0.0)
    assert subject.received(assign("2", slots=3), 0.0) == []
    (frame,) = frames(subject)
    (outcome,) = frame.outcomes.outcomes
    assert (outcome.lease_id, outcome.WhichOneof("outcome")) == ("2", "released")
    assert "takes 3" in outcome.released.reason
    assert frame.outcomes.credit == 2, "its two granted slots are granted anew"
    assert subject.running == ["1"]


def test_what_runs_keeps_its_slots_over_a_new_stream() -> None:
    subject = wide(5)
    subject.received(assign("1", slots=3), 0.0)
    subject.broke()
    subject.opened()
    (hello,) = frames(subject)
    assert [lease.lease_id for lease in hello.hello.running] == ["1"]
    subject.received(welcome(), 0.0)
    assert [frame.credit.slots for frame in frames(subject)] == [2]


def test_a_lost_lease_keeps_its_slots_until_its_work_has_stopped() -> None:
    subject = wide(5)
    subject.received(assign("1", slots=3), 0.0)
    lost = wire.WorkResponse(lease_state=wire.LeaseState(lost_lease_ids=["1"]))
    assert [type(each) for each in subject.received(lost, 0.0)] == [session.Stop]
    assert subject.free_slots == 2
    assert frames(subject) == []
    subject.ended("1", done())
    assert [frame.credit.slots for frame in frames(subject)] == [3]


def progress(fraction: float, checkpoint: bytes = b"") -> task_pb2.Progress:
    return task_pb2.Progress(fraction=fraction, checkpoint=checkpoint)


def told(frame: wire.WorkRequest) -> tuple[str, float, bytes]:
    inner = frame.progress
    return inner.lease_id, inner.progress.fraction, inner.progress.checkpoint


def test_a_heartbeat_goes_before_what_is_told(connected: session.Session) -> None:
    connected.received(worker_sessions.assign("1"), 0.0)
    connected.progressed("1", progress(0.1))
    assert kinds(connected, 5.0) == ["heartbeat", "progress"]


def test_progress_goes_out_once_a_second_and_lease_the_newest_of_all(
    connected: session.Session,
) -> None:
    connected.received(assign("1", "2"), 0.0)
    connected.progressed("1", progress(0.1, b"a"))
    connected.progressed("1", progress(0.2))
    connected.progressed("2", progress(0.7))
    assert [told(frame) for frame in frames(connected, 1.0)] == [("1", 0.2, b"a"), ("2", 0.7, b"")]
    connected.progressed("1", progress(0.3, b"b"))
    connected.progressed("1", progress(0.4))
    assert frames(connected, 1.9) == []
    assert connected.next_due() == 2.0
    assert [told(frame) for frame in frames(connected, 2.0)] == [("1", 0.4, b"b")]
    assert connected.next_due() == 5.0, "the heartbeat"


def test_what_was_told_last_goes_out_before_the_outcome(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.progressed("1", progress(0.1, b"a"))
    frames(connected, 1.0)
    connected.progressed("1", progress(0.2, b"b"))
    connected.ended("1", done())
    first, second = frames(connected, 1.1)
    assert told(first) == ("1", 0.2, b"b")
    assert second.WhichOneof("message") == "outcomes"
    connected.progressed("1", progress(0.9))
    assert frames(connected, 3.0) == [], "its attempt is over"


def test_a_new_stream_is_told_the_newest_again(connected: session.Session) -> None:
    connected.received(assign("1", "2"), 0.0)
    connected.progressed("1", progress(0.1, b"a"))
    frames(connected, 1.0)
    connected.broke()
    connected.progressed("1", progress(0.2))
    connected.ended("1", done())
    connected.opened()
    assert kinds(connected, 1.0) == ["hello"]
    connected.received(welcome(), 1.0)
    first, second = frames(connected, 1.0)
    assert told(first) == ("1", 0.2, b"a")
    assert second.WhichOneof("message") == "outcomes"


def test_nothing_is_told_of_a_lease_that_was_lost(connected: session.Session) -> None:
    connected.received(assign("1"), 0.0)
    connected.progressed("1", progress(0.1, b"a"))
    lost = wire.LeaseState(lost_lease_ids=["1"])
    connected.received(wire.WorkResponse(lease_state=lost), 0.0)
    connected.progressed("1", progress(0.2, b"b"))
    assert frames(connected, 1.0) == []
    assert connected.next_due() == 5.0
