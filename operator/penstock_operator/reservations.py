"""Asks the dispatcher to choose workers to leave, or takes them back, and remembers the answer.

The table of workers shows what was answered a moment later; `memory` bridges until then. For pods
and for local processes alike. Raises LinkDown.
"""

from collections.abc import Callable

from penstock.v1 import fleet_service_pb2
from penstock_operator import actions, dispatcher_link, memory, spec


async def reserve(
    link: dispatcher_link.DispatcherLink,
    pool: spec.WorkerPoolSpec,
    action: actions.ReserveWorkers,
    *,
    remembered: memory.Memory,
    wall: Callable[[], float],
) -> memory.Memory:
    """Phase one of a scale-down."""
    request = fleet_service_pb2.ReserveWorkersRequest(
        pool=pool.full_name,
        count=action.count,
        idle_only=action.idle_only,
        revision=action.revision,
    )
    request.idle_for.seconds = action.idle_for_seconds
    answer = await link.reserve(request)
    return remembered.after_reserve(
        (worker.pod_uid for worker in answer.workers),
        reservation_id=answer.reservation_id,
        asked=action.count,
        now=wall(),
    )


async def release(
    link: dispatcher_link.DispatcherLink,
    pool: spec.WorkerPoolSpec,
    action: actions.ReleaseWorkers,
    *,
    remembered: memory.Memory,
    wall: Callable[[], float],
) -> memory.Memory:
    """Take back those that have not confirmed yet."""
    await link.release(
        fleet_service_pb2.ReleaseWorkersRequest(
            pool=pool.full_name,
            reservation_id=action.reservation_id,
            pod_uids=action.pod_uids,
        )
    )
    return remembered.after_release(
        action.pod_uids, reservation_id=action.reservation_id, now=wall()
    )
