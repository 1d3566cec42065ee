"""How an attempt ended, and what becomes of its task.

A verdict takes a task that holds no lease any more, decides (see `retry`), and has the ledger write
it down. Attempts and worker losses are charged apart: a failed attempt counts against the retry
policy, a lost worker against the pool's cap of losses, and a hand-back against nothing.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Final

from penstock_dispatcher import compiling
from penstock_dispatcher.core import ledger, retry, settings
from penstock_dispatcher.core import task as tasks

CODE_UNKNOWN: Final = 2
CODE_DEADLINE_EXCEEDED: Final = 4
CODE_UNAVAILABLE: Final = 14


class OutcomeKind(enum.Enum):
    """How an attempt ended, as the worker says."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    """Its process was ended from outside or crashed, and its worker lives to tell."""
    RELEASED = "released"
    CANCELLED = "cancelled"


# By name in an Enum they are found anew each time.
_COMPLETED: Final = OutcomeKind.COMPLETED
_FAILED: Final = OutcomeKind.FAILED
_SUCCEEDED: Final = tasks.TaskState.SUCCEEDED


@compiling.mypyc_attr(acyclic=True)
@dataclasses.dataclass(slots=True, init=False)
class Outcome:
    """One outcome frame. `retry_delay_ns` None = the policy decides."""

    lease_id: str
    token: int
    kind: OutcomeKind
    execution_time_ns: int
    result: bytes
    content_type: str
    failure: tasks.Failure | None
    retryable: bool
    retry_delay_ns: int | None

    def __init__(
        self,
        lease_id: str,
        token: int,
        kind: OutcomeKind,
        execution_time_ns: int = 0,
        result: bytes = b"",
        content_type: str = "",
        failure: tasks.Failure | None = None,
        retryable: bool = True,
        retry_delay_ns: int | None = None,
    ) -> None:
        self.lease_id = lease_id
        self.token = token
        self.kind = kind
        self.execution_time_ns = execution_time_ns
        self.result = result
        self.content_type = content_type
        self.failure = failure
        self.retryable = retryable
        self.retry_delay_ns = retry_delay_ns


class Judge:
    """Verdicts of one pool. `draw` gives a uniform number in [0, 1) for jitter."""

    def __init__(
        self, *, book: ledger.Ledger, config: settings.PoolSettings, draw: Callable[[], float]
    ) -> None:
        self.config = config
        self._book = book
        self._draw = draw

    def outcome(self, task: tasks.Task, outcome: Outcome, now: int) -> None:
        """The worker that held the lease has spoken."""
        task.execution_time_ns = outcome.execution_time_ns
        if outcome.kind is _COMPLETED or outcome.kind is _FAILED:
            self._book.execution.add(outcome.execution_time_ns)
        if outcome.kind is _COMPLETED:
            # Also while cancelling: it was done before the wish arrived.
            self._book.end(
                task,
                _SUCCEEDED,
                self.config,
                now,
                result=outcome.result,
                result_content_type=outcome.content_type,
            )
        elif task.cancelling:
            self._book.end(task, tasks.TaskState.CANCELLED, self.config, now)
        elif outcome.kind is _FAILED:
            failure = outcome.failure or tasks.Failure(
                CODE_UNKNOWN, "UNKNOWN", "the worker gave no reason"
            )
            self._failed(
                task, failure, retryable=outcome.retryable, wanted=outcome.retry_delay_ns, now=now
            )
        elif outcome.kind is OutcomeKind.LOST:
            lost = tasks.Failure(CODE_UNAVAILABLE, "WORKER_LOST", "the worker gave no cause")
            self._charge_loss(task, outcome.failure or lost, now)
        else:
            # Released, or stopped although nobody asked for it (its process ends): a hand-back.
            if outcome.execution_time_ns:
                self._book.started_in_time(task)
            self.hand_back(task, now)

    def hand_back(self, task: tasks.Task, now: int) -> None:
        """Nothing is charged; the task waits again, unless somebody wants it to stop."""
        if task.cancelling:
            self._book.end(task, tasks.TaskState.CANCELLED, self.config, now)
            return
        task.attempt -= 1
        self._book.requeue(task, failure=None, delay_ns=0, now=now)

    def lost(self, task: tasks.Task, *, reason: str, cause: str, now: int) -> None:
        """Its worker is lost: charge a loss, not an attempt."""
        if task.cancelling:
            self._book.end(task, tasks.TaskState.CANCELLED, self.config, now)
            return
        failure = tasks.Failure(CODE_UNAVAILABLE, reason, f"worker {task.worker} was lost: {cause}")
        self._charge_loss(task, failure, now)

    def _charge_loss(self, task: tasks.Task, failure: tasks.Failure, now: int) -> None:
        task.attempt -= 1
        task.worker_losses += 1
        decision = retry.after_loss(
            losses=task.worker_losses, max_losses=self.config.max_worker_losses
        )
        self._carry_out(task, decision, failure, now)

    def overdue(self, task: tasks.Task, now: int) -> None:
        """Its execution deadline, or the grace of its cancellation, is over without an outcome."""
        if task.cancelling:
            self._book.end(task, tasks.TaskState.CANCELLED, self.config, now)
            return
        seconds = task.execution_timeout_ns / 1e9
        failure = tasks.Failure(
            CODE_DEADLINE_EXCEEDED, "EXECUTION_TIMEOUT", f"ran for more than {seconds:g} s"
        )
        self._failed(task, failure, retryable=True, wanted=None, now=now)

    def _failed(
        self,
        task: tasks.Task,
        failure: tasks.Failure,
        *,
        retryable: bool,
        wanted: int | None,
        now: int,
    ) -> None:
        decision = retry.after_failure(
            task.retry,
            attempt=task.attempt,
            reason=failure.reason,
            retryable=retryable,
            wanted_delay_ns=wanted,
            draw=self._draw(),
        )
        self._carry_out(task, decision, failure, now)

    def _carry_out(
        self, task: tasks.Task, decision: retry.RetryDecision, failure: tasks.Failure, now: int
    ) -> None:
        match decision.action:
            case retry.RetryAction.REQUEUE:
                self._book.requeue(task, failure=failure, delay_ns=decision.delay_ns, now=now)
            case retry.RetryAction.FAIL:
                self._book.end(task, tasks.TaskState.FAILED, self.config, now, failure=failure)
            case retry.RetryAction.DEAD_LETTER:
                self._book.end(
                    task, tasks.TaskState.DEAD_LETTERED, self.config, now, failure=failure
                )
