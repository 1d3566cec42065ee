"""The attempts that run, whatever runs them: begun, stopped, timed and finished in one loop.

The caller lives in an event loop, the stream's, and every attempt ends with exactly one
`on_end(lease_id, outcome)` there, whatever it does: without one its slot and its lease would never
come free. What it tells before, by `Task.progress` and `Task.save_checkpoint`, gets there as
`on_progress(lease_id, progress)`, the newest each time and the last before its end. How an attempt
is begun and stopped is for the subclass to say: `executor` runs handlers in this process,
`supervisor` has children of it.

An attempt whose deadline passes is stopped like any other and ends as a failure with the reason
EXECUTION_TIMEOUT. How long one that was told to stop may take is `grace_seconds`, the pool's, as
the dispatcher said last.

Log lines, one an attempt's start and end: `task started task=… lease=… attempt=… type=…` and
`task ended task=… lease=… attempt=… outcome=… seconds=…`.
"""

import abc
import asyncio
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import errors, handoff, outcomes
from penstock_worker import task as tasks

logger = logging.getLogger("penstock.worker")

OnEnd = Callable[[str, wire.TaskOutcome], None]
OnProgress = Callable[[str, task_pb2.Progress], None]


@dataclasses.dataclass(slots=True, eq=False)
class Attempt:
    """One that runs. `began` is monotonic; `stopped_for` is why it was told to stop, if it was."""

    task: tasks.Task
    lease_id: str
    home: handoff.Handoff
    began: float
    grace_seconds: float
    timer: asyncio.TimerHandle | None = None
    stopped_for: str = ""

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.began


_A = TypeVar("_A", bound=Attempt)


class Attempts(abc.ABC, Generic[_A]):
    """See the module's docstring. As many at once as the caller starts, who keeps to the slots."""

    announces = True
    """Writes the log lines."""

    def __init__(self, kind: type[_A], on_end: OnEnd, on_progress: OnProgress) -> None:
        self._kind = kind
        self._on_end, self._on_progress = on_end, on_progress
        self._attempts: dict[str, _A] = {}
        self._home: handoff.Handoff | None = None

    # ------------------------------------------------------------ in the caller's loop

    def start(self, assignment: wire.Assignment, *, grace_seconds: float = 0.0) -> None:
        """Begin an attempt."""
        if self._home is None or self._home.loop is not asyncio.get_running_loop():
            self._home = handoff.Handoff(asyncio.get_running_loop())
        attempt = self._kind(
            task=task_of(assignment),
            lease_id=assignment.lease.lease_id,
            home=self._home,
            began=time.monotonic(),
            grace_seconds=grace_seconds,
        )
        self._attempts[attempt.lease_id] = attempt
        # By its lease id: a listener that held the attempt would close a circle, and keep each task
        # until the cyclic collector runs.
        attempt.task.told.listen(functools.partial(self._told, attempt.home, attempt.lease_id))
        if self.announces:
            logger.info(
                "task started task=%s lease=%s attempt=%d type=%s",
                attempt.task.name,
                attempt.lease_id,
                attempt.task.attempt,
                attempt.task.type,
            )
        try:
            if self._begin(attempt, assignment):
                self._time(attempt)
        except Exception as error:  # the system has no thread left, for one
            self._report(attempt, self._failure(attempt, error))

    def _time(self, attempt: _A) -> None:
        left = attempt.task.remaining_seconds
        if left is not None and attempt.lease_id in self._attempts:
            attempt.timer = attempt.home.loop.call_later(
                left, self.stop, attempt.lease_id, outcomes.TIMEOUT_REASON
            )

    def stop(self, lease_id: str, reason: str, grace_seconds: float | None = None) -> None:
        """Tell an attempt to stop; too late is no error."""
        attempt = self._attempts.get(lease_id)
        if attempt is None:
            return
        attempt.stopped_for = attempt.stopped_for or reason
        if grace_seconds is not None:
            attempt.grace_seconds = grace_seconds
        attempt.task.stop_event.set()
        self._interrupt(attempt)

    def seconds(self, lease_id: str) -> float:
        """How long an attempt has been running; 0 = it is not."""
        attempt = self._attempts.get(lease_id)
        return 0.0 if attempt is None else attempt.seconds

    def _finish(self, attempt: _A, outcome: wire.TaskOutcome, seconds: float) -> None:
        self._pass_on(attempt.lease_id)
        if self._attempts.pop(attempt.lease_id, None) is None:
            return
        if attempt.timer is not None:
            attempt.timer.cancel()
        outcome.execution_time.CopyFrom(outcomes.duration(seconds))
        if self.announces:
            logger.info(
                "task ended task=%s lease=%s attempt=%d outcome=%s seconds=%.3f",
                attempt.task.name,
                attempt.lease_id,
                attempt.task.attempt,
                outcomes.kind(outcome),
                seconds,
            )
        self._on_end(attempt.lease_id, outcome)

    def _pass_on(self, lease_id: str) -> None:
        attempt = self._attempts.get(lease_id)
        progress = None if attempt is None else attempt.task.told.take()
        if progress is not None:
            self._on_progress(lease_id, progress)

    # ------------------------------------------------------------ in any thread

    def _told(self, home: handoff.Handoff, lease_id: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            home.call(self._pass_on, lease_id)

    def _report(self, attempt: _A, outcome: wire.TaskOutcome) -> None:
        seconds = attempt.seconds
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
            attempt.home.call(self._finish, attempt, outcome, seconds)

    def _failure(self, attempt: _A, error: BaseException) -> wire.TaskOutcome:
        outcome = outcomes.of_error(error, stopped_for=attempt.stopped_for, seconds=attempt.seconds)
        asked_for = errors.PermanentError | errors.RetryLater
        if attempt.stopped_for:
            asked_for |= asyncio.CancelledError | errors.Cancelled
        if outcome.HasField("failed") and not isinstance(error, asked_for):
            logger.warning(
                "task failed task=%s lease=%s", attempt.task.name, attempt.lease_id, exc_info=error
            )
        return outcome

    # ------------------------------------------------------------ for the subclass

    @abc.abstractmethod
    def _begin(self, attempt: _A, assignment: wire.Assignment) -> bool:
        """Begin it; False = it is over already. Whatever is raised fails it."""

    @abc.abstractmethod
    def _interrupt(self, attempt: _A) -> None:
        """It was told to stop, for the first time or again."""

    @abc.abstractmethod
    def close(self) -> None:
        """End whatever runs attempts, without waiting for long. In any thread."""


def task_of(assignment: wire.Assignment) -> tasks.Task:
    """What a handler is given."""
    message, lease = assignment.task, assignment.lease
    return tasks.Task(
        payload=message.payload,
        name=lease.task or message.name,
        type=message.type,
        content_type=message.content_type,
        attempt=lease.attempt,
        labels=dict(message.labels),
        trace_context=dict(message.trace_context),
        deadline=(
            outcomes.seconds(assignment.deadline) if assignment.HasField("deadline") else None
        ),
        slots=max(1, message.slots),
        checkpoint=assignment.checkpoint,
    )
