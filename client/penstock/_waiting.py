"""Waiting for a task's or a pool's end, pure: how long to ask for, what to make of an answer.

A wait is a chain of calls, each held by the dispatcher for at most `SEGMENT_SECONDS`: so a wait may
last for days, through restarts of the dispatcher, and yet finds out within its patience that nobody
answers. Times are monotonic seconds.
"""

from typing import Final

from penstock import _pools, _retry, _task, _times, errors

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


class Drain:
    """One wait for a pool to be drained. `max_wait` None = for ever."""

    def __init__(self, max_wait: _times.Seconds | None, *, now: float) -> None:
        self._deadline = float("inf")
        if max_wait is not None:
            self._deadline = now + _times.to_seconds(max_wait, name="max_wait")

    def segment(self, now: float) -> float:
        """Seconds that the next call may be held."""
        return min(SEGMENT_SECONDS, max(0.0, self._deadline - now))

    def answered(self, pool: _pools.PoolInfo, now: float) -> bool:
        """Whether that was all: it is drained, somebody has taken it back, or the time is up."""
        taken_back = pool.state not in (_pools.PoolState.DRAINING, _pools.PoolState.CLOSED)
        return pool.drained or taken_back or now >= self._deadline
