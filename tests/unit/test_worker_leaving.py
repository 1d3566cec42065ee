"""When a worker that was told to stop may exit: a table of what there is, and when."""

import pytest

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import leaving, session


def subject() -> session.Session:
    made = session.Session(
        session.Identity(
            pool="namespaces/d/pools/p",
            pool_uid="",
            pod_name="pod",
            pod_uid="uid",
            slots=2,
            task_types=(),
            revision="",
            sdk_version="",
        )
    )
    made.opened()
    made.next_frame(0.0)
    made.received(wire.WorkResponse(welcome=wire.Welcome(session_id="s")), 0.0)
    assignment = wire.Assignment(task=task_pb2.Task(), lease=wire.Lease(lease_id="1"))
    made.received(wire.WorkResponse(assignments=wire.Assignments(assignments=[assignment])), 0.0)
    return made


def test_nobody_leaves_unasked() -> None:
    assert not leaving.Leaving(drain_timeout_seconds=10).may_exit(subject(), 1e9)
    assert not leaving.Leaving(drain_timeout_seconds=10).hand_back(1e9)


@pytest.mark.parametrize("connected", [True, False])
def test_an_unacknowledged_outcome_is_waited_for_until_the_end(connected: bool) -> None:
    worker = subject()
    worker.ended("1", wire.TaskOutcome(completed=wire.TaskOutcome.Completed()))
    if not connected:
        worker.broke()
    step = leaving.Leaving(drain_timeout_seconds=10, hand_back_seconds=5)
    step.begin(100.0)
    worker.stop("SIGTERM", 10)
    assert [step.may_exit(worker, now) for now in (100.0, 114.9, 115.0)] == [
        False,
        False,
        True,
    ]
    assert worker.unacknowledged == ["1"]


def test_it_leaves_at_once_with_nothing_to_tell() -> None:
    worker = subject()
    worker.ended("1", wire.TaskOutcome(completed=wire.TaskOutcome.Completed()))
    worker.broke()
    step = leaving.Leaving(drain_timeout_seconds=10)
    step.begin(100.0)
    worker.stop("SIGTERM", 10)
    acks = wire.OutcomeAcks(acks=[wire.OutcomeAck(lease_id="1", accepted=True)])
    worker.received(wire.WorkResponse(outcome_acks=acks), 100.0)
    assert step.may_exit(worker, 100.0)


def test_what_runs_is_handed_back_once_and_not_waited_for_longer() -> None:
    worker = subject()
    step = leaving.Leaving(drain_timeout_seconds=10, hand_back_seconds=5)
    step.begin(100.0)
    worker.stop("SIGTERM", 10)
    assert [step.hand_back(now) for now in (100.0, 109.9, 110.0, 111.0)] == [
        False,
        False,
        True,
        False,
    ]
    assert not step.may_exit(worker, 114.9)
    assert step.may_exit(worker, 115.0)
