"""The only reader of the clock: nanoseconds since the Unix epoch that never go back.

Wall time is read once, at the start; from then on the monotonic clock counts. A step of the wall
clock (NTP, a person) therefore moves no lease, no rate and no delay of the running process.
"""

import time


class Clock:
    """`now()` is the core's time."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def now(self) -> int:
        """Nanoseconds since the epoch; never less than before."""
        return time.monotonic_ns() + self._offset
