"""A SubmitTaskRequest, checked field by field, into what the core admits.

The body that is kept and later handed to the worker is the submitted part of the Task, serialized;
fields that only the dispatcher writes, and those that this version does not know, are dropped from
it: what is kept beside the payload is what was checked, some 50 KiB at most.
"""

import hashlib
import secrets
import sys
from collections.abc import Callable
from typing import Final

from penstock.v1 import task_pb2, task_service_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.convert import frames, names, pool_config, times
from penstock_dispatcher.core import settings, units
from penstock_dispatcher.core import task as tasks

TYPE_CHARS_MAX: Final = 128
LABELS_MAX: Final = 64
LABEL_BYTES_MAX: Final = 256
KEY_BYTES_MAX: Final = settings.KEY_BYTES_MAX
REQUEST_ID_CHARS_MAX: Final = 128
CONTENT_TYPE_CHARS_MAX: Final = 256
TRACE_ENTRIES_MAX: Final = 8
TRACE_BYTES_MAX: Final = 1024
FINGERPRINT_BYTES: Final = 7
"""As many as a Python integer of two digits holds: there is one for each task in memory."""

_UNCHECKED: Final = frozenset({"type", "payload", "priority"})
"""Fields that need no look of their own, or have had it."""
_SUBMITTED: Final = range(4, 17)
"""Numbers of the fields that a caller may set; everything else is the dispatcher's."""
_MOMENTS: Final = {
    name: task_pb2.Task.DESCRIPTOR.fields_by_name[name].number
    for name in ("schedule_time", "expire_time")
}
"""Numbers by name."""
_DIGEST: Final = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
_WAIT: Final = task_service_pb2.SubmitTaskRequest.WAIT
_Bad = Callable[[str, str], None]
_ADMISSIONS: Final = frozenset(task_service_pb2.SubmitTaskRequest.Admission.values())


_TWO_DIGITS: Final = tuple(f"{number:02x}" for number in range(256))


class TaskIds:
    """Ids for tasks whose caller chose none: unique among all that any run of any dispatcher makes,
    because each run begins with a random part of its own.
    """

    def __init__(self) -> None:
        self._prefix = self._begin = f"t{secrets.token_hex(5)}-"
        self._number = 0

    def next(self) -> str:
        """At most 63 characters of [a-z0-9-]."""
        self._number += 1
        last = self._number & 255
        if last == 0:
            self._begin = f"{self._prefix}{self._number >> 8:x}"
        return self._begin + _TWO_DIGITS[last]


def submission(
    request: task_service_pb2.SubmitTaskRequest, config: settings.PoolSettings, ids: TaskIds
) -> tasks.Submission:
    """What to admit. Raises Refusal naming every bad field. Takes the request over: its task is
    changed.
    """
    task, task_id, request_id = request.task, request.task_id, request.request_id
    present = _drop_what_is_not_submitted(task)
    # Deterministic: the fingerprint of the same task must be the same, whatever order its maps had.
    body = task.SerializeToString(deterministic=True)
    found = _violations(request, task, present, config)
    retry = None
    if "retry_policy" in present:
        retry = pool_config.retry_policy(task.retry_policy, config.retry)
        found.extend(
            settings.Violation(f"task.{bad.field}", bad.description)
            for bad in settings.retry_violations(retry)
        )
    if found:
        raise errors.invalid_fields(found)
    made = ids.next()
    return tasks.Submission(
        task_id=task_id or made,
        uid=made,
        type=sys.intern(task.type),  # there are few of them, and many tasks
        body=body,
        size=len(task.payload),
        priority=task.priority if "priority" in present else None,
        not_before=times.time_ns(task.schedule_time) if "schedule_time" in present else 0,
        expire_time=times.time_ns(task.expire_time) if "expire_time" in present else 0,
        execution_timeout_ns=times.duration_ns(task.execution_timeout)
        if "execution_timeout" in present
        else 0,
        retry=retry,
        request_id=request_id,
        fingerprint=fingerprint(_without_moments(body, present), task_id) if request_id else 0,
        fairness_key=sys.intern(task.fairness_key) if "fairness_key" in present else "",
        concurrency_key=sys.intern(task.concurrency_key) if "concurrency_key" in present else "",
        slots=(task.slots or 1) if "slots" in present else 1,
    )


def _drop_what_is_not_submitted(task: task_pb2.Task) -> set[str]:
    """The fields that are left."""
    found = set[str]()
    for field, _ in task.ListFields():
        if field.number in _SUBMITTED:
            found.add(field.name)
        else:
            task.ClearField(field.name)  # type: ignore[arg-type]
    # They were checked by nobody, and would be kept and counted nowhere.
    task.DiscardUnknownFields()
    return found


def _without_moments(body: bytes, present: set[str]) -> bytes:
    """What a body asks for, whenever it is asked: a delay is another moment in each call."""
    for name in present.intersection(_MOMENTS):
        body = frames.without(body, _MOMENTS[name])
    return body


def fingerprint(body: bytes, task_id: str = "") -> int:
    """Of what is asked under a request id: a body without its moments, and an id if the caller
    chose one.
    """
    if task_id:
        digest = hashlib.blake2b(body, digest_size=FINGERPRINT_BYTES, key=task_id.encode())
    else:
        digest = _DIGEST.copy()  # takes less than making one
        digest.update(body)
    return int.from_bytes(digest.digest(), "big")


def waits(request: task_service_pb2.SubmitTaskRequest) -> bool:
    """The caller waits for room."""
    return request.admission == _WAIT


def wait_ns(request: task_service_pb2.SubmitTaskRequest, config: settings.PoolSettings) -> int:
    """How long the caller of a checked request waits for room; the pool says what it does not."""
    if request.HasField("max_wait"):
        return times.duration_ns(request.max_wait)
    return config.max_wait_ns


def start_by(request: task_service_pb2.SubmitTaskRequest, now: int) -> int:
    """By when the task is to start, counted from the call, if the checked request has a
    `max_queue_time`.
    """
    return now + times.duration_ns(request.max_queue_time)


def _violations(
    request: task_service_pb2.SubmitTaskRequest,
    task: task_pb2.Task,
    present: set[str],
    config: settings.PoolSettings,
) -> list[settings.Violation]:
    """`present`: which fields the task has; most have few."""
    found: list[settings.Violation] = []

    def bad(field: str, description: str) -> None:
        found.append(settings.Violation(field, description))

    if not 1 <= len(task.type) <= TYPE_CHARS_MAX:
        bad("task.type", f"must have 1 to {TYPE_CHARS_MAX} characters")
    if request.task_id and names.TASK_ID.fullmatch(request.task_id) is None:
        bad("task_id", "must have 1 to 63 characters of [a-z0-9-], starting with a letter")
    if len(request.request_id) > REQUEST_ID_CHARS_MAX:
        bad("request_id", f"must have at most {REQUEST_ID_CHARS_MAX} characters")
    if request.admission not in _ADMISSIONS:
        bad("admission", f"has no value {request.admission}")
    if request.HasField("max_wait"):
        _check_max_wait(request, config, bad)
    if request.HasField("max_queue_time"):
        _check_max_queue_time(request, bad)
    if not present <= _UNCHECKED:
        _check_task(task, bad)
    return found


def _check_task(task: task_pb2.Task, bad: _Bad) -> None:
    if task.labels:
        _check_labels(task, bad)
    if len(task.fairness_key.encode()) > KEY_BYTES_MAX:
        bad("task.fairness_key", f"must have at most {KEY_BYTES_MAX} bytes")
    if len(task.concurrency_key.encode()) > KEY_BYTES_MAX:
        bad("task.concurrency_key", f"must have at most {KEY_BYTES_MAX} bytes")
    if len(task.content_type) > CONTENT_TYPE_CHARS_MAX:
        bad("task.content_type", f"must have at most {CONTENT_TYPE_CHARS_MAX} characters")
    if not 0 <= task.slots <= settings.SLOTS_MAX:
        bad("task.slots", f"must be 0 (which counts as 1) to {settings.SLOTS_MAX}, is {task.slots}")
    if task.trace_context and (
        len(task.trace_context) > TRACE_ENTRIES_MAX
        or sum(len(key.encode()) + len(value.encode()) for key, value in task.trace_context.items())
        > TRACE_BYTES_MAX
    ):
        bad("task.trace_context", f"must have at most {TRACE_BYTES_MAX} bytes")
    _check_times(task, bad)
    if task.HasField("retry_policy"):
        pool_config.check_retry_policy(task.retry_policy, "task.retry_policy", bad)


def _check_labels(task: task_pb2.Task, bad: _Bad) -> None:
    if len(task.labels) > LABELS_MAX:
        bad("task.labels", f"must be at most {LABELS_MAX}")
    for key, value in task.labels.items():
        if not key or max(len(key.encode()), len(value.encode())) > LABEL_BYTES_MAX:
            bad(
                "task.labels",
                f"keys must have 1 to {LABEL_BYTES_MAX} bytes, values at most {LABEL_BYTES_MAX}",
            )
            return


def _check_max_wait(
    request: task_service_pb2.SubmitTaskRequest, config: settings.PoolSettings, bad: _Bad
) -> None:
    times.check_duration(request.max_wait, "max_wait", bad)
    wanted = times.duration_ns(request.max_wait)
    if not waits(request):
        bad("max_wait", "must be unset unless admission is WAIT")
    elif not 0 <= wanted <= config.max_wait_ns:
        bad(
            "max_wait",
            f"must be 0 to {config.max_wait_ns / units.SECOND:g} s, which the pool's"
            f" queue.maxWaitSeconds allows, is {wanted / units.SECOND:g} s",
        )


def _check_max_queue_time(request: task_service_pb2.SubmitTaskRequest, bad: _Bad) -> None:
    times.check_duration(request.max_queue_time, "max_queue_time", bad)
    if times.duration_ns(request.max_queue_time) < 0:
        bad("max_queue_time", "must not be negative; 0 = only if it starts at once")
    if request.task.HasField("schedule_time"):
        bad(
            "max_queue_time",
            "must be unset with task.schedule_time: what will wait by then cannot be told",
        )


def _check_times(task: task_pb2.Task, bad: _Bad) -> None:
    for field in ("schedule_time", "expire_time"):
        if task.HasField(field):
            times.check_time(getattr(task, field), f"task.{field}", bad)
    if task.HasField("execution_timeout"):
        times.check_duration(task.execution_timeout, "task.execution_timeout", bad)
        if times.duration_ns(task.execution_timeout) <= 0:
            bad("task.execution_timeout", "must be positive")
