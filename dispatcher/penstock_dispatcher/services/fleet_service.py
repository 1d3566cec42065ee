"""FleetService: the operator. Configuration comes in, demand goes out, workers are reserved.

Configuration is a full list with an end marker, then changes, all keyed by the pool's uid. Only one
operator counts: a message with a lower epoch than the highest ever seen is refused, and a newer
stream ends the older one.
"""

import asyncio
import contextlib
import logging
import secrets
from typing import Any, Final

from google.protobuf import empty_pb2

from penstock.v1 import fleet_service_pb2
from penstock_dispatcher import demand_feed, errors, pump
from penstock_dispatcher.convert import times, worker_side
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import restoring, settings, workers
from penstock_dispatcher.services import answering

_log = logging.getLogger(__name__)
POD_UIDS_MAX: Final = workers.SESSIONS_MAX


class FleetService:
    """See the module's docstring."""

    def __init__(self, pump_: pump.Pump, calls: answering.Calls) -> None:
        self.calls = calls
        self._pump = pump_
        self._sync: _Sync | None = None

    def _check_epoch(self, epoch: int) -> None:
        self._pump.check_open()
        highest = self._pump.operator_epoch
        if epoch < highest:
            raise errors.Refusal(
                errors.Reason.STALE_SESSION,
                f"epoch {epoch} is over: an operator with epoch {highest} leads",
            )
        self._pump.see_operator(epoch)

    @answering.answered
    async def SyncPools(self, requests: Any, context: Any) -> None:  # noqa: N802
        """One operator's stream."""
        self._pump.check_open()
        sync = _Sync(self._pump, self._check_epoch)
        reading = asyncio.ensure_future(sync.read(requests))
        writing = asyncio.ensure_future(sync.write(context))
        try:
            await self._watch(sync, reading, writing)
        finally:
            sync.feed.close()
            if self._sync is sync:
                self._sync = None
                self._pump.changed = lambda _: None
            for part in (reading, writing):
                part.cancel()
                # The operator may be gone in the middle of a write: there is nobody to tell.
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await part

    async def _watch(
        self, sync: "_Sync", reading: asyncio.Future[None], writing: asyncio.Future[None]
    ) -> None:
        began = asyncio.ensure_future(sync.began.wait())
        try:
            await asyncio.wait((reading, writing, began), return_when=asyncio.FIRST_COMPLETED)
        finally:
            began.cancel()
        if sync.began.is_set():
            # Its epoch was good: from now on it is the one that counts.
            if self._sync is not None:
                self._sync.end(errors.Refusal(errors.Reason.STALE_SESSION, "a newer stream came"))
            self._sync = sync
            self._pump.changed = sync.feed.changed
        ended = (reading, writing, sync.ended)
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        if sync.ended.done():
            raise sync.ended.result()
        if reading.done():
            reading.result()

    def end(self) -> None:
        """The dispatcher stops."""
        if self._sync is not None:
            self._sync.end(errors.stopping())

    # ------------------------------------------------------------ scale-down

    @answering.answered
    async def ReserveWorkers(  # noqa: N802
        self, request: fleet_service_pb2.ReserveWorkersRequest, _: Any
    ) -> fleet_service_pb2.ReserveWorkersResponse:
        """Choose workers to leave."""
        self._check_epoch(request.epoch)
        pool = self._pump.registry.named(request.pool, "pool")
        if len(request.absent_pod_uids) > POD_UIDS_MAX:
            raise errors.invalid("absent_pod_uids", f"must be at most {POD_UIDS_MAX}")
        longest = worker_side.ID_CHARS_MAX
        if not all(1 <= len(uid) <= longest for uid in request.absent_pod_uids):
            bound = f"must have 1 to {longest} characters each"
            raise errors.invalid("absent_pod_uids", bound)
        fewest = 0 if request.absent_pod_uids else 1
        if not fewest <= request.count <= workers.SESSIONS_MAX:
            raise errors.invalid("count", f"must be {fewest} to {workers.SESSIONS_MAX}")
        idle_for_ns = times.duration_ns(request.idle_for)
        if idle_for_ns < 0:
            raise errors.invalid("idle_for", "must not be negative")
        reservation_id = f"r-{secrets.token_hex(8)}"
        chosen = pool.reservations.reserve(
            count=request.count,
            idle_for_ns=idle_for_ns if request.idle_only else None,
            revision=request.revision,
            reservation_id=reservation_id,
            now=self._pump.now(),
        )
        absent = pool.reservations.shut_out(
            request.absent_pod_uids, expected=frozenset(pool.fleet.expected.values())
        )
        self._pump.mark(pool)
        if absent:
            await self._pump.everything_durable()
        return fleet_service_pb2.ReserveWorkersResponse(
            workers=[worker_side.worker_view(worker, pool.name) for worker in chosen],
            reservation_id=reservation_id if chosen else "",
            absent_pod_uids=absent,
        )

    @answering.answered
    async def ReleaseWorkers(  # noqa: N802
        self, request: fleet_service_pb2.ReleaseWorkersRequest, _: Any
    ) -> empty_pb2.Empty:
        """Take back what was not confirmed."""
        self._check_epoch(request.epoch)
        pool = self._pump.registry.named(request.pool, "pool")
        if not request.reservation_id:
            raise errors.invalid("reservation_id", "must be set")
        if len(request.pod_uids) > POD_UIDS_MAX:
            raise errors.invalid("pod_uids", f"must be at most {POD_UIDS_MAX}")
        pool.reservations.release(request.reservation_id, frozenset(request.pod_uids))
        self._pump.mark(pool)
        return empty_pb2.Empty()


class _Sync:
    """One SyncPools stream."""

    def __init__(self, pump_: pump.Pump, check_epoch: Any) -> None:
        self.feed = demand_feed.DemandFeed(pool_registry=pump_.registry, now=pump_.now)
        self.began = asyncio.Event()
        self.ended: asyncio.Future[errors.Refusal] = asyncio.get_running_loop().create_future()
        self._pump = pump_
        self._check_epoch = check_epoch
        self._listed: set[str] = set()
        """Pools with a configuration on this stream."""
        self._named: set[str] = set()
        """Pools that exist, configured on this stream or kept."""
        self._kept_namespaces: set[str] = set()
        self._synced = asyncio.Event()

    def end(self, refusal: errors.Refusal) -> None:
        """End the stream from our side."""
        if not self.ended.done():
            self.ended.set_result(refusal)

    async def read(self, requests: Any) -> None:
        """Apply what the operator says, in order."""
        async for request in requests:
            self._check_epoch(request.epoch)
            self.began.set()
            match request.WhichOneof("message"):
                case "upsert":
                    self._upsert(request.upsert)
                case "sync_end":
                    self._close_absent()
                    self._synced.set()
                case "worker_gone":
                    self._worker_gone(request.worker_gone)
                case "deleted_uid":
                    self._listed.discard(request.deleted_uid)
                    self._pump.registry.forget_refusal(request.deleted_uid)
                    self._close(self._pump.registry.by_uid.get(request.deleted_uid))
                case "kept_uid":
                    self._keep(request.kept_uid)
                case "kept_namespace":
                    self._kept_namespaces.add(request.kept_namespace)
                case _:
                    raise errors.invalid("message", "must be set")

    def _upsert(self, config: fleet_service_pb2.PoolConfig) -> None:
        if len(config.uid) > settings.UID_CHARS_MAX:
            # Not even why it is refused can be kept by that.
            raise errors.invalid(
                "upsert.uid", f"must have 1 to {settings.UID_CHARS_MAX} characters"
            )
        if config.uid not in self._listed:
            # What was said of the pool so far meant nothing to the operator: it starts anew.
            self.feed.introduce(config.uid)
        self._listed.add(config.uid)
        self._named.add(config.uid)
        earlier = self._pump.registry.by_name.get(config.name)
        known = config.uid in self._pump.registry.by_uid
        try:
            pool = self._pump.registry.configure(config)
        except errors.Refusal as refusal:
            _log.warning("configuration of %s refused: %s", config.name[:200], refusal.text)
            self.feed.refused(config.uid)
        else:
            self._pump.mark(pool)
            if earlier is not None and earlier is not pool:
                self._pump.mark(earlier)  # it is closed by now
            if not known:
                self._tell_restorable(pool)

    def _tell_restorable(self, pool: pools.Pool) -> None:
        closed = self._pump.registry.restorable(pool)
        if closed is not None:
            _log.warning(
                "pool %s (%s) was created anew: the deleted one (%s) still has %d tasks, which"
                " 'penstock restore' moves into it",
                pool.name,
                pool.config.uid,
                closed.config.uid,
                restoring.restorable(closed),
            )

    def _keep(self, uid: str) -> None:
        self._named.add(uid)
        pool = self._pump.registry.by_uid.get(uid)
        if pool is not None and pool.closed_time:
            _log.info("pool %s (%s) exists: it is opened again", pool.name, uid)
            pool.configure(pool.config, self._pump.now())
            self._pump.registry.by_name[pool.name] = pool
            self._pump.mark(pool)

    def _close(self, pool: pools.Pool | None) -> None:
        if pool is not None and not pool.closed_time:
            _log.info("pool %s (%s) is closed", pool.name, pool.config.uid)
            pool.close(self._pump.now())
            self._pump.mark(pool)

    def _close_absent(self) -> None:
        if self._synced.is_set():
            return
        known = self._pump.registry
        for uid, pool in list(known.by_uid.items()):
            if self._is_absent(uid, pool.name):
                self._close(pool)
        for uid, refused in list(known.config_errors.items()):
            if self._is_absent(uid, refused.pool):
                known.forget_refusal(uid)

    def _is_absent(self, uid: str, name: str) -> bool:
        """Not named, in a namespace that can be read. `name` may be one that was refused."""
        namespace = name.partition("/")[2].partition("/")[0]
        return uid not in self._named and namespace not in self._kept_namespaces

    def _worker_gone(self, gone: fleet_service_pb2.WorkerGone) -> None:
        cause = f"its pod ended: {gone.reason[:200] or 'unknown reason'}"
        if gone.exit_code:
            cause += f", exit code {gone.exit_code}"
        for pool in self._pump.registry.of_name(gone.pool):
            pool.fleet.gone(gone.pod_uid, cause, self._pump.now())
            self._pump.mark(pool)

    async def write(self, context: Any) -> None:
        """Demand, from the end of the first list on."""
        await self._synced.wait()
        await self._pump.everything_durable()
        epoch = self._pump.registry.tokens.epoch
        parts = list(self.feed.everything()) or [[]]
        for number, demands in enumerate(parts):
            await context.write(
                fleet_service_pb2.SyncPoolsResponse(
                    demands=demands, dispatcher_epoch=epoch, synced=number == len(parts) - 1
                )
            )
        self.feed.start()
        while True:
            demands = await self.feed.next()
            await context.write(
                fleet_service_pb2.SyncPoolsResponse(
                    demands=demands, dispatcher_epoch=epoch, synced=True
                )
            )
