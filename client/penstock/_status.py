"""From a gRPC status to an error of ours.

A status comes in two ways: as the end of a call (code, message, and `google.rpc.Status` in the
trailer `grpc-status-details-bin`), or as a message inside an answer (a batch's outcomes). Both end
in `error_from`. What cannot be parsed is left out: a damaged detail must not hide the refusal.
"""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf import message as protobuf_message
from google.rpc import error_details_pb2, status_pb2

from penstock import _times, errors

DETAILS_TRAILER: Final = "grpc-status-details-bin"
PUSHBACK_TRAILER: Final = "grpc-retry-pushback-ms"

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def from_call(failure: Any) -> errors.PenstockError:
    """What a `grpc.RpcError` (of either API; it is a finished call too) says. A bare CANCELLED from
    the other side, as from a server that stops, says that nobody serves the call: `Unavailable`.
    """
    code, trailers = failure.code(), failure.trailing_metadata()
    error = from_status(code=code, message=failure.details() or "", trailers=trailers or ())
    return gone() if code is grpc.StatusCode.CANCELLED and not error.reason else error


def gone() -> errors.Unavailable:
    """The other side has given the call up without a word."""
    return errors.Unavailable("the dispatcher gave up the call", code=grpc.StatusCode.CANCELLED)


def from_status(
    *,
    code: grpc.StatusCode,
    message: str,
    trailers: Iterable[tuple[str, str | bytes]],
) -> errors.PenstockError:
    """The end of a call: `trailers` may hold rich details and a push-back."""
    status = status_pb2.Status()
    pushback_ms: int | None = None
    for key, value in trailers:
        if key == DETAILS_TRAILER and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except protobuf_message.DecodeError:
                status = status_pb2.Status()
        elif key == PUSHBACK_TRAILER and isinstance(value, str) and value.lstrip("-").isdigit():
            pushback_ms = int(value)
    error = error_from(status, code=code, message=message)
    if pushback_ms is not None and pushback_ms < 0:
        # The dispatcher says: do not retry, whatever the details estimate.
        error.retry_after_seconds = None
    elif pushback_ms is not None and error.retry_after_seconds is None:
        error.retry_after_seconds = pushback_ms / 1000
    return error


def error_from(
    status: status_pb2.Status, *, code: grpc.StatusCode | None = None, message: str = ""
) -> errors.PenstockError:
    """A `google.rpc.Status` as an error. `code` and `message`, where given, win over its own."""
    code = code or _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    reason, metadata = "", {}
    retry_after_seconds: float | None = None
    violations: list[errors.Violation] = []
    for packed in status.details:
        detail = _unpack(packed)
        if isinstance(detail, error_details_pb2.ErrorInfo):
            reason, metadata = detail.reason, dict(detail.metadata)
        elif isinstance(detail, error_details_pb2.RetryInfo):
            retry_after_seconds = _times.from_duration(detail.retry_delay)
        elif isinstance(detail, error_details_pb2.BadRequest):
            violations += (
                errors.Violation(each.field, each.description) for each in detail.field_violations
            )
        elif isinstance(
            detail, error_details_pb2.QuotaFailure | error_details_pb2.PreconditionFailure
        ):
            violations += (
                errors.Violation(each.subject, each.description) for each in detail.violations
            )
        elif isinstance(detail, error_details_pb2.ResourceInfo):
            violations.append(errors.Violation(detail.resource_name, detail.description))
    kind = errors.REASONS.get(reason) or errors.CODES.get(code, errors.PenstockError)
    return kind(
        message or status.message or code.name,
        reason=reason,
        code=code,
        metadata=metadata,
        retry_after_seconds=retry_after_seconds,
        violations=violations,
    )


_DETAILS: Final = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.QuotaFailure,
        error_details_pb2.PreconditionFailure,
        error_details_pb2.ResourceInfo,
    )
}


def _unpack(packed: Any) -> Any:
    kind = _DETAILS.get(packed.TypeName())
    if kind is None:
        return None
    try:
        return kind.FromString(packed.value)
    except protobuf_message.DecodeError:
        return None
