"""A pool of the core as the wire shows it: Pool, PoolStats, PoolDemand."""

from penstock.v1 import fleet_service_pb2, pool_service_pb2
from penstock_dispatcher.convert import times, worker_side
from penstock_dispatcher.core import demand, restoring
from penstock_dispatcher.core import pool as pools

_State = pool_service_pb2.Pool.State


def stats_view(stats: demand.PoolStats) -> pool_service_pb2.PoolStats:
    """Counts, rates and times."""
    shown = pool_service_pb2.PoolStats(
        pending=stats.pending,
        delayed=stats.delayed,
        in_flight=stats.in_flight,
        waiters=stats.waiters,
        dead_lettered=stats.dead_lettered,
        oldest_pending_time=times.timestamp_if(stats.oldest_pending_time),
        arrival_rate=stats.arrival_per_second,
        completion_rate=stats.completion_per_second,
        rate_limit_tokens=stats.rate_limit_tokens,
        slots_total=stats.slots_total,
        slots_used=stats.slots_used,
        pending_bytes=stats.pending_bytes,
        accepted_total=stats.accepted_total,
        refused_total=stats.refused_total,
        succeeded_total=stats.succeeded_total,
        failed_total=stats.failed_total,
    )
    shown.pending_by_priority.update(stats.pending_by_priority)
    if stats.mean_execution_ns:
        shown.mean_execution_time.CopyFrom(times.duration(stats.mean_execution_ns))
    if stats.rate_limited_ns:
        shown.rate_limited_for.CopyFrom(times.duration(stats.rate_limited_ns))
    if stats.estimated_wait_ns >= 0:
        shown.estimated_wait.CopyFrom(times.duration(stats.estimated_wait_ns))
    return shown


def state_of(pool: pools.Pool) -> "_State.ValueType":
    """One word for the latches."""
    if pool.closed_time:
        return pool_service_pb2.Pool.CLOSED
    if pool.draining:
        return pool_service_pb2.Pool.DRAINING
    return pool_service_pb2.Pool.RUNNING if pool.dispatching else pool_service_pb2.Pool.PAUSED


def pool_view(
    pool: pools.Pool, now: int, *, restorable: pools.Pool | None = None
) -> pool_service_pb2.Pool:
    """The pool with its statistics. `restorable`: the deleted pool that has tasks for it."""
    shown = pool_service_pb2.Pool(
        name=pool.name,
        state=state_of(pool),
        stats=stats_view(pool.stats(now)),
        uid=pool.config.uid,
        generation=pool.config.generation,
        max_pending=pool.config.max_pending,
        drained=pool.drained,
    )
    _add_restorable(shown, restorable)
    return shown


def _add_restorable(
    shown: pool_service_pb2.Pool | fleet_service_pb2.PoolDemand, closed: pools.Pool | None
) -> None:
    if closed is not None:
        shown.restorable_tasks = restoring.restorable(closed)
        shown.restorable_uid = closed.config.uid
        shown.restorable_until.CopyFrom(times.timestamp(closed.purge_time))


def demand_view(
    pool: pools.Pool,
    snapshot: demand.Demand,
    epoch: int,
    *,
    restorable: pools.Pool | None = None,
) -> fleet_service_pb2.PoolDemand:
    """A demand snapshot; the caller adds a configuration error."""
    shown = fleet_service_pb2.PoolDemand(
        pool=pool.name,
        observed_generation=snapshot.generation,
        stats=stats_view(snapshot.stats),
        runnable_slots=snapshot.runnable_slots,
        workers=[
            worker_side.worker_view(worker, pool.name, gone=worker.session_id in snapshot.gone)
            for worker in snapshot.workers
        ],
        pool_epoch=epoch,
        uid=pool.config.uid,
    )
    _add_restorable(shown, restorable)
    return shown
