"""Waiting for a task's end, pure: how long to ask for, and what to make of an answer.

A wait is a chain of calls, each held by the dispatcher for at most `SEGMENT_SECONDS`: so a wait may
last for days, through restarts of the dispatcher, and yet finds out within its patience that nobody
answers. Times are monotonic seconds.
"""

from typing import Final

from penstock import _retry, _task, errors

SEGMENT_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 5.0
"""What an answer may take beyond the time it was asked to take."""


class Wait:
    """One wait. `timeout_seconds` None = for ever; `patience_seconds` is how long nobody may
    answer.
    """

    def __init__(
        self, name: str, *, now: float, timeout_seconds: float | None, patience_seconds: float
    ) -> None:
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._deadline = float("inf") if timeout_seconds is None else now + timeout_seconds
        self._patience_seconds = patience_seconds
        self._attempts: _retry.Attempts | None = None
        self._seen: _task.Task | None = None

    def segment(self, now: float) -> float:
        """Seconds that the next call may be held."""
        return min(SEGMENT_SECONDS, max(0.0, self._deadline - now))

    def answered(self, task: _task.Task, now: float) -> bool:
        """Whether the task is over. Raises WaitTimeout if it is not and the time is."""
        self._attempts, self._seen = None, task
        if not task.terminal and now >= self._deadline:
            raise self._timeout()
        return task.terminal

    def failed(self, error: errors.PenstockError, *, now: float, draw: float) -> float:
        """Returns how long to wait before asking again; raises the error if that has no use."""
        if isinstance(error, errors.DeadlineExceeded):
            if now >= self._deadline:
                raise self._timeout()
            # A call that was held for too long: the connection is as good as broken.
            error = errors.Unavailable(error.message, code=error.code)
        if self._attempts is None:
            seconds = min(self._patience_seconds, self._deadline - now)
            self._attempts = _retry.Attempts(now=now, seconds=seconds)
        return self._attempts.failed(error, now=now, draw=draw)

    def _timeout(self) -> errors.WaitTimeout:
        state = f"it is {self._seen.state.value}" if self._seen else "its state is not known"
        return errors.WaitTimeout(
            f"{self._name} was not over after {self._timeout_seconds:.3g} s: {state}",
            task=self._seen,
        )
