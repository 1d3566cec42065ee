"""How long to leave something alone that has failed: longer with every failure in a row. Pure but
for what is remembered; the time, in seconds, and the random draw in [0, 1) are arguments.
"""

from typing import Final

FIRST_SECONDS: Final = 2.0
SECONDS_MAX: Final = 30.0


class Backoff:
    """Of one thing that may fail. Half of each wait is drawn, so that many do not come together."""

    def __init__(self) -> None:
        self._failures = 0
        self._not_before = 0.0

    def failed(self, now: float, *, draw: float) -> None:
        """It has failed once more."""
        longest = min(SECONDS_MAX, FIRST_SECONDS * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = now + longest * (1 + draw) / 2

    def reset(self) -> None:
        """It has worked, or is another thing now."""
        self._failures, self._not_before = 0, 0.0

    def left(self, now: float) -> float:
        """Seconds for which it must be left alone; 0 = it may be tried."""
        return max(0.0, min(self._not_before - now, SECONDS_MAX))
