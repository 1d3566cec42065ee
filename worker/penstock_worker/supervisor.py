"""Runs attempts in children of this process, which can be stopped whatever they do.

One thread with an event loop of its own talks to the keeper and to the children, so that their
output holds up neither the stream nor its heartbeats. What a child is, and what its end means, is
for a `Runner`: `command` runs any program, `isolation` Python handlers.

Stopping: the child is told to (SIGTERM, or a word), and its whole process group is killed shortly
before the grace is over, so that its end is told while the dispatcher still waits for it. Children
never outlive the worker: that is the keeper's business.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import attempts, keeping, outcomes

logger = logging.getLogger("penstock.worker")

CLOSE_SECONDS_MAX: Final = 5.0
"""How long what still runs at the worker's own end may take, after it was told to stop."""
MARGIN_SECONDS_MAX: Final = 1.0
MARGIN_SHARE: Final = 0.2
TASK_VARIABLES: Final = ("PENSTOCK_TASK_", "TRACEPARENT", "TRACESTATE")
"""Beginnings of names that only a task may set."""


@dataclasses.dataclass(slots=True, eq=False)
class Running(attempts.Attempt):
    """An attempt in a child. `stopping` is set when it was told to stop; in the children's loop."""

    stopping: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class Runner(Protocol):
    """Runs one attempt in a child; in the children's loop."""

    async def run(self, attempt: Running, assignment: wire.Assignment) -> wire.TaskOutcome:
        """To its end. OSError = no child could be had."""

    async def close(self) -> None:
        """Nothing runs any more, and nothing will."""


def kill_after_seconds(grace_seconds: float) -> float:
    """When to kill what was told to stop: a little before its grace is over."""
    return grace_seconds - min(MARGIN_SECONDS_MAX, MARGIN_SHARE * grace_seconds)


def common_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What every child inherits: the worker's own, without what only a task may set."""
    return {
        name: value for name, value in environment.items() if not name.startswith(TASK_VARIABLES)
    }


class Supervisor(attempts.Attempts[Running]):
    """See the module's docstring. `lost` is called when no child can be had any more; in any
    thread.
    """

    def __init__(
        self,
        make: Callable[[keeping.Keeping], Runner],
        on_end: attempts.OnEnd,
        on_progress: attempts.OnProgress,
        lost: Callable[[], None],
    ) -> None:
        super().__init__(Running, on_end, on_progress)
        self._keeping = keeping.Keeping(common_environment(os.environ), lost)
        self._runner = make(self._keeping)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: set[Running] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="penstock-children", daemon=True
        )
        self._thread.start()
        self._loop.call_soon_threadsafe(self._keeping.watch)

    # ------------------------------------------------------------ in the caller's loop

    def _begin(self, attempt: Running, assignment: wire.Assignment) -> bool:
        self._loop.call_soon_threadsafe(self._launch, attempt, assignment)
        return True

    def _interrupt(self, attempt: Running) -> None:
        with contextlib.suppress(RuntimeError):  # closed
            self._loop.call_soon_threadsafe(attempt.stopping.set)

    # ------------------------------------------------------------ in any thread

    def close(self) -> None:
        """Stop what runs, and end the keeper."""
        if self._loop.is_closed():
            return
        closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        with contextlib.suppress(TimeoutError):
            closing.result(2 * CLOSE_SECONDS_MAX + keeping.END_SECONDS_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS_MAX)
        if not self._thread.is_alive():
            self._loop.close()

    # ------------------------------------------------------------ in the children's loop

    def _launch(self, attempt: Running, assignment: wire.Assignment) -> None:
        task = asyncio.get_running_loop().create_task(self._run(attempt, assignment))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, attempt: Running, assignment: wire.Assignment) -> None:
        self._running.add(attempt)
        try:
            outcome = await self._runner.run(attempt, assignment)
        except keeping.KeeperLostError as error:
            outcome = outcomes.released(str(error))
        except Exception as error:
            outcome = self._failure(attempt, error)
        finally:
            self._running.discard(attempt)
        self._report(attempt, outcome)

    async def _close(self) -> None:
        try:
            for attempt in self._running:
                attempt.stopping.set()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS_MAX)
            await self._runner.close()
        finally:
            self._keeping.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
