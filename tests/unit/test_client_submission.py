"""What is sent for a submission."""

import dataclasses
import datetime as dt
import typing
import uuid

import pytest

import penstock
from penstock import _calls, _submission, errors
from penstock.v1 import task_service_pb2
from penstock_dispatcher.core import settings as core_settings
from penstock_dispatcher.core import units
from penstock_operator import sections

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PARENT = "namespaces/a/pools/b"


def sent(
    submission: penstock.Submission, **terms: typing.Any
) -> task_service_pb2.SubmitTaskRequest:
    return _submission.to_wire(
        submission, parent=PARENT, request_id="made-up", now=lambda: NOW, **terms
    )


def test_the_least_submission() -> None:
    request = sent(penstock.Submission("resize", b"x"))
    assert request.parent == PARENT
    assert (request.task.type, request.task.payload) == ("resize", b"x")
    assert request.request_id == "made-up"
    assert {field.name for field, _ in request.task.ListFields()} == {"type", "payload"}
    assert {field.name for field, _ in request.ListFields()} == {"parent", "task", "request_id"}


def test_every_call_has_a_request_id_of_its_own() -> None:
    calls = [
        _calls.submit(
            penstock.Submission("t"),
            parent=PARENT,
            admission=penstock.Admission.REJECT,
            max_wait=None,
            validate_only=False,
        )
        for _ in range(100)
    ]
    ids = {call.request.request_id for call in calls}  # type: ignore[attr-defined]
    assert len(ids) == 100
    assert all(uuid.UUID(each).version == 4 for each in ids)


def test_everything_that_can_be_said_is_sent() -> None:
    request = sent(
        penstock.Submission(
            "resize",
            penstock.json_payload([1]),
            priority=0,
            labels={"team": "a"},
            task_id="t-1",
            request_id="r-1",
            delay=dt.timedelta(minutes=1),
            expire_time=NOW + dt.timedelta(hours=1),
            execution_timeout=1.5,
            retry_policy=penstock.RetryPolicy(
                max_attempts=2,
                initial_backoff=0.5,
                max_backoff=dt.timedelta(seconds=8),
                backoff_multiplier=3.0,
                jitter=0.25,
                non_retryable_reasons=["ValueError"],
            ),
            fairness_key="f",
            concurrency_key="c",
            slots=2,
            trace_context={"traceparent": "00-x"},
            max_queue_time=7,
        ),
        admission=penstock.Admission.WAIT,
        max_wait=2.25,
        validate_only=True,
    )
    task = request.task
    assert task.HasField("priority")
    assert task.priority == 0
    assert (task.content_type, task.payload) == ("application/json", b"[1]")
    assert dict(task.labels) == {"team": "a"}
    assert task.schedule_time.ToDatetime(dt.UTC) == NOW + dt.timedelta(minutes=1)
    assert task.expire_time.ToDatetime(dt.UTC) == NOW + dt.timedelta(hours=1)
    assert (task.execution_timeout.seconds, task.execution_timeout.nanos) == (1, 500_000_000)
    policy = task.retry_policy
    assert (policy.max_attempts, policy.backoff_multiplier, policy.jitter) == (2, 3.0, 0.25)
    assert policy.initial_backoff.nanos == 500_000_000
    assert policy.max_backoff.seconds == 8
    assert list(policy.non_retryable_reasons) == ["ValueError"]
    assert (task.fairness_key, task.concurrency_key, task.slots) == ("f", "c", 2)
    assert dict(task.trace_context) == {"traceparent": "00-x"}
    assert (request.task_id, request.request_id) == ("t-1", "r-1")
    assert request.admission == task_service_pb2.SubmitTaskRequest.WAIT
    assert (request.max_wait.seconds, request.max_wait.nanos) == (2, 250_000_000)
    assert request.max_queue_time.seconds == 7
    assert request.validate_only


@pytest.mark.parametrize(
    ("submission", "message"),
    [
        (penstock.Submission("t", delay=1, schedule_time=NOW), "delay or schedule_time"),
        (penstock.Submission("t", delay=-1), "delay must be 0 seconds or more"),
        (penstock.Submission("t", execution_timeout=float("inf")), "execution_timeout must be"),
        (penstock.Submission("t", expire_time=NOW.replace(tzinfo=None)), "must have a time zone"),
        (penstock.Submission("t", priority=2**31), "priority must fit 32 bits"),
        (penstock.Submission("t", request_id="r" * 129), "at most 128 characters"),
        (penstock.Submission("t", delay=1e12), "delay must end before"),
        (penstock.Submission("t", delay=1e300), "delay must end before"),
        (penstock.Submission("t", execution_timeout=1e12), "execution_timeout must be at most"),
        (penstock.Submission("t", max_queue_time=1e300), "max_queue_time must be at most"),
    ],
)
def test_what_can_never_be_right_is_refused_before_it_is_sent(
    submission: penstock.Submission, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sent(submission)


LONE = "\ud800"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"type": 5}, "type must be a str, is 5"),
        ({"type": LONE}, "type must be text that UTF-8 can say"),
        ({"task_id": 5}, "task_id must be a str"),
        ({"request_id": 5}, "request_id must be a str"),
        ({"fairness_key": ["a"]}, "fairness_key must be a str"),
        ({"concurrency_key": 1.5}, "concurrency_key must be a str"),
        ({"priority": "3"}, "priority must be an int, is '3'"),
        ({"priority": 1.5}, "priority must be an int"),
        ({"priority": -(2**31) - 1}, "priority must fit 32 bits"),
        ({"slots": "2"}, "slots must be an int, is '2'"),
        ({"slots": None}, "slots must be an int"),
        ({"slots": 2**31}, "slots must fit 32 bits, is 2147483648"),
        ({"slots": "2", "labels": None, "fairness_key": None}, "slots must be an int"),
        ({"slots": 0}, "slots must be at least 1"),
        ({"labels": ["a"]}, "labels must map strings to strings"),
        ({"labels": {"a": None}}, "labels must map strings to strings"),
        ({"labels": {"a": LONE}}, r"labels\['a'\] must be text"),
        ({"labels": {LONE: "a"}}, "a key of labels must be text"),
        ({"trace_context": 5}, "trace_context must map strings to strings"),
        ({"delay": "soon"}, "delay must be seconds or a timedelta, is 'soon'"),
        ({"execution_timeout": [1]}, "execution_timeout must be seconds"),
        ({"max_queue_time": NOW}, "max_queue_time must be seconds"),
        ({"schedule_time": "2030-01-31"}, "schedule_time must be a datetime"),
        ({"expire_time": 1.5}, "expire_time must be a datetime"),
        ({"payload": 5}, "a payload is bytes, str or penstock.Payload"),
        ({"retry_policy": {"max_attempts": 3}}, "retry_policy must be a RetryPolicy"),
        ({"retry_policy": penstock.RetryPolicy(max_attempts=2**31)}, "max_attempts must fit"),
        ({"retry_policy": penstock.RetryPolicy(jitter="x")}, "jitter must be a number"),  # type: ignore[arg-type]
        (
            {"retry_policy": penstock.RetryPolicy(non_retryable_reasons="ValueError")},
            "non_retryable_reasons must be a list",
        ),
    ],
)
def test_what_no_message_can_carry_is_told_by_its_field(
    wrong: dict[str, typing.Any], said: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        sent(penstock.Submission(**{"type": "t", **wrong}))


def test_an_admission_is_one_of_two() -> None:
    wrong: typing.Any
    for wrong in ("WAIT", "REJECT", None, True):
        with pytest.raises(
            TypeError, match=r"admission must be Admission.REJECT or Admission.WAIT"
        ):
            sent(penstock.Submission("t"), admission=wrong)
    with pytest.raises(TypeError, match="max_wait must be seconds"):
        sent(penstock.Submission("t"), admission=penstock.Admission.WAIT, max_wait="long")


@pytest.mark.parametrize("name", ["labels", "trace_context"])
def test_only_strings_go_into_maps(name: str) -> None:
    wrong: dict[str, typing.Any] = {name: {"a": 1}}
    with pytest.raises(TypeError, match=f"{name} must map strings to strings"):
        sent(penstock.Submission("t", **wrong))


def test_what_no_message_can_carry_is_refused_before_it_is_sent() -> None:
    largest = _submission.REQUEST_BYTES_MAX - 100
    assert sent(penstock.Submission("t", bytes(largest))).task.payload
    for wrong in (
        penstock.Submission("t", bytes(_submission.REQUEST_BYTES_MAX)),
        penstock.Submission("t", labels={"a": "x" * _submission.REQUEST_BYTES_MAX}),
    ):
        with pytest.raises(errors.PayloadTooLarge, match="send a reference") as caught:
            sent(wrong)
        assert caught.value.reason == "PAYLOAD_TOO_LARGE"


def test_max_wait_without_waiting_is_refused() -> None:
    with pytest.raises(ValueError, match="max_wait goes with"):
        sent(penstock.Submission("t"), max_wait=1.0)


def test_options_of_submit_are_the_fields_of_a_submission() -> None:
    fields = {field.name for field in dataclasses.fields(penstock.Submission)}
    options = set(penstock.SubmitOptions.__annotations__)
    assert options == fields - {"type", "payload"}


def waiting(
    max_wait: float | None, **options: typing.Any
) -> _calls.Call[typing.Any, penstock.Task]:
    return _calls.submit(
        penstock.Submission("t", b"x", **options),
        parent=PARENT,
        admission=penstock.Admission.WAIT,
        max_wait=max_wait,
        validate_only=False,
    )


def test_a_call_may_be_held_as_long_as_it_says_or_as_any_pool_allows() -> None:
    assert waiting(2.5).hold_seconds == 2.5
    longest = waiting(None).hold_seconds
    assert longest == core_settings.WAIT_NS_MAX / units.SECOND == sections.WAIT_SECONDS_MAX


def test_a_repeated_call_waits_for_what_is_left() -> None:
    call = waiting(15)
    assert call.after(0.0) is call
    for waited, left in ((6.0, 9.0), (15.0, 0.0), (21.5, 0.0)):
        again: typing.Any = call.after(waited).request
        assert again.HasField("max_wait")
        assert (again.max_wait.seconds, again.max_wait.nanos) == (left, 0)
        again.max_wait.CopyFrom(call.request.max_wait)  # type: ignore[attr-defined]
        assert again == call.request
    unsaid = waiting(None)
    assert unsaid.after(6.0) is unsaid


def test_a_repeated_call_has_to_start_in_what_is_left() -> None:
    call = waiting(15, max_queue_time=8)
    for waited, left in ((6.0, 2.0), (12.0, 0.0)):
        again: typing.Any = call.after(waited).request
        assert again.HasField("max_queue_time")
        assert again.max_queue_time.seconds == left


def test_reasons_may_be_walked_only_once() -> None:
    policy = penstock.RetryPolicy(
        non_retryable_reasons=(each.__name__ for each in (KeyError, OSError))  # type: ignore[arg-type]
    )
    task = sent(penstock.Submission("t", retry_policy=policy)).task
    assert list(task.retry_policy.non_retryable_reasons) == ["KeyError", "OSError"]


def test_a_filter_takes_text_only() -> None:
    wrong: typing.Any
    for wrong in ({"labels": {"a": 5}}, {"labels": {5: "a"}}, {"task_type": 5}):
        with pytest.raises(TypeError, match=r"must map strings|must be a str"):
            _calls.task_filter(
                **{"state": None, "task_type": None, "priority": None, "labels": None, **wrong}
            )
