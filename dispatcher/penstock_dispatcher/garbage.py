"""When the cyclic garbage collector looks at what.

Everything that a pool remembers is freed by its reference count: the core keeps no cycles past a
task's end. Cycles come from calls and streams that end in an error. The interpreter's own policy
does not fit that: it looks at *all* objects again each time they have grown by a quarter, which
took a quarter of the dispatcher's time at full load, and would stop everything for more than a
second with a million tasks (a tenth of that where the core is compiled: see `compiling`).

So only what is young is looked at in the course of things, once, and everything seldom: after a
time that is a multiple of what the last look took, so that the share of time is bounded whatever
there is, and rather in a quiet moment: a stop hurts least where nobody waits.
"""

import asyncio
import gc
import time
from typing import Final

YOUNG_OBJECTS: Final = 10_000
"""Looked at in about a millisecond. More would be cheaper for tasks, but refused calls leave cycles
behind: the stop is as long as what has gathered by then."""
NEVER_ROUNDS: Final = 2**30
FULL_SECONDS_MIN: Final = 5.0
FULL_SHARE_MAX: Final = 0.002
"""Of all time, for looks at everything."""
BUSY_SHARE: Final = 0.5
"""Of one core: with more than that in use, this is no quiet moment."""
PUT_OFF_SECONDS_MAX: Final = 30.0
"""For want of a quiet moment. Calls that last leave old cycles: 5 MiB a minute at half of peak."""


class Collector:
    """Takes the collector over for this process; `look` is to be called now and then."""

    def __init__(self, *, now: float) -> None:
        gc.collect()
        gc.set_threshold(YOUNG_OBJECTS, NEVER_ROUNDS, NEVER_ROUNDS)
        self._due = now + FULL_SECONDS_MIN

    def look(self, now: float, *, busy: bool = False) -> float:
        """Look at everything if it is time for that. Monotonic seconds; returns how long it took, 0
        = it was not time.
        """
        if now < self._due or (busy and now < self._due + PUT_OFF_SECONDS_MAX):
            return 0.0
        began = time.perf_counter()
        gc.collect()
        took = time.perf_counter() - began
        self._due = now + took + max(FULL_SECONDS_MIN, took / FULL_SHARE_MAX)
        return took

    async def run(self) -> None:
        """Do so for ever."""
        while True:
            began, used = time.monotonic(), time.process_time()
            await asyncio.sleep(FULL_SECONDS_MIN / 4)
            now = time.monotonic()
            busy = time.process_time() - used > BUSY_SHARE * (now - began)
            self.look(now, busy=busy)
