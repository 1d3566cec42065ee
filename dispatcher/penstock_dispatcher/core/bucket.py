"""A token bucket in exact integer arithmetic (the generic cell rate algorithm).

The state is one number: the *theoretical arrival time* (TAT), the moment at which the bucket would
be full again. Taking n tokens moves it n intervals ahead; a take is allowed while it stays within
`burst` intervals of now. An interval (period / tasks) need not be a whole number of nanoseconds, so
times are kept multiplied by `tasks`: nothing is ever rounded, and in any window of t nanoseconds at
most burst + t * tasks / period tokens are taken.

Who owns it: a pool, and each of its fairness keys (see `key_rates`). It never refills by being
reconfigured, and it starts empty after a restart, because a burst may have been spent just before
the crash.
"""

from penstock_dispatcher.core import settings


class TokenBucket:
    """Tokens for one `RateLimit`. Full at `now` unless `full` is False."""

    __slots__ = ("_rate", "_tat")

    def __init__(self, rate: settings.RateLimit, *, now: int, full: bool = True) -> None:
        self._rate = rate
        self._tat = now * rate.tasks
        if not full:
            self._tat += rate.burst * rate.period_ns

    @property
    def rate(self) -> settings.RateLimit:
        """The limit in force."""
        return self._rate

    def available(self, now: int) -> int:
        """Whole tokens that could be taken at `now`, 0 to burst."""
        rate = self._rate
        spent = max(0, self._tat - now * rate.tasks)
        return max(0, (rate.burst * rate.period_ns - spent) // rate.period_ns)

    def take(self, now: int, count: int = 1) -> bool:
        """Take `count` tokens, or none."""
        rate = self._rate
        start = max(self._tat, now * rate.tasks)
        tat = start + count * rate.period_ns
        if tat - now * rate.tasks > rate.burst * rate.period_ns:
            return False
        self._tat = tat
        return True

    def ready_at(self, now: int, count: int = 1) -> int:
        """The first moment, in nanoseconds and not before `now`, at which the last of `count`
        tokens can be taken, each as it comes.
        """
        rate = self._rate
        earliest = max(self._tat, now * rate.tasks) + (count - rate.burst) * rate.period_ns
        return max(now, -(-earliest // rate.tasks))

    def full_at(self) -> int:
        """The first moment, in nanoseconds, at which it is full if nothing is taken meanwhile."""
        return -(-self._tat // self._rate.tasks)

    def copy(self) -> "TokenBucket":
        """Another one in the same state."""
        made = TokenBucket(self._rate, now=0)
        made._tat = self._tat
        return made

    def reconfigure(self, rate: settings.RateLimit, now: int) -> None:
        """Change the limit. The whole tokens at hand stay, as far as the new burst has room; none
        are added.
        """
        tokens = min(self.available(now), rate.burst)
        self._rate = rate
        self._tat = now * rate.tasks + (rate.burst - tokens) * rate.period_ns
