"""What the end of an attempt means, as the dispatcher hears it. Pure.

What a handler returns or raises is its author's own and may be anything: megabytes, text that is
not Unicode, a delay that is no number, an exception that cannot be printed. An outcome has to come
of each, or the attempt would keep its slot and its lease for ever; so `of_error` never raises, and
`completed` only what `of_error` can then tell. And an outcome has to fit a frame: one that does not
would end the stream, and be sent again on the next.
"""

import asyncio
import signal
from typing import Any, Final

from google.protobuf import any_pb2, duration_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import app, errors

ERROR_DOMAIN: Final = "worker.penstock.dev"
TEXT_CHARACTERS_MAX: Final = 4096
RESULT_BYTES_MAX: Final = 4 * 1024 * 1024
"""What the dispatcher keeps. A larger result is not sent at all: past the bound of a message it
would end the stream."""
DELAY_SECONDS_MAX: Final = 365 * 86_400.0
"""Longer than any pool lets a retry wait, and what every duration can say."""
CODE_CANCELLED, CODE_UNKNOWN, CODE_DEADLINE_EXCEEDED = 1, 2, 4
CODE_RESOURCE_EXHAUSTED, CODE_UNIMPLEMENTED, CODE_UNAVAILABLE = 8, 12, 14
TIMEOUT_REASON: Final = "EXECUTION_TIMEOUT"
TOO_LARGE_REASON: Final = "RESULT_TOO_LARGE"


def completed(result: Any) -> wire.TaskOutcome:
    """The handler returned `result`. Raises TypeError or ValueError for what cannot be encoded."""
    content, content_type = app.encode(result)
    if len(content) > RESULT_BYTES_MAX:
        return too_large(f"{len(content)} bytes")
    return wire.TaskOutcome(
        completed=wire.TaskOutcome.Completed(result=content, content_type=content_type)
    )


def too_large(size: str) -> wire.TaskOutcome:
    """The result is larger than what is kept."""
    return failed(
        CODE_RESOURCE_EXHAUSTED,
        TOO_LARGE_REASON,
        f"the result has {size}, at most {RESULT_BYTES_MAX} are kept: put it into storage of its"
        " own, and return a reference to it",
        retryable=False,
    )


def unknown_type(type_: str, types: tuple[str, ...]) -> wire.TaskOutcome:
    """There is no handler."""
    return failed(
        CODE_UNIMPLEMENTED,
        "UNKNOWN_TASK_TYPE",
        f"no handler for type {type_!r}; this worker has: {', '.join(types) or 'none'}",
        retryable=False,
    )


def of_error(error: BaseException, *, stopped_for: str, seconds: float) -> wire.TaskOutcome:
    """The handler raised `error` after `seconds`; `stopped_for` is why it was asked to stop, or
    empty.
    """
    try:
        return _of_error(error, stopped_for, seconds)
    except Exception as trouble:
        return failed(
            CODE_UNKNOWN,
            "UNTELLABLE_ERROR",
            f"the handler raised {type(error).__name__}, of which no failure could be made:"
            f" {type(trouble).__name__}",
            retryable=True,
        )


def _of_error(error: BaseException, stopped_for: str, seconds: float) -> wire.TaskOutcome:
    reason, message = type(error).__name__, str(error) or repr(error)
    match error:
        case asyncio.CancelledError() | errors.Cancelled():
            return stopped(reason, stopped_for, seconds)
        case errors.Release():
            return released(message)
        case errors.PermanentError():
            return failed(CODE_UNKNOWN, reason, message, retryable=False)
        case errors.RetryLater():
            failure = failed(CODE_UNKNOWN, reason, message, retryable=True)
            failure.failed.retry_delay.CopyFrom(duration(error.delay_seconds))
            return failure
        case _:
            return failed(CODE_UNKNOWN, reason, message, retryable=True)


def stopped(reason: str, stopped_for: str, seconds: float, details: str = "") -> wire.TaskOutcome:
    """The attempt was stopped, because of `stopped_for`; empty = nobody had asked for it."""
    if stopped_for == TIMEOUT_REASON:
        return failed(
            CODE_DEADLINE_EXCEEDED,
            TIMEOUT_REASON,
            f"stopped after {seconds:.1f} s: its execution time-out was over{details}",
            retryable=True,
        )
    if stopped_for:
        return wire.TaskOutcome(cancelled=wire.TaskOutcome.Cancelled())
    # Told as a cancelled one it would be tried again at once and charge no attempt, for ever.
    return failed(
        CODE_CANCELLED,
        reason,
        "the handler was cancelled, and nobody had asked for it: something that it awaits or"
        " calls cancels it",
        retryable=True,
    )


def lost(reason: str, message: str) -> wire.TaskOutcome:
    """The attempt's process was ended from outside, or crashed: charged as a worker loss."""
    outcome = failed(CODE_UNAVAILABLE, reason, message, retryable=True)
    outcome.failed.worker_loss = True
    return outcome


def killed(what: str, memory_kills: int, details: str = "") -> wire.TaskOutcome:
    """`what` was ended by SIGKILL, which nobody here sent; the kernel killed `memory_kills` times
    for want of memory meanwhile.
    """
    if memory_kills > 0:
        return lost(
            "OUT_OF_MEMORY",
            f"{what} was killed by the kernel: its container is out of memory; raise the memory"
            f" limit, or lower slotsPerWorker{details}",
        )
    return lost(
        "PROCESS_KILLED", f"{what} was killed by SIGKILL, which the worker did not send{details}"
    )


def signal_name(number: int) -> str:
    """SIGSEGV; a real-time signal has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGNAL_{number}"


def released(reason: str) -> wire.TaskOutcome:
    """Handed back: no attempt is charged."""
    return wire.TaskOutcome(released=wire.TaskOutcome.Released(reason=text(reason)))


def kind(outcome: wire.TaskOutcome) -> str:
    """As the log says it: completed, failed, lost, released or cancelled."""
    lost = outcome.HasField("failed") and outcome.failed.worker_loss
    return "lost" if lost else str(outcome.WhichOneof("outcome"))


def failed(code: int, reason: str, message: str, *, retryable: bool) -> wire.TaskOutcome:
    """The attempt failed; `reason` is what programs tell failures apart by."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=text(reason), domain=ERROR_DOMAIN))
    status = status_pb2.Status(code=code, message=text(message), details=[detail])
    return wire.TaskOutcome(failed=wire.TaskOutcome.Failed(error=status, retryable=retryable))


def text(given: str) -> str:
    """Short, and Unicode: a lone surrogate, as in the name of a file, cannot travel."""
    return given[:TEXT_CHARACTERS_MAX].encode("utf-8", "backslashreplace").decode()


def seconds(given: duration_pb2.Duration | timestamp_pb2.Timestamp) -> float:
    """A duration that has travelled, or a point in time, since the Unix epoch."""
    return float(given.seconds + given.nanos / 1e9)


def duration(seconds: float) -> duration_pb2.Duration:
    """As it travels: 0 to `DELAY_SECONDS_MAX`."""
    made = duration_pb2.Duration()
    made.FromNanoseconds(int(min(max(0.0, seconds), DELAY_SECONDS_MAX) * 1e9))
    return made
