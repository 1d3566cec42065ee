"""When to try a call again: pure, with time and chance as arguments.

Two kinds of refusal are worth another try. UNAVAILABLE always is, until the call's deadline: every
submission carries a `request_id`, so the dispatcher recognises a repeated one. RESOURCE_EXHAUSTED
is the caller's choice (`Retry`), and only when the dispatcher said when to come back. Everything
else is for the caller to see at once.

gRPC's own retry policy is not used: it stops after five attempts, and cannot tell a caller who
wants a refusal at once from one who wants to come back later.
"""

import dataclasses
from typing import Final

from penstock import errors

BACKOFF_SECONDS_MIN: Final = 0.1
BACKOFF_SECONDS_MAX: Final = 5.0
HELD_SECONDS_MIN: Final = 10.0
"""A try that ends without an answer after longer than this was held by a dispatcher that has gone:
to find out that there is none takes 5 s (`CONNECT_MS_MAX`) and 2 s of back-off.
"""
PUSHBACK_JITTER: Final = 0.2
"""At most this share is added to the delay that the dispatcher asked for: it decides how long, the
share keeps its callers from coming back all at once."""
_DOUBLINGS_MAX: Final = 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Come back when a pool that is full says when (RESOURCE_EXHAUSTED with a delay).

    At most `max_attempts` tries in all, the first included, within `max_elapsed_seconds` of the
    first one.
    """

    max_attempts: int = 100
    max_elapsed_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be 1 or more, is {self.max_attempts}")
        if not self.max_elapsed_seconds >= 0:
            raise ValueError(
                f"max_elapsed_seconds must be 0 or more, is {self.max_elapsed_seconds}"
            )


def retryable(error: errors.PenstockError, retry: Retry | None) -> bool:
    """Whether another try is allowed at all, leaving counts and time aside."""
    if isinstance(error, errors.Unavailable):
        return True
    return (
        retry is not None
        and isinstance(error, errors.AdmissionRefused)
        and error.retry_after_seconds is not None
    )


def delay_seconds(error: errors.PenstockError, *, failures: int, draw: float) -> float:
    """How long to wait after failure number `failures` (1-based). `draw` is uniform in [0, 1)."""
    if error.retry_after_seconds:
        return error.retry_after_seconds * (1 + PUSHBACK_JITTER * draw)
    ceiling = BACKOFF_SECONDS_MIN * 2.0 ** min(failures - 1, _DOUBLINGS_MAX)
    return min(BACKOFF_SECONDS_MAX, ceiling) * (0.5 + draw / 2)


class Attempts:
    """The tries of one call, begun `now` (monotonic seconds) and to be over in `seconds`; with
    `retry`, the time that allows comes on top, and for a call that waits for room `hold_seconds`.

    A dispatcher that is away is tried for `seconds` and the time of `retry`, however long the call
    might have been held by one that is there.
    """

    __slots__ = (
        "_away_since",
        "_begun",
        "_deadline",
        "_failures",
        "_last",
        "_patience",
        "_retry",
        "_retry_until",
        "_waits_since",
    )

    def __init__(
        self, *, now: float, seconds: float, retry: Retry | None = None, hold_seconds: float = 0.0
    ) -> None:
        self._retry = retry
        self._patience = (retry.max_elapsed_seconds if retry else 0.0) + seconds
        self._retry_until = now + (retry.max_elapsed_seconds if retry else 0.0)
        self._deadline = self._retry_until + seconds + hold_seconds
        self._failures = 0
        self._last: errors.Unavailable | None = None
        self._begun = self._waits_since = now
        self._away_since: float | None = None

    def begin(self, now: float) -> float:
        """A try begins; how long the caller has waited for room in those before."""
        self._begun = now
        return max(0.0, now - self._waits_since) if self._failures else 0.0

    def remaining(self, now: float) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._deadline - now)

    def failed(self, error: errors.PenstockError, *, now: float, draw: float) -> float:
        """Returns how long to wait before the next try; raises the error if there is to be none."""
        self._failures += 1
        if isinstance(error, errors.DeadlineExceeded) and self._last is not None:
            # The time ran out while nobody could be reached: that is the thing to tell.
            raise self._last
        if not retryable(error, self._retry):
            raise error
        delay = delay_seconds(error, failures=self._failures, draw=draw)
        if isinstance(error, errors.Unavailable):
            self._last = error
            held = now - self._begun > min(self._patience, HELD_SECONDS_MIN)
            if self._away_since is None or held:
                self._away_since = now
            too_late = now + delay >= min(self._deadline, self._away_since + self._patience)
        else:
            assert self._retry is not None, "a full pool is retried only with a Retry"
            too_late = now + delay > self._retry_until or self._failures >= self._retry.max_attempts
            self._away_since = None
            self._waits_since = now + delay  # that wait is over; the next one is as long again
        if too_late:
            raise error
        return delay
