"""What is read byte by byte is what the generated code reads, or is left to it."""

import dataclasses
from typing import Any

import pytest
from google.protobuf import message
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.v1 import task_pb2, task_service_pb2, worker_service_pb2
from penstock_dispatcher.convert import plain, submission, worker_side
from penstock_dispatcher.core import settings as pool_settings
from penstock_dispatcher.core import task as tasks

CONFIG = pool_settings.PoolSettings(name="namespaces/a/pools/b", uid="u")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
KEYS = TEXTS.map(lambda text: text[:16])
PAYLOADS = st.binary(min_size=1, max_size=300)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


TASKS = st.builds(
    task_pb2.Task,
    type=TEXTS,
    payload=maybe(PAYLOADS),
    content_type=maybe(TEXTS),
    priority=maybe(st.integers(0, 2**31 - 1)),
    fairness_key=maybe(KEYS),
)
REQUESTS = st.builds(task_service_pb2.SubmitTaskRequest, task=TASKS, request_id=maybe(TEXTS))
BATCHES = st.builds(
    task_service_pb2.BatchSubmitTasksRequest,
    parent=st.just(CONFIG.name),
    requests=st.lists(REQUESTS, max_size=5),
)
DURATIONS = st.integers(0, 10**12).map(lambda ns: {"seconds": ns // 10**9, "nanos": ns % 10**9})
COMPLETED = st.builds(
    worker_service_pb2.TaskOutcome.Completed, result=maybe(PAYLOADS), content_type=maybe(TEXTS)
)
OUTCOMES = st.builds(
    worker_service_pb2.TaskOutcome,
    lease_id=TEXTS,
    fencing_token=st.integers(1, 2**63 - 1),
    execution_time=maybe(DURATIONS),
    completed=COMPLETED,
)
FRAMES = st.builds(
    worker_service_pb2.WorkRequest,
    outcomes=st.builds(
        worker_service_pb2.TaskOutcomes,
        outcomes=st.lists(OUTCOMES, max_size=5),
        credit=st.integers(0, 2**31 - 1),
    ),
)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 2**16), st.sampled_from(["flip", "drop", "add", "cut"]), st.integers(0, 255)
    ),
    min_size=1,
    max_size=3,
)


def changed(found: bytes, changes: list[tuple[int, str, int]]) -> bytes:
    made = bytearray(found)
    for place, how, byte in changes:
        at = place % (len(made) + 1)
        if how == "add":
            made.insert(at, byte)
        elif how == "cut":
            del made[at:]
        elif at < len(made) and how == "drop":
            del made[at]
        elif at < len(made):
            made[at] = byte
    return bytes(made)


def without_ids(wanted: tasks.Submission) -> dict[str, Any]:
    found = dataclasses.asdict(wanted)
    assert found.pop("task_id") == found.pop("uid") != ""
    return found


def generated(data: bytes) -> list[dict[str, Any]]:
    """What the other way makes of a batch. Raises what it raises."""
    batch = task_service_pb2.BatchSubmitTasksRequest.FromString(data)
    assert not batch.atomic
    assert batch.SerializeToString(deterministic=True) == data, "nothing is lost, nothing is moved"
    assert not any(each.parent or each.validate_only for each in batch.requests)
    return [
        without_ids(submission.submission(each, CONFIG, submission.TaskIds()))
        for each in batch.requests
    ]


def check_batch(data: bytes) -> bool:
    """Whether it was plain."""
    found = plain.batch(data, submission.TaskIds())
    if found is None:
        return False
    assert found.parent == task_service_pb2.BatchSubmitTasksRequest.FromString(data).parent
    assert [without_ids(wanted) for wanted in found.wanted] == generated(data)
    return True


def check_frame(data: bytes) -> bool:
    found = plain.ended(data)
    if found is None:
        return False
    frame = worker_service_pb2.WorkRequest.FromString(data)
    assert frame.WhichOneof("message") == "outcomes"
    assert found.outcomes == [worker_side.outcome_of(each) for each in frame.outcomes.outcomes]
    assert found.credit == frame.outcomes.credit
    return True


@given(batch=BATCHES)
@settings(deadline=None)
def test_a_plain_batch_is_what_the_generated_code_reads(
    batch: task_service_pb2.BatchSubmitTasksRequest,
) -> None:
    assert check_batch(batch.SerializeToString())


@given(batch=BATCHES, changes=CHANGES)
@settings(deadline=None, max_examples=1000)
def test_a_batch_with_anything_odd_is_left_to_it(
    batch: task_service_pb2.BatchSubmitTasksRequest, changes: list[tuple[int, str, int]]
) -> None:
    check_batch(changed(batch.SerializeToString(), changes))


@given(frame=FRAMES)
@settings(deadline=None)
def test_plain_outcomes_are_what_the_generated_code_reads(
    frame: worker_service_pb2.WorkRequest,
) -> None:
    assert check_frame(frame.SerializeToString())


@given(frame=FRAMES, changes=CHANGES)
@settings(deadline=None, max_examples=1000)
def test_outcomes_with_anything_odd_are_left_to_it(
    frame: worker_service_pb2.WorkRequest, changes: list[tuple[int, str, int]]
) -> None:
    check_frame(changed(frame.SerializeToString(), changes))


LONG = "x" * 129


@pytest.mark.parametrize(
    "request_",
    [
        {"task": {"type": ""}},
        {"task": {"type": LONG}},
        {"task": {"type": "t", "priority": -1}},
        {"task": {"type": "t", "fairness_key": "é" * 33}},
        {"task": {"type": "t", "content_type": "x" * 257}},
        {"task": {"type": "t", "labels": {"a": "b"}}},
        {"task": {"type": "t", "name": "n"}},
        {"task": {"type": "t", "result": b"r"}},
        {"task": {"type": "t"}, "request_id": LONG},
        {"task": {"type": "t"}, "task_id": "a"},
        {"task": {"type": "t"}, "parent": "namespaces/a/pools/b"},
        {"task": {"type": "t"}, "validate_only": True},
        {"task": {"type": "t"}, "admission": 2},
        {"task": {"type": "t"}, "max_queue_time": {"seconds": 1}},
        {"request_id": "r"},
    ],
)
def test_a_batch_with_something_to_check_is_left_to_it(request_: dict[str, Any]) -> None:
    usual = {"task": {"type": "t"}}
    for requests in ([request_], [usual, request_], [request_, usual]):
        batch = task_service_pb2.BatchSubmitTasksRequest(parent="p", requests=requests)  # type: ignore[arg-type]
        assert plain.batch(batch.SerializeToString(), submission.TaskIds()) is None


def test_all_or_none_is_left_to_it() -> None:
    batch = task_service_pb2.BatchSubmitTasksRequest(
        requests=[{"task": {"type": "t"}}],  # type: ignore[list-item]
        atomic=True,
    )
    assert plain.batch(batch.SerializeToString(), submission.TaskIds()) is None


@pytest.mark.parametrize(
    "outcome",
    [
        {},
        {"failed": {"retryable": True}},
        {"released": {}},
        {"cancelled": {}},
        {"completed": {"content_type": "x" * 257}},
        {"completed": {"result": b"x" * (worker_side.RESULT_BYTES_MAX + 1)}},
        {"completed": {}, "execution_time": {"seconds": -1}},
        {"completed": {}, "execution_time": {"seconds": 2**40}},
        {"completed": {}, "fencing_token": -1},
    ],
)
def test_other_outcomes_are_left_to_it(outcome: dict[str, Any]) -> None:
    usual = {"lease_id": "a", "fencing_token": 1, "completed": {}}
    odd = {"lease_id": "a", "fencing_token": 1, **outcome}
    for outcomes in ([odd], [usual, odd], [odd, usual]):
        frame = worker_service_pb2.WorkRequest(outcomes={"outcomes": outcomes})  # type: ignore[arg-type]
        assert plain.ended(frame.SerializeToString()) is None


def test_other_frames_are_left_to_it() -> None:
    for frame in (
        worker_service_pb2.WorkRequest(hello={"pool": "p"}),  # type: ignore[arg-type]
        worker_service_pb2.WorkRequest(heartbeat={"lease_ids": ["a"]}),  # type: ignore[arg-type]
        worker_service_pb2.WorkRequest(),
    ):
        assert plain.ended(frame.SerializeToString()) is None


@pytest.mark.parametrize("bad", [b"", b"\xff", b"\x12\x80", b"\x2a\x05\x0a", b"\x0a\x01\xff"])
def test_what_nobody_can_read_is_left_to_it(bad: bytes) -> None:
    assert plain.batch(bad, submission.TaskIds()) is None
    assert plain.ended(bad) is None


def test_a_message_that_is_refused_is_not_taken() -> None:
    odd = b"\x12\x06\x12\x04\x22\x02\xc3\x28"  # a type that is not UTF-8
    with pytest.raises(message.DecodeError):
        task_service_pb2.BatchSubmitTasksRequest.FromString(odd)
    assert plain.batch(odd, submission.TaskIds()) is None
