"""What a caller submits, and what comes of it.

A `Submission` becomes one `SubmitTaskRequest`, once: a repeated attempt sends the same message with
the same `request_id`, so that the dispatcher knows it again.
"""

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypedDict

import grpc

from penstock import _mistakes, _payload, _task, _times, errors
from penstock.v1 import task_pb2, task_service_pb2

REQUEST_ID_CHARACTERS_MAX: Final = 128
WAIT_SECONDS_MAX: Final = 3600.0
"""The longest that any pool may let a call wait for room (`queue.maxWaitSeconds`)."""
REQUEST_BYTES_MAX: Final = 8 * 1024 * 1024
"""Twice what any pool takes as a payload. Past 16 MiB gRPC refuses a message with a status that
looks like a full pool, and ends the stream."""


class Admission(enum.Enum):
    """What a full pool does with a submission."""

    REJECT = "REJECT"
    """Refuse it at once."""
    WAIT = "WAIT"
    """Hold the call until there is room or `max_wait` has passed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a task's failed attempts are repeated; None = as the pool says.

    `max_attempts` 1 = never. `jitter` is the share of the back-off that is drawn at random, 0 to 1.
    `non_retryable_reasons` are names of handler exceptions that go straight to the dead letters.
    """

    max_attempts: int | None = None
    initial_backoff: _times.Seconds | None = None
    max_backoff: _times.Seconds | None = None
    backoff_multiplier: float | None = None
    jitter: float | None = None
    non_retryable_reasons: Sequence[str] = ()


class SubmitOptions(TypedDict, total=False):
    """The fields of `Submission` beside type and payload, as keyword arguments of `submit`."""

    priority: int | None
    labels: Mapping[str, str]
    task_id: str
    request_id: str
    delay: _times.Seconds | None
    schedule_time: dt.datetime | None
    expire_time: dt.datetime | None
    execution_timeout: _times.Seconds | None
    retry_policy: RetryPolicy | None
    fairness_key: str
    concurrency_key: str
    slots: int
    trace_context: Mapping[str, str]
    max_queue_time: _times.Seconds | None


@dataclasses.dataclass(frozen=True, slots=True)
class Submission:
    """One task to submit.

    Attributes:
        type: the name of a handler, 1 to 128 characters.
        payload: bytes (as they are), str (UTF-8) or a `Payload`, such as `json_payload(…)` makes.
        priority: higher first; None = the pool's default.
        labels: at most 64.
        task_id: the last part of the name; empty = chosen by the dispatcher.
        request_id: idempotency key: the same key with the same body gives the same task for 24 h,
            with the times of the first call (delay, schedule_time and expire_time may differ);
            empty = a new one, so that at least this client's own retries are safe.
        delay, schedule_time: not before; give one of them.
        expire_time: must have started by then.
        execution_timeout: how long one attempt may take; None = as the pool says.
        retry_policy: None = as the pool says.
        fairness_key: whose task it is, such as a tenant: the pool shares fairly between them, and
            may have bounds and rates for each; at most 64 bytes.
        concurrency_key: what it works on: of one key only so many run at once as the pool says; at
            most 64 bytes.
        slots: how many of one worker's slots it takes while it runs.
        max_queue_time: refuse it (`DeadlineUnreachable`) if it would start later than this.
    """

    type: str
    payload: bytes | str | _payload.Payload = dataclasses.field(default=b"", repr=False)
    _: dataclasses.KW_ONLY
    priority: int | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    task_id: str = ""
    request_id: str = ""
    delay: _times.Seconds | None = None
    schedule_time: dt.datetime | None = None
    expire_time: dt.datetime | None = None
    execution_timeout: _times.Seconds | None = None
    retry_policy: RetryPolicy | None = None
    fairness_key: str = ""
    concurrency_key: str = ""
    slots: int = 1
    trace_context: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_queue_time: _times.Seconds | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one submission: a task's name, or the error that refused it.

    `deduplicated`: the `request_id` was known, and nothing new was made.
    """

    submission: Submission
    request_id: str
    name: str = ""
    deduplicated: bool = False
    error: errors.PenstockError | None = None
    _message: task_pb2.Task | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """It was accepted, and is durable."""
        return self.error is None

    @property
    def task(self) -> _task.Task:
        """The task as it was accepted, without its payload. Raises the error if it was refused."""
        if self.error is not None or self._message is None:
            raise self.error or errors.PenstockError("the outcome holds no task")
        # Made on demand: a caller who submits thousands seldom looks at each.
        return _task.from_wire(self._message)


def hold_seconds(admission: Admission, max_wait: _times.Seconds | None) -> float:
    """How long a dispatcher may hold the call, beside the time that answering takes."""
    if max_wait is not None:
        return _times.to_seconds(max_wait, name="max_wait")
    # The pool ends the wait, and what it has said of it is not known here.
    return WAIT_SECONDS_MAX if admission is Admission.WAIT else 0.0


def utc_now() -> dt.datetime:
    """The time that a `delay` counts from."""
    return dt.datetime.now(dt.UTC)


def to_wire(
    submission: Submission,
    *,
    parent: str,
    request_id: str,
    now: Callable[[], dt.datetime],
    admission: Admission = Admission.REJECT,
    max_wait: _times.Seconds | None = None,
    validate_only: bool = False,
) -> task_service_pb2.SubmitTaskRequest:
    """The request for it; `parent` is the pool's full name, or empty inside a batch that names it;
    `request_id` is used if the submission has none of its own.

    Raises ValueError or TypeError for what can never be right, PayloadTooLarge for what no message
    can carry.
    """
    try:
        request = task_service_pb2.SubmitTaskRequest(
            parent=parent,
            task=_task_of(submission, now),
            task_id=submission.task_id,
            request_id=submission.request_id or request_id,
            validate_only=validate_only,
        )
    except (TypeError, ValueError, AttributeError):
        _mistakes.name_field(submission)
        raise
    if len(request.request_id) > REQUEST_ID_CHARACTERS_MAX:
        raise ValueError(f"request_id must have at most {REQUEST_ID_CHARACTERS_MAX} characters")
    if admission is Admission.WAIT:
        request.admission = task_service_pb2.SubmitTaskRequest.WAIT
        if max_wait is not None:
            request.max_wait.CopyFrom(_times.to_duration(max_wait, name="max_wait"))
    elif admission is not Admission.REJECT:
        raise TypeError(
            f"admission must be Admission.REJECT or Admission.WAIT, is {admission!r:.100}"
        )
    elif max_wait is not None:
        raise ValueError("max_wait goes with admission=Admission.WAIT")
    if submission.max_queue_time is not None:
        request.max_queue_time.CopyFrom(
            _times.to_duration(submission.max_queue_time, name="max_queue_time")
        )
    size = request.ByteSize()
    if size > REQUEST_BYTES_MAX:
        raise errors.PayloadTooLarge(
            f"the submission has {size} bytes, at most {REQUEST_BYTES_MAX} can be sent: put the "
            "data into storage of its own, and send a reference to it",
            reason="PAYLOAD_TOO_LARGE",
            code=grpc.StatusCode.INVALID_ARGUMENT,
        )
    return request


def _task_of(submission: Submission, now: Callable[[], dt.datetime]) -> task_pb2.Task:
    payload = _payload.of(submission.payload)
    task = task_pb2.Task(
        type=submission.type,
        payload=payload.data,
        content_type=payload.content_type,
        fairness_key=submission.fairness_key,
        concurrency_key=submission.concurrency_key,
        slots=0 if submission.slots == 1 else submission.slots,
    )
    if submission.labels:
        task.labels.update(submission.labels)
    if submission.trace_context:
        task.trace_context.update(submission.trace_context)
    if submission.slots < 1:
        raise ValueError(f"slots must be at least 1, is {submission.slots}")
    if submission.priority is not None:
        task.priority = submission.priority
    _set_times(task, submission, now)
    if submission.retry_policy is not None:
        task.retry_policy.CopyFrom(_retry_policy(submission.retry_policy))
    return task


def _set_times(task: task_pb2.Task, submission: Submission, now: Callable[[], dt.datetime]) -> None:
    schedule_time = submission.schedule_time
    if submission.delay is not None:
        if schedule_time is not None:
            raise ValueError("give delay or schedule_time, not both")
        seconds = _times.to_seconds(submission.delay, name="delay")
        try:
            schedule_time = now() + dt.timedelta(seconds=seconds) if seconds else None
        except OverflowError:
            raise ValueError(f"delay must end before the year 10000, is {seconds} s") from None
    if schedule_time is not None:
        task.schedule_time.CopyFrom(_times.to_timestamp(schedule_time, name="schedule_time"))
    if submission.expire_time is not None:
        task.expire_time.CopyFrom(_times.to_timestamp(submission.expire_time, name="expire_time"))
    if submission.execution_timeout is not None:
        task.execution_timeout.CopyFrom(
            _times.to_duration(submission.execution_timeout, name="execution_timeout")
        )


def _retry_policy(policy: RetryPolicy) -> task_pb2.RetryPolicy:
    if not isinstance(policy, RetryPolicy):
        raise TypeError(f"retry_policy must be a RetryPolicy, is {policy!r:.100}")
    reasons = policy.non_retryable_reasons
    if isinstance(reasons, str) or not isinstance(reasons, Iterable):
        # A str would be taken for a sequence of letters.
        raise TypeError(f"non_retryable_reasons must be a list of strings, is {reasons!r:.100}")
    reasons = tuple(reasons)  # it may be one that can be walked once
    for reason in reasons:
        _mistakes.text("each of non_retryable_reasons", reason)
    message = task_pb2.RetryPolicy(non_retryable_reasons=reasons)
    if policy.max_attempts is not None:
        _mistakes.number("max_attempts", policy.max_attempts)
        message.max_attempts = policy.max_attempts
    for field in ("backoff_multiplier", "jitter"):
        value = getattr(policy, field)
        if value is not None:
            if not isinstance(value, (int, float)):
                raise TypeError(f"{field} must be a number, is {value!r:.100}")
            setattr(message, field, value)
    if policy.initial_backoff is not None:
        message.initial_backoff.CopyFrom(
            _times.to_duration(policy.initial_backoff, name="initial_backoff")
        )
    if policy.max_backoff is not None:
        message.max_backoff.CopyFrom(_times.to_duration(policy.max_backoff, name="max_backoff"))
    return message
