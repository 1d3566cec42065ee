"""What a pool's reconcile remembers between two turns. All of it may be lost.

Answers of the dispatcher to a reservation come on one call, its table of workers on another;
between the two a `Bridge` stands for what the table will show. It is dropped as soon as the table
shows it, when the pod is gone, or after `BRIDGE_SECONDS`: then the table is right, whatever was
answered. Pure.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from penstock_operator import demand, observed

BRIDGE_SECONDS: Final = 10.0
RESERVE_BACKOFF_SECONDS: Final = 1.0
ALIVE_SECONDS: Final = 10.0
"""A pod that was looked for and lives is not looked for again within this."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bridge:
    """A reservation made or released, not yet seen in the table."""

    reservation_id: str
    until: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """By pod UID, what was reserved and released; and a few facts."""

    reserved: Mapping[str, Bridge] = dataclasses.field(default_factory=dict)
    released: Mapping[str, Bridge] = dataclasses.field(default_factory=dict)
    shut_out: frozenset[str] = frozenset()
    """Pods that get no work any more, though the table does not know them."""
    reserve_after: float = 0.0
    """The dispatcher had nobody to reserve: do not ask again before then."""
    held: int | None = None
    """The number of workers last decided on."""
    alive: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Pods that are not in the picture and live, and until when that is believed."""
    reported: frozenset[tuple[str, int]] = frozenset()
    """(Pod UID, restarts) of worker processes that were reported gone."""

    def after_reserve(
        self, uids: Iterable[str], *, reservation_id: str, asked: int, now: float
    ) -> "Memory":
        """The dispatcher has reserved these; fewer than asked for means: nobody else for now."""
        taken = {uid: Bridge(reservation_id, now + BRIDGE_SECONDS) for uid in uids}
        return dataclasses.replace(
            self,
            reserved={**self.reserved, **taken},
            released={uid: each for uid, each in self.released.items() if uid not in taken},
            reserve_after=now + RESERVE_BACKOFF_SECONDS if len(taken) < asked else 0.0,
        )

    def after_shut_out(self, uids: Iterable[str], *, asked: int, now: float) -> "Memory":
        """The dispatcher will give these no work; fewer than asked for: not the others for now."""
        taken = frozenset(uids)
        return dataclasses.replace(
            self,
            shut_out=self.shut_out | taken,
            reserve_after=now + RESERVE_BACKOFF_SECONDS if len(taken) < asked else 0.0,
        )

    def after_release(self, uids: Iterable[str], *, reservation_id: str, now: float) -> "Memory":
        """The dispatcher has taken these back, but for those that have confirmed meanwhile."""
        back = {uid: Bridge(reservation_id, now + BRIDGE_SECONDS) for uid in uids}
        return dataclasses.replace(
            self,
            reserved={uid: each for uid, each in self.reserved.items() if uid not in back},
            released={**self.released, **back},
        )

    def after_report(self, uid: str, *, restarts: int) -> "Memory":
        """A worker process was reported gone."""
        return dataclasses.replace(self, reported=self.reported | {(uid, restarts)})

    def after_found(self, uid: str, *, now: float) -> "Memory":
        """A pod was missing and lives."""
        return dataclasses.replace(self, alive={**self.alive, uid: now + ALIVE_SECONDS})

    def settle(
        self, *, pods: Iterable[observed.Pod], workers: Mapping[str, demand.Worker], now: float
    ) -> "Memory":
        """Forget what can be seen by now."""
        there = {pod.uid for pod in pods if pod.active}
        reserved = {
            uid: each
            for uid, each in self.reserved.items()
            if uid in there and each.until > now and not (uid in workers and workers[uid].leaving)
        }
        released = {
            uid: each
            for uid, each in self.released.items()
            if uid in there
            and each.until > now
            and uid in workers
            and workers[uid].reservation_id == each.reservation_id
            and workers[uid].state is not demand.WorkerState.DRAINED
        }
        reported = frozenset(
            each for each in self.reported if each[0] in there or each[0] in workers
        )
        after = dataclasses.replace(
            self,
            reserved=reserved,
            released=released,
            reported=reported,
            shut_out=self.shut_out & there,
            alive={uid: until for uid, until in self.alive.items() if until > now},
        )
        return self if after == self else after
