"""A pool in numbers, at one moment: what people see of it, and what scaling needs."""

from typing import TYPE_CHECKING

from penstock_dispatcher.core import demand, waiting_keys

if TYPE_CHECKING:
    from penstock_dispatcher.core import pool as pools


def stats(pool: "pools.Pool", now: int) -> demand.PoolStats:
    """What people see."""
    book, table = pool.book, pool.fleet.workers
    return demand.PoolStats(
        pending=book.waiting - book.backlog.delayed_count,
        delayed=book.backlog.delayed_count,
        in_flight=len(pool.fleet.leases),
        waiters=len(pool.room),
        dead_lettered=book.ended.dead_letters,
        pending_bytes=book.waiting_bytes,
        oldest_pending_time=book.oldest_create_time(),
        arrival_per_second=book.arrivals.per_second(now),
        completion_per_second=book.completions.per_second(now),
        mean_execution_ns=_mean_execution_ns(pool, now),
        rate_limit_tokens=pool.tokens_available(now),
        rate_limited_ns=pool.throttled_ns(now),
        slots_total=table.slots,
        slots_used=pool.fleet.leases.slots,
        pending_by_priority=book.backlog.by_priority.highest(demand.PRIORITIES_SHOWN_MAX),
        accepted_total=book.accepted_total,
        refused_total=book.refused_total,
        succeeded_total=book.succeeded_total,
        failed_total=book.failed_total,
        estimated_wait_ns=pool.forecast.of_new(pool.config.default_priority, now),
    )


def _mean_execution_ns(pool: "pools.Pool", now: int) -> int:
    """Until there are samples: the mean elapsed time of what runs."""
    if pool.book.execution.count:
        return int(pool.book.execution.value)
    running = pool.fleet.leases.all()
    if not running:
        return 0
    return sum(now - lease.start_time for lease in running) // len(running)


def runnable_slots(pool: "pools.Pool", now: int) -> int:
    """Slots of waiting tasks that could run now if workers existed: in-flight caps and what is per
    key applied, the pool's rate not.

    What is held back after a restart counts: it is running, or will be runnable; either way it
    needs a slot, as far as the caps let it run.
    """
    if not pool.dispatching:
        return 0
    book = pool.book
    held, held_slots, held_startable = book.held.startable(pool.config, now)
    runnable = book.backlog.startable_slots(now) + held_startable
    if pool.config.max_in_flight:
        room = max(0, pool.config.max_in_flight - len(pool.fleet.leases))
        count = book.backlog.ready_count + held
        slots = book.backlog.ready_slots + held_slots
        runnable = min(runnable, waiting_keys.part(slots, tasks=count, room=room))
    return runnable


def snapshot(pool: "pools.Pool", now: int, *, complete: bool) -> demand.Demand:
    """What scaling needs; workers that changed since the last call, or all of them."""
    table = pool.fleet.workers
    changed = table.take_changed()
    if complete or changed is None:
        complete = True
        changed = {worker.session_id: worker for worker in table.all()}
    return demand.Demand(
        complete=complete,
        generation=pool.config.generation,
        stats=stats(pool, now),
        runnable_slots=runnable_slots(pool, now),
        workers=tuple(changed.values()),
        gone=frozenset(
            session_id for session_id, worker in changed.items() if not table.knows(worker)
        ),
    )
