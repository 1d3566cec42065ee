"""Runs attempts: plain functions in threads, `async` ones in an event loop of their own thread.

Neither shares anything with the dispatcher's stream but one call at the end, `on_end(lease_id,
outcome)`, made from whatever thread the attempt ended in. Stopping is cooperative: a coroutine is
cancelled, a function sees `Task.cancelled`; a function that never looks keeps its slot until it
returns, because its slot *is* its thread. An attempt whose deadline passes is stopped the same way
and ends as a failure with the reason EXECUTION_TIMEOUT.

Log lines, one an attempt's start and end: `task started task=… lease=… attempt=… type=…` and
`task ended task=… lease=… attempt=… outcome=… seconds=…`.
"""

import asyncio
import concurrent.futures
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import app, errors
from penstock_worker import task as tasks

logger = logging.getLogger("penstock.worker")

ERROR_DOMAIN = "worker.penstock.dev"
MESSAGE_LENGTH_MAX = 4096
CODE_UNKNOWN, CODE_DEADLINE_EXCEEDED, CODE_UNIMPLEMENTED = 2, 4, 12
TIMEOUT_REASON = "EXECUTION_TIMEOUT"


@dataclasses.dataclass(slots=True, eq=False)
class _Attempt:
    task: tasks.Task
    lease_id: str
    began: float
    coroutine: "asyncio.Task[None] | None" = None
    timer: asyncio.TimerHandle | None = None
    stopped_for: str = ""


class Executor:
    """See the module's docstring. At most `slots` attempts; the caller keeps to that."""

    def __init__(
        self, worker: app.Worker, slots: int, on_end: Callable[[str, wire.TaskOutcome], None]
    ) -> None:
        self._worker = worker
        self._on_end = on_end
        self._attempts: dict[str, _Attempt] = {}
        self._threads = concurrent.futures.ThreadPoolExecutor(
            max_workers=slots, thread_name_prefix="penstock-task"
        )
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(
            target=self._loop.run_forever, name="penstock-handlers", daemon=True
        )
        self._loop_thread.start()

    def start(self, assignment: wire.Assignment) -> None:
        """Begin an attempt. Any thread."""
        self._loop.call_soon_threadsafe(self._start, assignment)

    def stop(self, lease_id: str, reason: str) -> None:
        """Ask an attempt to stop. Any thread; too late is no error."""
        self._loop.call_soon_threadsafe(self._stop, lease_id, reason)

    def close(self) -> None:
        """Stop the loop. Functions that still run in threads are left to the process's end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join(timeout=1)

    def _start(self, assignment: wire.Assignment) -> None:
        message, lease = assignment.task, assignment.lease
        task = tasks.Task(
            payload=message.payload,
            name=lease.task or message.name,
            type=message.type,
            content_type=message.content_type,
            attempt=lease.attempt,
            labels=dict(message.labels),
            trace_context=dict(message.trace_context),
            deadline=_seconds(assignment.deadline) if assignment.HasField("deadline") else None,
            checkpoint=assignment.checkpoint,
        )
        attempt = _Attempt(task, lease.lease_id, time.monotonic())
        self._attempts[lease.lease_id] = attempt
        logger.info(
            "task started task=%s lease=%s attempt=%d type=%s",
            task.name,
            lease.lease_id,
            task.attempt,
            task.type,
        )
        handler = self._worker.handler(task.type)
        if handler is None:
            outcome = _failed(
                CODE_UNIMPLEMENTED,
                "UNKNOWN_TASK_TYPE",
                f"no handler for type {task.type!r}; this worker has: "
                + (", ".join(self._worker.types) or "none"),
                retryable=False,
            )
            self._finish(attempt, outcome)
            return
        if task.remaining_seconds is not None:
            attempt.timer = self._loop.call_later(
                task.remaining_seconds, self._stop, lease.lease_id, TIMEOUT_REASON
            )
        if app.is_async(handler):
            attempt.coroutine = self._loop.create_task(self._run_async(attempt, handler))
        else:
            self._threads.submit(self._run_sync, attempt, handler)

    def _stop(self, lease_id: str, reason: str) -> None:
        attempt = self._attempts.get(lease_id)
        if attempt is None:
            return
        attempt.stopped_for = attempt.stopped_for or reason
        attempt.task.stop_event.set()
        if attempt.coroutine is not None:
            attempt.coroutine.cancel()

    async def _run_async(self, attempt: _Attempt, handler: Callable[..., Any]) -> None:
        try:
            outcome = _completed(await handler(attempt.task))
        except asyncio.CancelledError:
            outcome = self._stopped(attempt)
        except Exception as error:
            outcome = self._raised(attempt, error)
        self._finish(attempt, outcome)

    def _run_sync(self, attempt: _Attempt, handler: Callable[..., Any]) -> None:
        try:
            outcome = _completed(handler(attempt.task))
        except Exception as error:
            outcome = self._raised(attempt, error)
        except BaseException as error:  # SystemExit in a thread ends nothing but the attempt
            outcome = self._raised(attempt, RuntimeError(f"handler raised {error!r}"))
        self._loop.call_soon_threadsafe(self._finish, attempt, outcome)

    def _raised(self, attempt: _Attempt, error: Exception) -> wire.TaskOutcome:
        message = str(error) or repr(error)
        match error:
            case errors.Cancelled():
                return self._stopped(attempt)
            case errors.Release():
                return wire.TaskOutcome(released=wire.TaskOutcome.Released(reason=message))
            case errors.PermanentError():
                return _failed(CODE_UNKNOWN, type(error).__name__, message, retryable=False)
            case errors.RetryLater():
                return _failed(
                    CODE_UNKNOWN,
                    type(error).__name__,
                    message,
                    retryable=True,
                    delay_seconds=error.delay_seconds,
                )
            case _:
                logger.warning(
                    "task failed task=%s lease=%s",
                    attempt.task.name,
                    attempt.lease_id,
                    exc_info=error,
                )
                return _failed(CODE_UNKNOWN, type(error).__name__, message, retryable=True)

    def _stopped(self, attempt: _Attempt) -> wire.TaskOutcome:
        if attempt.stopped_for == TIMEOUT_REASON:
            seconds = time.monotonic() - attempt.began
            return _failed(
                CODE_DEADLINE_EXCEEDED,
                TIMEOUT_REASON,
                f"stopped after {seconds:.1f} s: its execution time-out was over",
                retryable=True,
            )
        return wire.TaskOutcome(cancelled=wire.TaskOutcome.Cancelled())

    def _finish(self, attempt: _Attempt, outcome: wire.TaskOutcome) -> None:
        del self._attempts[attempt.lease_id]
        if attempt.timer is not None:
            attempt.timer.cancel()
        seconds = time.monotonic() - attempt.began
        outcome.execution_time.CopyFrom(_duration(seconds))
        logger.info(
            "task ended task=%s lease=%s attempt=%d outcome=%s seconds=%.3f",
            attempt.task.name,
            attempt.lease_id,
            attempt.task.attempt,
            outcome.WhichOneof("outcome"),
            seconds,
        )
        self._on_end(attempt.lease_id, outcome)


def _completed(result: Any) -> wire.TaskOutcome:
    content, content_type = app.encode(result)
    return wire.TaskOutcome(
        completed=wire.TaskOutcome.Completed(result=content, content_type=content_type)
    )


def _failed(
    code: int, reason: str, message: str, *, retryable: bool, delay_seconds: float | None = None
) -> wire.TaskOutcome:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=ERROR_DOMAIN))
    status = status_pb2.Status(code=code, message=message[:MESSAGE_LENGTH_MAX], details=[detail])
    failed = wire.TaskOutcome.Failed(error=status, retryable=retryable)
    if delay_seconds is not None:
        failed.retry_delay.CopyFrom(_duration(delay_seconds))
    return wire.TaskOutcome(failed=failed)


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(max(0, int(seconds * 1e9)))
    return duration


def _seconds(timestamp: Any) -> float:
    return float(timestamp.seconds + timestamp.nanos / 1e9)
