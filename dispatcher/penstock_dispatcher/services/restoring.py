"""RestorePool: a part at a time, so that others have their turn, and what moved becomes durable."""

import asyncio
import logging
from typing import Final

from penstock.v1 import pool_service_pb2
from penstock_dispatcher import errors, pump
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import restoring
from penstock_dispatcher.services import submitting

_log = logging.getLogger(__name__)

SAMPLE_MAX: Final = 100
STEP_TASKS: Final = 500
"""Looked at in one go."""


async def restore(
    pump_: pump.Pump, pool: pools.Pool, request: pool_service_pb2.RestorePoolRequest
) -> pool_service_pb2.RestorePoolResponse:
    """Move every task that may move, or count them. Raises Refusal, also in the middle: what moved
    until then has moved.
    """
    submitting.check_admits(pool)
    closed = _closed(pump_, pool, request.from_uid)
    answer = pool_service_pb2.RestorePoolResponse(from_uid=closed.config.uid)
    there = list(closed.book.tasks.values())
    for start in range(0, len(there), STEP_TASKS):
        if not _is_closed(pump_, closed):
            break  # its retention is over, or somebody opened it again: then it keeps the rest
        submitting.check_admits(pool)
        now = pump_.now()
        for task in there[start : start + STEP_TASKS]:
            match restoring.judge(task, closed=closed, pool=pool, now=now):
                case restoring.Move.TAKEN:
                    answer.skipped_count += 1
                case restoring.Move.MOVES:
                    answer.restored_count += 1
                    if len(answer.restored_sample) < SAMPLE_MAX:
                        answer.restored_sample.append(f"{pool.name}/tasks/{task.id}")
                    if not request.validate_only:
                        restoring.move(task, closed=closed, pool=pool, now=now)
        if not request.validate_only:
            pump_.mark(closed)
            pump_.mark(pool)
            await pump_.everything_durable()
        await asyncio.sleep(0)
    if _is_closed(pump_, closed):
        answer.remaining = restoring.remaining(closed)
        if request.validate_only:
            answer.remaining -= answer.restored_count
    if not request.validate_only:
        uid, count = closed.config.uid, answer.restored_count
        _log.info("pool %s: %d tasks restored from the deleted one (%s)", pool.name, count, uid)
    return answer


def _is_closed(pump_: pump.Pump, closed: pools.Pool) -> bool:
    there = pump_.registry.by_uid.get(closed.config.uid) is closed
    return there and bool(closed.closed_time)


def _closed(pump_: pump.Pump, pool: pools.Pool, uid: str) -> pools.Pool:
    """The deleted pool to restore from: the one of that uid, or else the newest that has tasks, or
    else the newest. Raises Refusal.
    """
    if uid and uid == pool.config.uid:
        raise errors.invalid("from_uid", f"must be that of a deleted pool, not {pool.name}'s own")
    found = pump_.registry.predecessors(pool)
    if uid:
        found = [each for each in found if each.config.uid == uid]
    if not found:
        raise errors.no_deleted_pool(pool.name, uid[:100])
    return found[0] if uid else pump_.registry.restorable(pool) or found[0]
