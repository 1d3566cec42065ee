"""Demand for one operator stream: pushed when it changes, never asked for.

A burst of submissions arrives in steps (a frame or two, their commits, the first tasks start), and
the fleet should take one step for it: so a change goes out after `GATHER_NS`, with all that has
come by then. A few messages may follow each other like that, and ten a second from then on (`PACE`,
a token bucket for each pool). What does not differ from what was sent is left out. Every pool goes
out at least each `REFRESH_NS`, so that the operator can tell silence from calm. A pool's first
message has all its workers, and so has the first one after the operator has made it known
(`introduce`); the others have those that changed.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from penstock.v1 import fleet_service_pb2
from penstock_dispatcher import registry
from penstock_dispatcher.convert import pool_view
from penstock_dispatcher.core import bucket, demand, settings, units
from penstock_dispatcher.core import pool as pools

PACE: Final = settings.RateLimit(tasks=10, period_ns=units.SECOND, burst=4)
GATHER_NS: Final = 10 * units.MILLISECOND
REFRESH_NS: Final = 5 * units.SECOND
DEMANDS_MAX: Final = 64
"""Pools in one message."""
MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""A pool that passes it begins the next message, unless it is the only one: a thousand workers with
ten tasks each are 0.6 MB.
"""

_Signature = tuple[object, ...]


class DemandFeed:
    """What one stream has still to be told."""

    def __init__(self, *, pool_registry: registry.Registry, now: Callable[[], int]) -> None:
        self._registry = pool_registry
        self._now = now
        self._changed: dict[str, int] = {}
        """Pools with something to tell, and since when."""
        self._sent: dict[str, tuple[int, _Signature]] = {}
        self._pace: dict[str, bucket.TokenBucket] = {}
        self._whole: set[str] = set()
        """Pools whose next message has the whole table."""
        self._over: list[fleet_service_pb2.PoolDemand] = []
        """Made, and did not fit the message of before: at most one."""
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def changed(self, pool: pools.Pool) -> None:
        """The pool had a turn."""
        if pool.config.uid not in self._changed:
            self._changed[pool.config.uid] = self._now()
            self._wake.set()

    def refused(self, uid: str) -> None:
        """The pool's configuration was refused."""
        self._changed[uid] = self._now()
        self._wake.set()

    def introduce(self, uid: str) -> None:
        """The operator has made the pool known: it is told everything, whatever it was told."""
        self._whole.add(uid)

    def start(self) -> None:
        """The first messages are out: refreshes begin."""
        self._wake.set()

    def close(self) -> None:
        """No timer is left behind."""
        if self._timer is not None:
            self._timer.cancel()

    def everything(self) -> Iterable[list[fleet_service_pb2.PoolDemand]]:
        """The first messages: all pools with all their workers."""
        made: list[fleet_service_pb2.PoolDemand] = []
        size = 0
        for uid in list(dict.fromkeys((*self._registry.by_uid, *self._registry.config_errors))):
            one = self._make(uid, first=True)
            if one is None:
                continue
            size += one.ByteSize()
            if made and (len(made) == DEMANDS_MAX or size > MESSAGE_BYTES_MAX):
                yield made
                made, size = [], one.ByteSize()
            made.append(one)
        if made:
            yield made

    async def next(self) -> list[fleet_service_pb2.PoolDemand]:
        """What is due, as soon as something is."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            now = self._now()
            for uid, (at, _) in self._sent.items():
                if now - at >= REFRESH_NS:
                    self._changed[uid] = 0
            due = [uid for uid in self._changed if self._free_at(uid, now) <= now]
            made, self._over = self._over, []
            size = sum(one.ByteSize() for one in made)
            for uid in due[: DEMANDS_MAX - len(made)]:
                del self._changed[uid]
                one = self._make(uid)
                if one is None:
                    continue
                size += one.ByteSize()
                if made and size > MESSAGE_BYTES_MAX:
                    self._over.append(one)
                    self._wake.set()
                    break
                made.append(one)
            self._wake_later(now)
            if made:
                return made

    def _free_at(self, uid: str, now: int) -> int:
        """When the pool's next message may go out."""
        gathered = self._changed[uid] + GATHER_NS
        pace = self._pace.get(uid)
        return gathered if pace is None else max(gathered, pace.ready_at(now))

    def _mark_sent(self, uid: str, signature: _Signature, now: int) -> None:
        self._sent[uid] = (now, signature)
        # A refresh goes out in any case; it may find the bucket empty.
        self._pace.setdefault(uid, bucket.TokenBucket(PACE, now=now)).take(now)
        self._whole.discard(uid)

    def _forget(self, uid: str) -> None:
        self._sent.pop(uid, None)
        self._pace.pop(uid, None)
        self._whole.discard(uid)

    def _wake_later(self, now: int) -> None:
        """One timer, for the earliest pool that waits or must be refreshed."""
        soonest = min((self._free_at(uid, now) for uid in self._changed), default=units.NEVER)
        refresh = min((at + REFRESH_NS for at, _ in self._sent.values()), default=units.NEVER)
        due = min(soonest, refresh)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due < units.NEVER:
            delay = max(0.001, (due - now) / units.SECOND)
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake.set)

    def _make(self, uid: str, *, first: bool = False) -> fleet_service_pb2.PoolDemand | None:
        """The pool's demand, or None if the operator knows it already."""
        pool = self._registry.by_uid.get(uid)
        refusal = self._registry.config_errors.get(uid)
        now = self._now()
        if pool is None:
            self._forget(uid)
            if refusal is None:
                return None
            return fleet_service_pb2.PoolDemand(
                pool=refusal.pool, uid=uid, config_error=refusal.status
            )
        if pool.closed_time and not first:
            self._forget(uid)
            return None
        complete = first or uid in self._whole or uid not in self._sent
        snapshot = pool.demand(now, complete=complete)
        complete = snapshot.complete
        signature = _signature(snapshot, None if refusal is None else refusal.status.message)
        at, before = self._sent.get(uid, (0, ()))
        if not complete and signature == before and not snapshot.workers and now - at < REFRESH_NS:
            return None
        self._mark_sent(uid, signature, now)
        shown = pool_view.demand_view(
            pool,
            snapshot,
            self._registry.tokens.epoch,
            restorable=self._registry.restorable(pool),
        )
        shown.complete = complete
        if refusal is not None:
            shown.config_error.CopyFrom(refusal.status)
        return shown


def _signature(snapshot: demand.Demand, refusal: str | None) -> _Signature:
    """What is material: counts and capacity; rates and ages go out with the next refresh."""
    stats = snapshot.stats
    return (
        snapshot.generation,
        snapshot.runnable_slots,
        stats.pending,
        stats.delayed,
        stats.in_flight,
        stats.dead_lettered,
        stats.slots_total,
        stats.slots_used,
        stats.accepted_total,
        stats.refused_total,
        refusal,
    )
