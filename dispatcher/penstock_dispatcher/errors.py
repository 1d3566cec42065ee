"""Refusals, and the one table that says how each travels (docs/reference/errors.md).

Everything a caller can be refused for has a stable *reason*. The table gives its gRPC code and
whether a client may simply try again; the rest of the details follow from what the refusal knows:
bad fields become BadRequest, a delay becomes RetryInfo and the push-back trailer, and so on.
"""

import dataclasses
import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from penstock_dispatcher.core import settings, units

DOMAIN: Final = "penstock.dev"
DETAILS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
NO_RETRY_MS: Final = "-1"
RETRY_AFTER_STORAGE_NS: Final = units.SECOND
RETRY_AFTER_START_NS: Final = units.SECOND
FIELDS_TOLD_MAX: Final = 16
FIELD_CHARS_TOLD_MAX: Final = 1_000
"""Of bad fields, which are in the trailers three times: gRPC drops trailers of more than 8 KiB at
random, and those of more than 16 KiB always. One field is told whatever its length.
"""


class Reason(enum.Enum):
    """ErrorInfo.reason, stable for ever."""

    QUEUE_FULL = "QUEUE_FULL"
    KEY_QUEUE_FULL = "KEY_QUEUE_FULL"
    TOO_MANY_WAITERS = "TOO_MANY_WAITERS"
    ADMISSION_TIMEOUT = "ADMISSION_TIMEOUT"
    DEADLINE_UNREACHABLE = "DEADLINE_UNREACHABLE"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    WATCH_TOO_SLOW = "WATCH_TOO_SLOW"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    INVALID_FIELD = "INVALID_FIELD"
    POOL_NOT_FOUND = "POOL_NOT_FOUND"
    TASK_NOT_FOUND = "TASK_NOT_FOUND"
    WORKER_NOT_FOUND = "WORKER_NOT_FOUND"
    TASK_EXISTS = "TASK_EXISTS"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    TASK_STATE = "TASK_STATE"
    WORKER_STATE = "WORKER_STATE"
    UNSCHEDULABLE = "UNSCHEDULABLE"
    POOL_CLOSED = "POOL_CLOSED"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    STARTING = "STARTING"
    NOT_LEADER = "NOT_LEADER"
    DRAINING = "DRAINING"
    STORAGE = "STORAGE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    STALE_SESSION = "STALE_SESSION"


class Row(NamedTuple):
    """How a reason travels. `retryable`: the same request may be tried again as it is."""

    code: grpc.StatusCode
    retryable: bool


_Code = grpc.StatusCode
TABLE: Final[dict[Reason, Row]] = {
    Reason.QUEUE_FULL: Row(_Code.RESOURCE_EXHAUSTED, True),
    Reason.KEY_QUEUE_FULL: Row(_Code.RESOURCE_EXHAUSTED, True),
    Reason.TOO_MANY_WAITERS: Row(_Code.RESOURCE_EXHAUSTED, True),
    Reason.ADMISSION_TIMEOUT: Row(_Code.RESOURCE_EXHAUSTED, True),
    Reason.DEADLINE_UNREACHABLE: Row(_Code.RESOURCE_EXHAUSTED, True),
    Reason.TOO_MANY_STREAMS: Row(_Code.RESOURCE_EXHAUSTED, True),
    Reason.WATCH_TOO_SLOW: Row(_Code.ABORTED, True),
    Reason.PAYLOAD_TOO_LARGE: Row(_Code.INVALID_ARGUMENT, False),
    Reason.INVALID_FIELD: Row(_Code.INVALID_ARGUMENT, False),
    Reason.POOL_NOT_FOUND: Row(_Code.NOT_FOUND, False),
    Reason.TASK_NOT_FOUND: Row(_Code.NOT_FOUND, False),
    Reason.WORKER_NOT_FOUND: Row(_Code.NOT_FOUND, False),
    Reason.TASK_EXISTS: Row(_Code.ALREADY_EXISTS, False),
    Reason.REQUEST_ID_REUSED: Row(_Code.ALREADY_EXISTS, False),
    Reason.TASK_STATE: Row(_Code.FAILED_PRECONDITION, False),
    Reason.WORKER_STATE: Row(_Code.FAILED_PRECONDITION, False),
    Reason.UNSCHEDULABLE: Row(_Code.FAILED_PRECONDITION, False),
    Reason.POOL_CLOSED: Row(_Code.FAILED_PRECONDITION, False),
    Reason.ETAG_MISMATCH: Row(_Code.ABORTED, False),
    Reason.STARTING: Row(_Code.UNAVAILABLE, True),
    Reason.NOT_LEADER: Row(_Code.UNAVAILABLE, True),
    Reason.DRAINING: Row(_Code.UNAVAILABLE, True),
    Reason.STORAGE: Row(_Code.UNAVAILABLE, True),
    Reason.UNAUTHENTICATED: Row(_Code.UNAUTHENTICATED, False),
    Reason.PERMISSION_DENIED: Row(_Code.PERMISSION_DENIED, False),
    Reason.STALE_SESSION: Row(_Code.FAILED_PRECONDITION, False),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a refusal knows beside its reason. Empty = nothing to say about it."""

    fields: tuple[settings.Violation, ...] = ()
    resource: tuple[str, str] = ("", "")
    """(type, name) of what is missing or taken."""
    quota_subject: str = ""
    precondition_subject: str = ""
    retry_after_ns: int = 0
    metadata: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault of ours
    """A request is refused, for a reason that the caller can program against."""

    def __init__(self, reason: Reason, text: str, details: Details | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.details = details or Details()
        self.row = TABLE[reason]

    def status(self) -> status_pb2.Status:
        """The rich status, as `grpc-status-details-bin` and batch outcomes carry it."""
        return status_pb2.Status(
            code=self.row.code.value[0],
            message=self.text,
            details=[_packed(part) for part in self._parts()],
        )

    def _parts(self) -> list[message.Message]:
        known = self.details
        info = error_details_pb2.ErrorInfo(
            reason=self.reason.name, domain=DOMAIN, metadata=dict(known.metadata)
        )
        parts: list[message.Message] = [info]
        if known.fields:
            violations = [
                error_details_pb2.BadRequest.FieldViolation(
                    field=bad.field, description=bad.description
                )
                for bad in known.fields
            ]
            parts.append(error_details_pb2.BadRequest(field_violations=violations))
        if known.resource[1]:
            resource_type, name = known.resource
            parts.append(
                error_details_pb2.ResourceInfo(
                    resource_type=resource_type, resource_name=name, description=self.text
                )
            )
        if known.quota_subject:
            violation = error_details_pb2.QuotaFailure.Violation(
                subject=known.quota_subject, description=self.text
            )
            parts.append(error_details_pb2.QuotaFailure(violations=[violation]))
        if known.precondition_subject:
            unmet = error_details_pb2.PreconditionFailure.Violation(
                type=self.reason.name, subject=known.precondition_subject, description=self.text
            )
            parts.append(error_details_pb2.PreconditionFailure(violations=[unmet]))
        if self.row.retryable:
            seconds, nanos = divmod(known.retry_after_ns, units.SECOND)
            delay = duration_pb2.Duration(seconds=seconds, nanos=nanos)
            parts.append(error_details_pb2.RetryInfo(retry_delay=delay))
        return parts

    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        """The trailing metadata that goes with the status."""
        pushback = NO_RETRY_MS
        if self.row.retryable:
            # Rounded up: a client that comes a little early would only be refused again.
            pushback = str(-(-self.details.retry_after_ns // units.MILLISECOND))
        return (DETAILS_KEY, self.status().SerializeToString()), (PUSHBACK_KEY, pushback)


def _packed(part: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(part)
    return packed


def invalid(field: str, description: str) -> Refusal:
    """One bad field."""
    return invalid_fields([settings.Violation(field, description)])


def invalid_fields(found: Sequence[settings.Violation]) -> Refusal:
    """Every bad field, at least one; of many the first, and how many more there are."""
    told: list[settings.Violation] = []
    chars = 0
    for bad in found:
        chars += len(bad.field) + len(bad.description)
        if told and (len(told) == FIELDS_TOLD_MAX or chars > FIELD_CHARS_TOLD_MAX):
            break
        told.append(bad)
    text = "; ".join(f"{bad.field} {bad.description}" for bad in told)
    if len(told) < len(found):
        text = f"{text}; and {len(found) - len(told)} more"
    return Refusal(Reason.INVALID_FIELD, text, Details(fields=tuple(told)))


def no_pool(name: str) -> Refusal:
    """There is no such pool (for this caller)."""
    return Refusal(
        Reason.POOL_NOT_FOUND,
        f"there is no pool {name}",
        Details(resource=("penstock.dev/Pool", name)),
    )


def no_deleted_pool(name: str, uid: str) -> Refusal:
    """There is nothing to restore from; `uid` empty = whatever its uid."""
    which = f" with uid {uid}" if uid else ""
    return Refusal(
        Reason.POOL_NOT_FOUND,
        f"there is no deleted pool {name}{which}: it never was, or its retention has ended",
        Details(resource=("penstock.dev/Pool", name)),
    )


def no_task(name: str) -> Refusal:
    """There is no such task, or not any more."""
    return Refusal(
        Reason.TASK_NOT_FOUND,
        f"there is no task {name}, or its retention has ended",
        Details(resource=("penstock.dev/Task", name)),
    )


def no_worker(name: str) -> Refusal:
    """There is no such worker, or not any more."""
    return Refusal(
        Reason.WORKER_NOT_FOUND,
        f"there is no worker {name}",
        Details(resource=("penstock.dev/Worker", name)),
    )


def storage() -> Refusal:
    """The journal cannot take more at the moment."""
    return Refusal(
        Reason.STORAGE,
        "the journal cannot be written at the moment: its storage is full or failing",
        Details(retry_after_ns=RETRY_AFTER_STORAGE_NS),
    )


def starting() -> Refusal:
    """The journal is still being loaded."""
    return Refusal(
        Reason.STARTING,
        "the dispatcher is starting: it still loads its journal",
        Details(retry_after_ns=RETRY_AFTER_START_NS),
    )


def stopping() -> Refusal:
    """This process is about to end; another one follows."""
    return Refusal(
        Reason.NOT_LEADER,
        "the dispatcher is stopping: connect again",
        Details(retry_after_ns=RETRY_AFTER_START_NS),
    )
