"""What is kept of a submission: what was checked, and nothing else."""

from typing import Any

import pytest

from penstock.v1 import task_pb2, task_service_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.convert import submission
from penstock_dispatcher.core import settings
from penstock_dispatcher.core import task as tasks

CONFIG = settings.PoolSettings(name="namespaces/a/pools/b", uid="u")
UNKNOWN = b"\xfa\x3e\x80\x40" + b"x" * 8192
"""Field 1007, 8 KiB: of no version of a Task."""


def submitted(task: task_pb2.Task) -> tasks.Submission:
    request = task_service_pb2.SubmitTaskRequest(task=task)
    return submission.submission(request, CONFIG, submission.TaskIds())


def test_unknown_fields_are_not_kept() -> None:
    task = task_pb2.Task(type="t", payload=b"p", retry_policy={"max_attempts": 2})
    plain = submitted(task_pb2.Task.FromString(task.SerializeToString())).body
    odd = task_pb2.Task.FromString(task.SerializeToString() + UNKNOWN)
    odd.retry_policy.MergeFromString(UNKNOWN)
    assert odd.ByteSize() > 2 * 8192
    assert submitted(odd).body == plain


@pytest.mark.parametrize(
    "hidden",
    [
        b"\x72\x80\x80\x40" + b"x" * 2**20,  # a megabyte, where the number of slots should be
        b"\x28\x05",  # a number, where the payload should be
        b"\x2b\x2c",
        b"\xfb\x3e\xfc\x3e",  # groups
        UNKNOWN,
    ],
)
def test_nothing_comes_along_unseen(hidden: bytes) -> None:
    task = task_pb2.Task(type="t", payload=b"p")
    odd = task_pb2.Task.FromString(task.SerializeToString() + hidden)
    found = submitted(odd)
    assert found.body == task.SerializeToString()
    assert found.size == 1


def test_fields_of_the_dispatcher_are_not_kept() -> None:
    task = task_pb2.Task(type="t", result=b"r" * 1000, worker="w", attempt=7)
    assert submitted(task).body == task_pb2.Task(type="t").SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_the_size_is_that_of_the_payload(size: int) -> None:
    task = task_pb2.Task(type="t", payload=b"x" * size, priority=0, slots=2)
    found = submitted(task)
    assert (found.size, found.priority, found.slots) == (size, 0, 2)


def test_a_fingerprint_depends_on_body_and_id_and_nothing_else() -> None:
    def of(task_id: str, **fields: Any) -> int:
        request = task_service_pb2.SubmitTaskRequest(
            task=task_pb2.Task(type="t", **fields), task_id=task_id, request_id="r"
        )
        return submission.submission(request, CONFIG, submission.TaskIds()).fingerprint

    labels = {"a": "1", "b": "2"}
    backwards = dict(reversed(labels.items()))
    assert of("", labels=labels) == of("", labels=backwards)
    others = {of("", payload=b"x"), of("", payload=b"y"), of("x", payload=b"x"), of("")}
    assert len(others) == 4
    # Journals know them: they must be the same in every version.
    assert of("", payload=b"x") == 30_070_648_125_248_877
    assert of("x", payload=b"x") == 13_554_940_391_177_059


def test_a_fingerprint_does_not_depend_on_times() -> None:
    def of(**fields: Any) -> int:
        request = task_service_pb2.SubmitTaskRequest(
            task=task_pb2.Task(type="t", payload=b"x", **fields), request_id="r"
        )
        found = submission.submission(request, CONFIG, submission.TaskIds())
        assert (found.not_before != 0) == ("schedule_time" in fields)
        assert found.body == request.task.SerializeToString(deterministic=True)
        return found.fingerprint

    soon, late = {"seconds": 2_000_000_000}, {"seconds": 2_000_000_060}
    same = {of(), of(schedule_time=soon), of(schedule_time=late), of(expire_time=late)}
    assert same == {30_070_648_125_248_877}
    labels = {"a": "1", "b": "2"}
    other = {of(labels=labels), of(labels=labels, schedule_time=soon, expire_time=late)}
    assert len(other) == 1
    assert not other & same


def test_ids_are_unique_and_short() -> None:
    ids = submission.TaskIds()
    made = [ids.next() for _ in range(70_000)]
    assert len(set(made)) == len(made)
    assert all(len(each) <= 63 and each.startswith("t") for each in made)
    assert not set(made) & {submission.TaskIds().next() for _ in range(100)}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"labels": {"k" * 257: "v"}}, "task.labels"),
        ({"trace_context": {"traceparent": "ä" * 513}}, "task.trace_context"),
        ({"trace_context": {str(number): "" for number in range(9)}}, "task.trace_context"),
        ({"content_type": "x" * 257}, "task.content_type"),
        ({"fairness_key": "ä" * 33}, "task.fairness_key"),
        ({"concurrency_key": "ä" * 33}, "task.concurrency_key"),
        (
            {"retry_policy": {"non_retryable_reasons": ["x" * 257]}},
            "task.retry_policy.non_retryable_reasons",
        ),
    ],
)
def test_every_string_is_bounded(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(errors.Refusal) as caught:
        submitted(task_pb2.Task(type="t", **fields))
    assert [bad.field for bad in caught.value.details.fields] == [named]


def test_all_there_can_be_beside_a_payload_is_bounded() -> None:
    task = task_pb2.Task(
        type="ä" * submission.TYPE_CHARS_MAX,
        content_type="x" * submission.CONTENT_TYPE_CHARS_MAX,
        labels={f"{number:0256}": "v" * 256 for number in range(submission.LABELS_MAX)},
        fairness_key="k" * submission.KEY_BYTES_MAX,
        concurrency_key="k" * submission.KEY_BYTES_MAX,
        trace_context={"k": "v" * (submission.TRACE_BYTES_MAX - 1)},
        retry_policy={"non_retryable_reasons": ["x" * 256] * 64},
    )
    assert len(submitted(task).body) < 56 * 1024


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(-1, 2**31 - 1), (1, -999_999_999), (1, 10**9), (-(10**9), 5)]
)
@pytest.mark.parametrize("field", ["max_wait", "max_queue_time", "task.execution_timeout"])
def test_what_is_no_duration_is_named(field: str, seconds: int, nanos: int) -> None:
    request = task_service_pb2.SubmitTaskRequest(
        admission=task_service_pb2.SubmitTaskRequest.WAIT, task=task_pb2.Task(type="t")
    )
    owner, _, name = field.rpartition(".")
    duration = getattr(request.task if owner else request, name)
    duration.seconds, duration.nanos = seconds, nanos
    with pytest.raises(errors.Refusal) as refused:
        submission.submission(request, CONFIG, submission.TaskIds())
    assert f"{field} must have nanos below a second" in refused.value.text
