"""Frames for and from a worker's session, as its tests write them."""

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import session


def identity(slots: int = 2) -> session.Identity:
    """Of a worker with so many slots."""
    return session.Identity(
        pool="namespaces/default/pools/p",
        pool_uid="uid",
        pod_name="pod",
        pod_uid="pod-uid",
        slots=slots,
        task_types=("digest",),
        revision="r1",
        sdk_version="test",
    )


def welcome(**fields: object) -> wire.WorkResponse:
    """The dispatcher's first frame."""
    return wire.WorkResponse(welcome=wire.Welcome(session_id="s1", **fields))  # type: ignore[arg-type]


def assign(*lease_ids: str, slots: int = 0) -> wire.WorkResponse:
    """Assignments under these leases."""
    return wire.WorkResponse(
        assignments=wire.Assignments(
            assignments=[
                wire.Assignment(
                    task=task_pb2.Task(type="digest", slots=slots),
                    lease=wire.Lease(
                        task=f"t-{each}", lease_id=each, fencing_token=int(each, 16), attempt=1
                    ),
                )
                for each in lease_ids
            ]
        )
    )


def ack(*lease_ids: str) -> wire.WorkResponse:
    """Their outcomes are durable."""
    return wire.WorkResponse(
        outcome_acks=wire.OutcomeAcks(
            acks=[wire.OutcomeAck(lease_id=each, accepted=True) for each in lease_ids]
        )
    )


def drain(reservation_id: str = "r") -> wire.WorkResponse:
    """Take no more work."""
    return wire.WorkResponse(drain=wire.Drain(reservation_id=reservation_id))


def undrain(reservation_id: str = "r") -> wire.WorkResponse:
    """Take work again."""
    return wire.WorkResponse(undrain=wire.Undrain(reservation_id=reservation_id))


def done() -> wire.TaskOutcome:
    """A success."""
    return wire.TaskOutcome(completed=wire.TaskOutcome.Completed(result=b"x"))


def kinds(subject: session.Session, now: float = 0.0) -> list[str]:
    """Everything the session wants to send now."""
    return [frame.WhichOneof("message") or "" for frame in frames(subject, now)]


def frames(subject: session.Session, now: float = 0.0) -> list[wire.WorkRequest]:
    """What `kinds` names."""
    sent = []
    while (frame := subject.next_frame(now)) is not None:
        sent.append(frame)
    return sent


def connected() -> session.Session:
    """Welcomed, with its first credit sent."""
    subject = session.Session(identity())
    subject.opened()
    assert kinds(subject) == ["hello"]
    subject.received(welcome(), 0.0)
    assert [frame.credit.slots for frame in frames(subject)] == [2]
    return subject
