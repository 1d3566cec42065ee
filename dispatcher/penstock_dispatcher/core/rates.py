"""Exponentially weighted estimates, with the time as an argument."""

import math
from typing import Final

from penstock_dispatcher.core import units

WINDOW_NS: Final = 30 * units.SECOND


class EventRate:
    """Events per second, weighted over about 30 s."""

    __slots__ = ("_at", "_mass")

    def __init__(self) -> None:
        self._at = 0
        self._mass = 0.0

    def add(self, now: int, count: int = 1) -> None:
        """`count` events happened at `now`."""
        self._decay(now)
        self._mass += count

    def _decay(self, now: int) -> None:
        if now > self._at:
            self._mass *= math.exp((self._at - now) / WINDOW_NS)
            self._at = now

    def per_second(self, now: int) -> float:
        """The rate at `now`."""
        self._decay(now)
        return self._mass / (WINDOW_NS / units.SECOND)


class Mean:
    """A running mean that forgets: the first samples count fully, later ones by a fixed weight."""

    __slots__ = ("count", "value")
    WEIGHT: Final = 0.05
    _SETTLED: Final = 20

    def __init__(self) -> None:
        self.count = 0
        self.value = 0.0

    def add(self, sample: float) -> None:
        """One more sample."""
        self.count += 1
        weight = self.WEIGHT if self.count >= self._SETTLED else 1.0 / self.count
        self.value += (sample - self.value) * weight
