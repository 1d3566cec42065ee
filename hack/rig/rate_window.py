"""The rate, judged from outside: in every window of t, at most burst + rate * t starts.

For a window that begins with a start, with another limit in force, or with a bucket that is known
to be empty. What matters of all windows so far is the one with the least left: each start costs a
constant amount of work. Whole numbers only: one token is `period_ns` units.
"""

from penstock_dispatcher.core import settings, units


class RateWindow:
    """Starts of one pool, or of one key of it (`whose`), while its limit changes. All limits have
    a period of one second.
    """

    def __init__(self, limit: settings.RateLimit | None, *, now: int, whose: str = "") -> None:
        self._limit = limit
        self._whose = whose
        self._at = now
        self._earned = 0
        """By the rate, since the beginning."""
        self._spent = 0
        self._least: int | None = None
        """What the tightest window may have spent by now, without what has been earned."""

    def _pass(self, now: int) -> None:
        if self._limit is not None:
            assert self._limit.period_ns == units.SECOND, "one unit for all limits"
            self._earned += (now - self._at) * self._limit.tasks
        self._at = now

    def _begin_window(self, burst: int) -> None:
        allowed = self._spent - self._earned + burst * units.SECOND
        self._least = allowed if self._least is None else min(self._least, allowed)

    def limited(self, limit: settings.RateLimit | None, now: int) -> None:
        """Another limit is in force. One where there was none begins without a token."""
        self._pass(now)
        switched_on = self._limit is None and limit is not None
        self._limit = limit
        if limit is None:
            self._least = None
        elif switched_on:
            self._begin_window(0)

    def emptied(self, now: int) -> None:
        """A restart: whoever begins anew has no token."""
        self._pass(now)
        if self._limit is not None:
            self._begin_window(0)

    def started(self, now: int) -> None:
        """One task was given out."""
        self._pass(now)
        if self._limit is None:
            return
        self._begin_window(self._limit.burst)
        self._spent += units.SECOND
        assert self._least is not None
        assert self._spent - self._earned <= self._least, f"the rate{self._whose} is exact"
