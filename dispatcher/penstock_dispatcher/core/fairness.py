"""Whose turn it is between the fairness keys of one priority.

Deficit round robin, with its rounds counted instead of walked. In each round a key earns its weight
in slots, and its next task is due in the round in which it can be paid; the key with the lowest
such round, its *turn*, is next. So a turn costs as much with a million keys as with two, and keys
alternate as finely as their weights allow.

A *share* is what a key has at one priority while tasks of it wait there. One that comes begins to
earn in the round that the priority has reached, and has to earn its first task; one that could not
be served for a while (throttled, capped, no worker for it) is served once at its old turn and goes
on from the present round. So nobody gets credit for an absence, and nothing is kept of who is gone.
Every task that is served moves the rounds on, so whoever waits is reached.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final

ROUND: Final = 2**32
"""One round: a key of weight 1 earns one slot in it. Divided by weights, in whole numbers; what is
lost by that is under a millionth.
"""
OWED: Final = -1
"""A turn before every other one."""


@dataclasses.dataclass(slots=True, eq=False)
class Share:
    """Of one key at one priority."""

    level: "_Level"
    per_slot: int
    turn: int
    tasks: int = 0


@dataclasses.dataclass(slots=True, eq=False)
class _Level:
    """Of one priority. `reached`: the round up to which it has been served."""

    shares: dict[str, Share] = dataclasses.field(default_factory=dict)
    reached: int = 0


class Shares:
    """Shares of one pool, by priority and key. Keys that `weights` does not name weigh 1."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._per_slot = {key: ROUND // weight for key, weight in weights.items()}
        self._levels: dict[int, _Level] = {}

    def join(self, priority: int, key: str, slots: int) -> Share:
        """A task of so many slots comes; the share that it belongs to."""
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
        share = level.shares.get(key)
        if share is None:
            per_slot = self._per_slot.get(key, ROUND)
            share = Share(level, per_slot, turn=level.reached + slots * per_slot)
            level.shares[key] = share
        share.tasks += 1
        return share

    def of(self, priority: int, key: str) -> Share:
        """The share of a task that has come."""
        return self._levels[priority].shares[key]

    def charge(self, share: Share, slots: int, *, owed: bool) -> None:
        """A task of the share starts. `owed`: not at its turn."""
        level = share.level
        if not owed:
            level.reached = max(level.reached, share.turn)
        share.turn = max(share.turn, level.reached) + slots * share.per_slot

    def leave(self, priority: int, key: str) -> None:
        """A task of the share does not wait any more."""
        level = self._levels[priority]
        share = level.shares[key]
        share.tasks -= 1
        if not share.tasks:
            del level.shares[key]
            if not level.shares:
                del self._levels[priority]
