"""Everything that can go wrong, as classes that a program can tell apart.

A refusal travels as a gRPC status with `google.rpc.ErrorInfo{reason}` among its details. `REASONS`
is the only place that ties a reason to a class; a reason this version does not know falls back to
the class of its status code, `CODES`. So `except penstock.errors.Unavailable` catches `Starting`
and whatever a newer dispatcher may call its own kinds of unavailability.

`TaskError` and `WaitTimeout` never travel: the client makes them from a task that did not succeed,
or is not over yet.
"""

# The names say what happened; "Error" at the end of each would say nothing more.
# ruff: noqa: N818

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc

from penstock import _task

__all__ = [
    "CODES",
    "REASONS",
    "Aborted",
    "AdmissionRefused",
    "AdmissionTimeout",
    "AlreadyExists",
    "Cancelled",
    "DeadlineExceeded",
    "DeadlineUnreachable",
    "EtagMismatch",
    "FailedPrecondition",
    "InvalidArgument",
    "InvalidField",
    "KeyQueueFull",
    "NotFound",
    "NotLeader",
    "PayloadTooLarge",
    "PenstockError",
    "PermissionDenied",
    "PoolClosed",
    "PoolDraining",
    "PoolNotFound",
    "QueueFull",
    "RequestIdReused",
    "StaleSession",
    "Starting",
    "StorageUnavailable",
    "TaskCancelled",
    "TaskDeadLettered",
    "TaskError",
    "TaskExists",
    "TaskExpired",
    "TaskFailed",
    "TaskNotFound",
    "TooManyStreams",
    "TooManyWaiters",
    "Unauthenticated",
    "Unavailable",
    "Unschedulable",
    "Violation",
    "WaitTimeout",
    "WatchTooSlow",
    "WorkerNotFound",
    "WrongTaskState",
    "WrongWorkerState",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """What exactly was wrong: `subject` is a field, a quota or a resource."""

    subject: str
    description: str


class PenstockError(Exception):
    """The base of all errors that this package raises, but for wrong arguments (`ValueError`).

    Attributes:
        message: one sentence for people.
        reason: the stable name of what happened, such as `QUEUE_FULL`; empty if there is none.
        code: the gRPC status code it came with.
        metadata: what the dispatcher added, by name.
        retry_after_seconds: how long to wait before the same call can succeed; None = the same call
            will fail again.
        violations: the fields, quotas or preconditions at fault.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        metadata: Mapping[str, str] | None = None,
        retry_after_seconds: float | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code = code
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.retry_after_seconds = retry_after_seconds
        self.violations = tuple(violations)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args` alone; the rest comes back as state.
        return type(self), self.args, self.__dict__


class AdmissionRefused(PenstockError):
    """The pool takes no more for now (RESOURCE_EXHAUSTED). Nothing was left behind."""


class QueueFull(AdmissionRefused):
    """As many tasks wait as the pool may hold."""


class TooManyWaiters(AdmissionRefused):
    """As many callers wait for room as the pool lets wait."""


class AdmissionTimeout(AdmissionRefused):
    """No room came free within `max_wait`."""


class KeyQueueFull(AdmissionRefused):
    """The share of one fairness key is full; other keys may still be admitted."""


class TooManyStreams(AdmissionRefused):
    """As many submitting streams are open as the dispatcher serves."""


class DeadlineUnreachable(AdmissionRefused):
    """It would start later than `max_queue_time` or its expiry allows."""

    @property
    def estimated_wait_seconds(self) -> float | None:
        """How long it would wait, as the dispatcher estimates."""
        try:
            return float(self.metadata["estimated_wait"].removesuffix("s"))
        except (KeyError, ValueError):
            return None


class InvalidArgument(PenstockError):
    """The request itself is wrong; `violations` names the fields."""


class InvalidField(InvalidArgument):
    """A field has a value that is not allowed."""


class PayloadTooLarge(InvalidArgument):
    """The payload is larger than the pool's `maxPayloadBytes`, or than any message can be."""


class NotFound(PenstockError):
    """There is no such thing."""


class PoolNotFound(NotFound):
    """The dispatcher knows no such pool."""


class TaskNotFound(NotFound):
    """No such task, or its retention has ended."""


class WorkerNotFound(NotFound):
    """No such worker, or not any more."""


class AlreadyExists(PenstockError):
    """The name is taken."""


class TaskExists(AlreadyExists):
    """Another task has this `task_id`."""


class RequestIdReused(AlreadyExists):
    """This `request_id` was used with another body."""


class FailedPrecondition(PenstockError):
    """Not in this state."""


class WrongTaskState(FailedPrecondition):
    """The task has ended, or already runs."""


class Unschedulable(FailedPrecondition):
    """No worker of this pool can ever run it."""


class PoolClosed(FailedPrecondition):
    """The pool was deleted and admits nothing more."""


class WrongWorkerState(FailedPrecondition):
    """The worker is in a state that does not allow this."""


class StaleSession(FailedPrecondition):
    """A worker's stream speaks for a session or lease that is not its own any more."""


class Aborted(PenstockError):
    """Somebody else was faster."""


class EtagMismatch(Aborted):
    """The task has changed since it was read: read it again."""


class WatchTooSlow(Aborted):
    """More changes came than were read: watch again with the last `resume_token`."""


class Unavailable(PenstockError):
    """No dispatcher answers. The client has already retried until the call's time-out."""


class Starting(Unavailable):
    """The dispatcher still loads its journal."""


class NotLeader(Unavailable):
    """Another dispatcher owns the pool."""

    @property
    def leader(self) -> str:
        """Its address, or empty."""
        return self.metadata.get("leader", "")


class StorageUnavailable(Unavailable):
    """The dispatcher cannot write its journal."""


class PoolDraining(Unavailable):
    """The pool finishes what it has and admits nothing for now."""


class Unauthenticated(PenstockError):
    """No token, or one that the dispatcher does not know."""


class PermissionDenied(PenstockError):
    """The token is known and may not do this."""


class DeadlineExceeded(PenstockError):
    """No answer within the call's time-out. Whether it took effect is not known."""


class Cancelled(PenstockError):
    """The other side ended the call."""


class TaskError(PenstockError):
    """The task is over and did not succeed; `task` is the task as recorded."""

    def __init__(self, message: str, *, task: _task.Task | None = None, reason: str = "") -> None:
        super().__init__(message, reason=reason, code=grpc.StatusCode.ABORTED)
        self.task = task


class TaskFailed(TaskError):
    """Its handler failed; `task.error` says how."""


class TaskDeadLettered(TaskFailed):
    """Its attempts or worker losses are used up, or the failure was not retryable."""


class TaskCancelled(TaskError):
    """Somebody cancelled it."""


class TaskExpired(TaskError):
    """It did not start before its `expire_time`."""


class WaitTimeout(PenstockError, TimeoutError):
    """The time to wait has passed and the task is not over; `task` is the task as it was then."""

    def __init__(self, message: str, *, task: _task.Task | None = None) -> None:
        super().__init__(message, code=grpc.StatusCode.DEADLINE_EXCEEDED)
        self.task = task


REASONS: Final[Mapping[str, type[PenstockError]]] = {
    "QUEUE_FULL": QueueFull,
    "TOO_MANY_WAITERS": TooManyWaiters,
    "ADMISSION_TIMEOUT": AdmissionTimeout,
    "KEY_QUEUE_FULL": KeyQueueFull,
    "TOO_MANY_STREAMS": TooManyStreams,
    "DEADLINE_UNREACHABLE": DeadlineUnreachable,
    "PAYLOAD_TOO_LARGE": PayloadTooLarge,
    "INVALID_FIELD": InvalidField,
    "POOL_NOT_FOUND": PoolNotFound,
    "TASK_NOT_FOUND": TaskNotFound,
    "WORKER_NOT_FOUND": WorkerNotFound,
    "TASK_EXISTS": TaskExists,
    "REQUEST_ID_REUSED": RequestIdReused,
    "TASK_STATE": WrongTaskState,
    "UNSCHEDULABLE": Unschedulable,
    "POOL_CLOSED": PoolClosed,
    "WORKER_STATE": WrongWorkerState,
    "ETAG_MISMATCH": EtagMismatch,
    "WATCH_TOO_SLOW": WatchTooSlow,
    "NOT_LEADER": NotLeader,
    "DRAINING": PoolDraining,
    "STARTING": Starting,
    "STORAGE": StorageUnavailable,
    "STALE_SESSION": StaleSession,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
}

CODES: Final[Mapping[grpc.StatusCode, type[PenstockError]]] = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: AdmissionRefused,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}
