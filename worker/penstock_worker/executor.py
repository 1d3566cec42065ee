"""Runs attempts: plain functions in threads, `async` ones in an event loop of their own thread.

The caller lives in an event loop, the stream's, and neither kind shares it: attempts are begun,
stopped, timed and finished there, so that a handler that blocks holds up nothing but, if it is
`async`, the other async ones. Every attempt ends with exactly one `on_end(lease_id, outcome)` in
the caller's loop, whatever its handler does: without one its slot and its lease would never come
free.

Stopping is cooperative: a coroutine is cancelled, a function sees `Task.cancelled`; a function that
never looks keeps its slot until it returns, because its slot *is* its thread. An attempt whose
deadline passes is stopped the same way and ends as a failure with the reason EXECUTION_TIMEOUT.

Log lines, one an attempt's start and end: `task started task=… lease=… attempt=… type=…` and
`task ended task=… lease=… attempt=… outcome=… seconds=…`.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import app, errors, outcomes
from penstock_worker import task as tasks

logger = logging.getLogger("penstock.worker")

_Ended = asyncio.Task[wire.TaskOutcome]


@dataclasses.dataclass(slots=True, eq=False)
class _Attempt:
    task: tasks.Task
    lease_id: str
    home: asyncio.AbstractEventLoop
    began: float
    timer: asyncio.TimerHandle | None = None
    is_async: bool = False
    coroutine: "_Ended | None" = None
    """Made and cancelled in the handlers' loop only."""
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
        self._handlers = asyncio.new_event_loop()
        self._closed = False
        self._handlers_thread = threading.Thread(
            target=self._serve_handlers, name="penstock-handlers", daemon=True
        )
        self._handlers_thread.start()

    # ------------------------------------------------------------ in the caller's loop

    def start(self, assignment: wire.Assignment) -> None:
        """Begin an attempt."""
        task, lease_id = _task(assignment), assignment.lease.lease_id
        attempt = _Attempt(task, lease_id, asyncio.get_running_loop(), time.monotonic())
        self._attempts[lease_id] = attempt
        logger.info(
            "task started task=%s lease=%s attempt=%d type=%s",
            task.name,
            lease_id,
            task.attempt,
            task.type,
        )
        try:
            self._begin(attempt)
        except Exception as error:  # the system has no thread left, for one
            self._report(attempt, self._failure(attempt, error))

    def _begin(self, attempt: _Attempt) -> None:
        handler, left = self._worker.handler(attempt.task.type), attempt.task.remaining_seconds
        if handler is None:
            missing = outcomes.unknown_type(attempt.task.type, self._worker.types)
            self._report(attempt, missing)
            return
        if left is not None:
            attempt.timer = attempt.home.call_later(
                left, self.stop, attempt.lease_id, outcomes.TIMEOUT_REASON
            )
        if app.is_async(handler):
            attempt.is_async = True
            self._handlers.call_soon_threadsafe(self._launch, attempt, handler)
        else:
            self._threads.submit(self._run_sync, attempt, handler)

    def stop(self, lease_id: str, reason: str) -> None:
        """Ask an attempt to stop; too late is no error."""
        attempt = self._attempts.get(lease_id)
        if attempt is None:
            return
        attempt.stopped_for = attempt.stopped_for or reason
        attempt.task.stop_event.set()
        if attempt.is_async:
            self._handlers.call_soon_threadsafe(self._cancel, attempt)

    def _finish(self, attempt: _Attempt, outcome: wire.TaskOutcome, seconds: float) -> None:
        if self._attempts.pop(attempt.lease_id, None) is None:
            return
        if attempt.timer is not None:
            attempt.timer.cancel()
        outcome.execution_time.CopyFrom(outcomes.duration(seconds))
        logger.info(
            "task ended task=%s lease=%s attempt=%d outcome=%s seconds=%.3f",
            attempt.task.name,
            attempt.lease_id,
            attempt.task.attempt,
            outcome.WhichOneof("outcome"),
            seconds,
        )
        self._on_end(attempt.lease_id, outcome)

    # ------------------------------------------------------------ in any thread

    def close(self) -> None:
        """Stop the handlers' loop. Functions that still run are left to the process's end."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(RuntimeError):  # closed before
            self._handlers.call_soon_threadsafe(self._handlers.stop)
        self._handlers_thread.join(timeout=1)

    def _report(self, attempt: _Attempt, outcome: wire.TaskOutcome) -> None:
        seconds = time.monotonic() - attempt.began
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            attempt.home.call_soon_threadsafe(self._finish, attempt, outcome, seconds)

    def _failure(self, attempt: _Attempt, error: BaseException) -> wire.TaskOutcome:
        seconds = time.monotonic() - attempt.began
        outcome = outcomes.of_error(error, stopped_for=attempt.stopped_for, seconds=seconds)
        asked_for = errors.PermanentError | errors.RetryLater
        if attempt.stopped_for:
            asked_for |= asyncio.CancelledError | errors.Cancelled
        if outcome.HasField("failed") and not isinstance(error, asked_for):
            logger.warning(
                "task failed task=%s lease=%s",
                attempt.task.name,
                attempt.lease_id,
                exc_info=error,
            )
        return outcome

    # ------------------------------------------------------------ in a thread of its own

    def _run_sync(self, attempt: _Attempt, handler: Callable[..., Any]) -> None:
        try:
            attempt.task.check_cancelled()
            outcome = outcomes.completed(handler(attempt.task))
        except BaseException as error:  # SystemExit in a thread ends nothing but the attempt
            outcome = self._failure(attempt, error)
        self._report(attempt, outcome)

    # ------------------------------------------------------------ in the handlers' loop

    def _serve_handlers(self) -> None:
        while not self._closed:
            try:
                self._handlers.run_forever()
            except BaseException:
                # SystemExit in a task that a handler made gets here, and ends that task alone.
                logger.exception("the handlers' event loop was left; it goes on")
        self._handlers.close()

    def _launch(self, attempt: _Attempt, handler: Callable[..., Any]) -> None:
        attempt.coroutine = self._handlers.create_task(self._run_async(attempt, handler))
        attempt.coroutine.add_done_callback(functools.partial(self._async_ended, attempt))

    def _cancel(self, attempt: _Attempt) -> None:
        if attempt.coroutine is not None:
            attempt.coroutine.cancel()

    async def _run_async(self, attempt: _Attempt, handler: Callable[..., Any]) -> wire.TaskOutcome:
        try:
            return outcomes.completed(await handler(attempt.task))
        except GeneratorExit:
            raise  # the loop is gone, and with it whoever could be told
        except BaseException as error:  # SystemExit would end the loop
            return self._failure(attempt, error)

    def _async_ended(self, attempt: _Attempt, ended: "_Ended") -> None:
        # Of a coroutine that is cancelled before its first step, not a line has run.
        error = asyncio.CancelledError() if ended.cancelled() else ended.exception()
        self._report(attempt, ended.result() if error is None else self._failure(attempt, error))


def _task(assignment: wire.Assignment) -> tasks.Task:
    message, lease, deadline = assignment.task, assignment.lease, assignment.deadline
    return tasks.Task(
        payload=message.payload,
        name=lease.task or message.name,
        type=message.type,
        content_type=message.content_type,
        attempt=lease.attempt,
        labels=dict(message.labels),
        trace_context=dict(message.trace_context),
        deadline=(
            float(deadline.seconds + deadline.nanos / 1e9)
            if assignment.HasField("deadline")
            else None
        ),
        checkpoint=assignment.checkpoint,
    )
