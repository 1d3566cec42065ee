"""A task as people see it: a frozen value read from `penstock.v1.Task`, which stays inside."""

import dataclasses
import datetime as dt
import enum
import json
from collections.abc import Mapping
from typing import Any

from google.rpc import error_details_pb2

from penstock import _names, _times
from penstock.v1 import task_pb2


class TaskState(enum.Enum):
    """Where a task is in its life. See the wire's comments on `Task.State`."""

    UNKNOWN = "UNKNOWN"
    """A state that this version does not know."""
    DELAYED = "DELAYED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    DEAD_LETTERED = "DEAD_LETTERED"

    @property
    def terminal(self) -> bool:
        """It has a recorded outcome, and only `retry` brings it back."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {
        TaskState.SUCCEEDED,
        TaskState.FAILED,
        TaskState.CANCELLED,
        TaskState.EXPIRED,
        TaskState.DEAD_LETTERED,
    }
)
CANCELLED = frozenset({TaskState.CANCELLED, TaskState.CANCELLING})
_STATES = {
    number: TaskState.__members__.get(name, TaskState.UNKNOWN)
    for name, number in task_pb2.Task.State.items()
}


@dataclasses.dataclass(frozen=True, slots=True)
class TaskFailure:
    """Why an attempt failed. `code` is a gRPC status code's number; `reason` is the handler's
    exception class, or what the dispatcher calls it.
    """

    code: int
    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task at one moment. Times are aware and in UTC; None = not yet, or not set.

    `payload` and `result` are present where the call says so (`get`, `wait`), not in lists.
    `attempt` is 1-based, 0 = never started. `queue_position` counts the tasks before it while it is
    pending, None = unknown.
    """

    name: str
    uid: str
    state: TaskState
    type: str
    payload: bytes = dataclasses.field(repr=False)
    content_type: str
    labels: Mapping[str, str]
    priority: int
    slots: int
    fairness_key: str
    concurrency_key: str
    create_time: dt.datetime | None
    schedule_time: dt.datetime | None
    expire_time: dt.datetime | None
    start_time: dt.datetime | None
    end_time: dt.datetime | None
    execution_timeout_seconds: float | None
    execution_time_seconds: float | None
    attempt: int
    worker_losses: int
    worker: str
    progress_fraction: float | None
    progress_message: str
    error: TaskFailure | None
    result: bytes = dataclasses.field(repr=False)
    result_content_type: str
    etag: str
    queue_position: int | None
    estimated_wait_seconds: float | None

    @property
    def id(self) -> str:
        """The last part of the name."""
        return _names.parts(self.name)[2]

    @property
    def pool(self) -> str:
        """`namespaces/{namespace}/pools/{pool}`."""
        return self.name.rpartition("/tasks/")[0]

    @property
    def terminal(self) -> bool:
        """It has a recorded outcome."""
        return self.state.terminal

    @property
    def succeeded(self) -> bool:
        """Its outcome is a result."""
        return self.state is TaskState.SUCCEEDED

    def result_json(self) -> Any:
        """The result, read as JSON. Raises ValueError if it is not."""
        return json.loads(self.result)


def state_from_wire(number: "task_pb2.Task.State.ValueType") -> TaskState | None:
    """A state as it travels; None = unset."""
    return _STATES.get(number, TaskState.UNKNOWN) if number else None


def from_wire(message: task_pb2.Task) -> Task:
    """Read a task as it travels."""
    state = _STATES.get(message.state, TaskState.UNKNOWN)
    position = message.queue_position
    progress = message.progress if message.HasField("progress") else None
    return Task(
        name=message.name,
        uid=message.uid,
        state=state,
        type=message.type,
        payload=message.payload,
        content_type=message.content_type,
        labels=dict(message.labels),
        priority=message.priority,
        slots=message.slots or 1,
        fairness_key=message.fairness_key,
        concurrency_key=message.concurrency_key,
        create_time=_times.moment(message, "create_time"),
        schedule_time=_times.moment(message, "schedule_time"),
        expire_time=_times.moment(message, "expire_time"),
        start_time=_times.moment(message, "start_time"),
        end_time=_times.moment(message, "end_time"),
        execution_timeout_seconds=_times.span(message, "execution_timeout"),
        execution_time_seconds=_times.span(message, "execution_time"),
        attempt=message.attempt,
        worker_losses=message.worker_losses,
        worker=message.worker,
        progress_fraction=progress.fraction if progress else None,
        progress_message=progress.message if progress else "",
        error=_failure(message.error) if message.HasField("error") else None,
        result=message.result,
        result_content_type=message.result_content_type,
        etag=message.etag,
        queue_position=position if state is TaskState.PENDING and position >= 0 else None,
        estimated_wait_seconds=_times.span(message, "estimated_wait"),
    )


def _failure(status: Any) -> TaskFailure:
    reason = ""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reason = info.reason
    return TaskFailure(code=status.code, reason=reason, message=status.message)
