"""Runs attempts in this process: plain functions in threads, `async` ones in an event loop of their
own thread.

Neither kind shares the caller's loop (see `attempts`), so that a handler that blocks holds up
nothing but, if it is `async`, the other async ones.

Stopping is cooperative: a coroutine is cancelled, a function sees `Task.cancelled`; a function that
never looks keeps its slot until it returns, because its slot *is* its thread. `isolation` is for
those who need more than that.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import app, attempts, handoff, outcomes

logger = logging.getLogger("penstock.worker")

_Ended = asyncio.Task[wire.TaskOutcome]


@dataclasses.dataclass(slots=True, eq=False)
class _Attempt(attempts.Attempt):
    is_async: bool = False
    coroutine: "_Ended | None" = None
    """Made and cancelled in the handlers' loop only."""


class Executor(attempts.Attempts[_Attempt]):
    """See the module's docstring. At most `slots` attempts; the caller keeps to that.

    `announces` False leaves the log lines to somebody else.
    """

    def __init__(
        self,
        worker: app.Worker,
        slots: int,
        on_end: attempts.OnEnd,
        on_progress: attempts.OnProgress,
        *,
        announces: bool = True,
    ) -> None:
        super().__init__(_Attempt, on_end, on_progress)
        self.announces = announces
        self._worker = worker
        self._threads = concurrent.futures.ThreadPoolExecutor(
            max_workers=slots, thread_name_prefix="penstock-task"
        )
        self._handlers = asyncio.new_event_loop()
        self._launches = handoff.Handoff(self._handlers)
        self._closed = False
        self._handlers_thread = threading.Thread(
            target=self._serve_handlers, name="penstock-handlers", daemon=True
        )
        self._handlers_thread.start()

    # ------------------------------------------------------------ in the caller's loop

    def _begin(self, attempt: _Attempt, _: wire.Assignment) -> bool:
        handler = self._worker.handler(attempt.task.type)
        if handler is None:
            missing = outcomes.unknown_type(attempt.task.type, self._worker.types)
            self._report(attempt, missing)
            return False
        if app.is_async(handler):
            attempt.is_async = True
            self._launches.call(self._launch, attempt, handler)
        else:
            self._threads.submit(self._run_sync, attempt, handler)
        return True

    def _interrupt(self, attempt: _Attempt) -> None:
        if attempt.is_async:
            self._launches.call(self._cancel, attempt)

    # ------------------------------------------------------------ in any thread

    def close(self) -> None:
        """Stop the handlers' loop. Functions that still run are left to the process's end."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(RuntimeError):  # closed before
            self._handlers.call_soon_threadsafe(self._handlers.stop)
        self._handlers_thread.join(timeout=1)

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
