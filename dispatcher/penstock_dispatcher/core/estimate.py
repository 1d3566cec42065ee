"""When a task that waits will start: arithmetic on what is known of a pool, and nothing else.

Two things hold a task back, and the later one decides: a slot must come free, and a token.

*Slots.* A task that is not among as many as there are free slots waits until enough of those that
run have ended. By Little's law a fleet of s slots, each kept for w by a task, starts s / w tasks a
second. w is measured in the dispatcher, from assignment to outcome: what frames, journal and
network take is in it, so that it holds for tasks of microseconds and of hours alike. While nothing
has ended yet, a task that has run for a time is expected to run for as long again: of all guesses
from one number the one that errs alike on both sides. A pool whose workers are all gone is judged
by how fast its queue was drained lately; one that has never had any is not judged.

*Tokens.* A rate limit says exactly when the n-th token will have come.

The fleet is taken as it is: that it may grow is not known here. So is the queue: of what may still
come before a task, with a higher priority, nothing is known either.
"""

import bisect
import dataclasses
from typing import Final

from penstock_dispatcher.core import units

UNKNOWN: Final = -1
"""Nothing that an estimate could rest on; negative, unlike every wait."""
COLD_FACTOR: Final = 2
"""How long a task will have run in all, in units of how long it has run, before any has ended."""
WAIT_NS_MAX: Final = 365 * 86_400 * units.SECOND


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a wait depends on. `slots`: of workers that take work, and no more than may be in
    flight. `occupancy_ns`: for how long a task keeps its slot, 0 = nothing has run yet.
    `drained_per_second`: tasks that workers have ended lately.
    """

    slots: int
    in_flight: int
    occupancy_ns: int
    drained_per_second: float

    @property
    def free(self) -> int:
        """Slots without a task."""
        return max(0, self.slots - self.in_flight)


def wait_ns(ahead: int, conditions: Conditions, *, token_ns: int = 0) -> int:
    """How long until a task starts that `ahead` others start before. `token_ns`: how long until its
    own token has come. UNKNOWN = cannot be told.
    """
    slot_ns = _slot_ns(ahead, conditions)
    return slot_ns if slot_ns < 0 else min(max(slot_ns, token_ns), WAIT_NS_MAX)


def _slot_ns(ahead: int, conditions: Conditions) -> int:
    if ahead < conditions.free:
        return 0
    if conditions.slots and conditions.occupancy_ns:
        ends = ahead - conditions.free + 1
        return ends * conditions.occupancy_ns // conditions.slots
    if conditions.drained_per_second > 0:
        return int(min((ahead + 1) / conditions.drained_per_second * units.SECOND, WAIT_NS_MAX))
    return UNKNOWN


def cold_occupancy_ns(elapsed_ns: int) -> int:
    """For how long a task keeps its slot, from the mean time for which those that run have had
    theirs. At least something: they do run.
    """
    return max(1, COLD_FACTOR * elapsed_ns)


BUCKETS_SECONDS: Final = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Errors:
    """How far estimates were off, in seconds: a histogram of those on one side."""

    __slots__ = ("counts", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_SECONDS) + 1)
        """By bucket, not cumulated; the last one is for what lies above all."""
        self.total_seconds = 0.0

    def add(self, seconds: float) -> None:
        """One more, not negative."""
        self.counts[bisect.bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.total_seconds += seconds
