"""PoolService: what people who operate pools call."""

import asyncio
import logging
import secrets
from typing import Any

from penstock.v1 import pool_service_pb2
from penstock_dispatcher import auth, errors, pump
from penstock_dispatcher.convert import names, pool_view, times, worker_side
from penstock_dispatcher.core import afterlife, workers
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.services import answering, bulk, listing, restoring

_log = logging.getLogger(__name__)

FILTER_PREFIX = "state="
REASON_CHARS_MAX = 200


class PoolService:
    """See the module's docstring."""

    def __init__(self, pump_: pump.Pump, calls: answering.Calls) -> None:
        self.calls = calls
        self._pump = pump_

    def _pool(self, name: str, field: str) -> pools.Pool:
        self._pump.check_open()
        pool = self._pump.registry.named(name, field)
        auth.check_namespace(names.namespace_of(name))
        return pool

    def _view(self, pool: pools.Pool) -> pool_service_pb2.Pool:
        restorable = self._pump.registry.restorable(pool)
        return pool_view.pool_view(pool, self._pump.now(), restorable=restorable)

    @answering.answered
    async def GetPool(  # noqa: N802
        self, request: pool_service_pb2.GetPoolRequest, _: Any
    ) -> pool_service_pb2.Pool:
        """One pool."""
        return self._view(self._pool(request.name, "name"))

    @answering.answered
    async def ListPools(  # noqa: N802
        self, request: pool_service_pb2.ListPoolsRequest, _: Any
    ) -> pool_service_pb2.ListPoolsResponse:
        """Pools by name, of one namespace or of all that the caller may see."""
        self._pump.check_open()
        namespace = names.namespace(request.parent)
        start = listing.key_position(request.page_token)

        def matches(pool: pools.Pool) -> bool:
            own = names.namespace_of(pool.name)
            return (not namespace or own == namespace) and auth.sees_namespace(own)

        every = sorted(self._pump.registry.by_name.items())
        found, following = listing.page(
            (pool for name, pool in every if name >= start),
            matches=matches,
            size=listing.page_size(request.page_size),
        )
        shown = listing.fitting(found, self._view)
        if len(shown) < len(found):
            following = found[len(shown)]
        return pool_service_pb2.ListPoolsResponse(
            pools=shown,
            next_page_token="" if following is None else listing.key_token(following.name),
        )

    # ------------------------------------------------------------ the API's latches

    @answering.answered
    async def PausePool(  # noqa: N802
        self, request: pool_service_pb2.PausePoolRequest, _: Any
    ) -> pool_service_pb2.Pool:
        """Stop dispatch until ResumePool; running tasks go on, new ones are admitted."""
        return await self._latch(request.name, paused=True, reason=request.reason)

    @answering.answered
    async def ResumePool(  # noqa: N802
        self, request: pool_service_pb2.ResumePoolRequest, _: Any
    ) -> pool_service_pb2.Pool:
        """Take PausePool back. The manifest's `suspend` is another latch."""
        return await self._latch(request.name, paused=False)

    async def _latch(self, name: str, *, paused: bool, reason: str = "") -> pool_service_pb2.Pool:
        pool = self._pool(name, "name")
        _tell(name, "is paused" if paused else "is resumed", reason)
        pool.pause(paused)
        self._pump.mark(pool)
        await self._pump.everything_durable()
        return self._view(pool)

    @answering.answered
    async def DrainPool(  # noqa: N802
        self, request: pool_service_pb2.DrainPoolRequest, _: Any
    ) -> pool_service_pb2.Pool:
        """Admit nothing more; answer when what was accepted is done, or when the time is up."""
        pool = self._pool(request.name, "name")
        seconds = min(times.duration_ns(request.timeout) / 1e9, times.DURATION_SECONDS_MAX)
        if seconds < 0:
            raise errors.invalid("timeout", "must not be negative")
        _tell(request.name, "drains", request.reason)
        await self._drain(pool, draining=True)
        try:
            async with asyncio.timeout(seconds):
                while pool.draining and not pool.drained:
                    await self._pump.drains.wait(pool)
                    if self._pump.registry.by_uid.get(pool.config.uid) is not pool:
                        raise errors.no_pool(request.name)
        except TimeoutError:
            pass  # the answer is the pool as it is now
        return self._view(pool)

    @answering.answered
    async def UndrainPool(  # noqa: N802
        self, request: pool_service_pb2.UndrainPoolRequest, _: Any
    ) -> pool_service_pb2.Pool:
        """Take DrainPool back. What waits for it is answered."""
        pool = self._pool(request.name, "name")
        await self._drain(pool, draining=False)
        return self._view(pool)

    async def _drain(self, pool: pools.Pool, *, draining: bool) -> None:
        pool.drain(draining)
        self._pump.mark(pool)
        await self._pump.everything_durable()

    # ------------------------------------------------------------ purging

    @answering.answered
    async def PurgePool(  # noqa: N802
        self, request: pool_service_pb2.PurgePoolRequest, _: Any
    ) -> pool_service_pb2.PurgePoolResponse:
        """Count the tasks that wait and match, and with `force` delete them."""
        pool = self._pool(request.name, "name")
        chosen = list(pool.book.tasks.values()), listing.task_filter(request.filter)
        verb = bulk.Verb(
            applies=lambda task: afterlife.purgeable(pool.book, task),
            act=lambda task, now: afterlife.purge(pool, task, now),
        )
        found = await bulk.run(self._pump, pool, chosen, verb, preview=not request.force)
        return pool_service_pb2.PurgePoolResponse(purge_count=found.count, purge_sample=found.names)

    # ------------------------------------------------------------ restoring

    @answering.answered
    async def RestorePool(  # noqa: N802
        self, request: pool_service_pb2.RestorePoolRequest, _: Any
    ) -> pool_service_pb2.RestorePoolResponse:
        """Move what waits in a deleted pool into the one that has its name."""
        pool = self._pool(request.name, "name")
        self._pump.check_admission()
        return await restoring.restore(self._pump, pool, request)

    # ------------------------------------------------------------ workers

    @answering.answered
    async def ListWorkers(  # noqa: N802
        self, request: pool_service_pb2.ListWorkersRequest, _: Any
    ) -> pool_service_pb2.ListWorkersResponse:
        """Workers of one pool; filter: `state=READY`."""
        pool = self._pool(request.parent, "parent")
        wanted = _state_filter(request.filter)
        start = listing.key_position(request.page_token)
        # By pod, and never by session: who knows a session's id can speak for it.
        ordered = sorted(pool.fleet.workers.all(), key=lambda worker: worker.pod_uid)
        found, following = listing.page(
            (worker for worker in ordered if worker.pod_uid >= start),
            matches=lambda worker: wanted is None or worker.state is wanted,
            size=listing.page_size(request.page_size),
        )

        def view(worker: workers.Worker) -> pool_service_pb2.Worker:
            return worker_side.worker_in_full(worker, pool.name)

        shown = listing.fitting(found, view)
        if len(shown) < len(found):
            following = found[len(shown)]
        return pool_service_pb2.ListWorkersResponse(
            workers=shown,
            next_page_token="" if following is None else listing.key_token(following.pod_uid),
        )

    def _worker(self, name: str) -> tuple[pools.Pool, workers.Worker]:
        child = names.worker(name)
        pool = self._pool(child.pool, "name")
        found = [each for each in pool.fleet.workers.all() if each.pod_name == child.id]
        if not found:
            raise errors.no_worker(name)
        # A pod that was created anew may have the name of one that is not forgotten yet.
        return pool, max(found, key=lambda worker: (worker.connected, worker.connect_time))

    @answering.answered
    async def DrainWorker(  # noqa: N802
        self, request: pool_service_pb2.DrainWorkerRequest, _: Any
    ) -> pool_service_pb2.Worker:
        """No new work for this worker; it finishes what it runs."""
        pool, worker = self._worker(request.name)
        _tell(request.name, "drains", request.reason)
        pool.reservations.drain(worker, reservation_id=f"drain-{secrets.token_hex(8)}")
        self._pump.mark(pool)
        return worker_side.worker_in_full(worker, pool.name)

    @answering.answered
    async def UndrainWorker(  # noqa: N802
        self, request: pool_service_pb2.UndrainWorkerRequest, _: Any
    ) -> pool_service_pb2.Worker:
        """Take DrainWorker (or a reservation) back, unless the worker has confirmed."""
        pool, worker = self._worker(request.name)
        if worker.drained:
            raise errors.Refusal(
                errors.Reason.WORKER_STATE,
                f"{request.name} has confirmed that it is drained: its pod gets no work again",
                errors.Details(precondition_subject=request.name),
            )
        if worker.reservation_id:
            pool.reservations.release(worker.reservation_id, frozenset({worker.pod_uid}))
        self._pump.mark(pool)
        return worker_side.worker_in_full(worker, pool.name)


def _tell(name: str, what: str, reason: str) -> None:
    """Who asked for it said why."""
    _log.info("%s %s: %s", name, what, reason[:REASON_CHARS_MAX] or "no reason was given")


def _state_filter(text: str) -> workers.WorkerState | None:
    if not text.strip():
        return None
    name = text.strip().removeprefix(FILTER_PREFIX)
    try:
        return workers.WorkerState[name]
    except KeyError:
        raise errors.invalid("filter", "must be state=STATE or empty") from None
