"""Pools that exist but cannot be read, and pods that nobody knows: what the operator may say."""

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import fleet_service_pb2, pool_service_pb2
from penstock_operator import dispatcher_link

POOL = "namespaces/default/pools/demo"
OTHER = "namespaces/default/pools/other"
_Request = fleet_service_pb2.SyncPoolsRequest


async def demand_where(call: Any, condition: Any) -> Any:
    """The pool's next demand that meets a condition."""
    async with asyncio.timeout(10):
        while True:
            message = await call.read()
            assert message is not grpc.aio.EOF, await call.details()
            for demand in message.demands:
                if demand.pool == POOL and condition(demand):
                    return demand


async def test_a_pool_that_is_kept_goes_on_with_its_last_configuration(
    stubs: Any, make_pool: Any
) -> None:
    await stubs.sync(make_pool(max_pending=7))
    await stubs.submit()
    call = stubs.fleet.SyncPools()
    for kept in ("uid-demo", "uid-nobody-knows"):
        await call.write(_Request(kept_uid=kept, epoch=1))
    await call.write(_Request(sync_end=fleet_service_pb2.SyncEnd(), epoch=1))
    assert (await call.read()).synced
    await stubs.submit()
    shown = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert (shown.max_pending, shown.stats.pending) == (7, 2)


async def test_a_pool_that_was_closed_and_is_kept_is_opened_again(
    stubs: Any, make_pool: Any
) -> None:
    await stubs.sync(make_pool())
    await stubs.sync(make_pool(OTHER, "uid-other"))
    shown = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert shown.state == pool_service_pb2.Pool.CLOSED
    call = stubs.fleet.SyncPools()
    await call.write(_Request(kept_uid="uid-demo", epoch=1))
    await call.write(_Request(sync_end=fleet_service_pb2.SyncEnd(), epoch=1))
    assert (await call.read()).synced
    await stubs.submit()


async def test_pools_of_a_kept_namespace_are_left_as_they_are(
    stubs: Any, make_pool: Any, rich: Any
) -> None:
    inside = "namespaces/away/pools/demo"
    await stubs.sync(make_pool(), make_pool(inside, "uid-away"))
    call = stubs.fleet.SyncPools()
    await call.write(_Request(kept_namespace="away", epoch=1))
    await call.write(_Request(sync_end=fleet_service_pb2.SyncEnd(), epoch=1))
    assert (await call.read()).synced
    await stubs.submit(parent=inside)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stubs.submit()
    assert rich(error.value).reason == "POOL_CLOSED"


async def test_a_pool_named_later_comes_with_all_its_workers(
    stubs: Any, dispatcher: Any, make_pool: Any
) -> None:
    call = stubs.fleet.SyncPools()
    await dispatcher.worker("idle")
    await call.write(_Request(kept_uid="uid-demo", epoch=1))
    await call.write(_Request(sync_end=fleet_service_pb2.SyncEnd(), epoch=1))
    first = await call.read()
    assert [one.complete for one in first.demands] == [True]
    # The operator knows nothing of the pool yet, and forgets what it was told.
    mended = make_pool(max_pending=9)
    mended.generation = 2
    await call.write(_Request(upsert=mended, epoch=1))
    demand = await demand_where(call, lambda demand: demand.observed_generation == 2)
    assert demand.complete
    assert [one.pod_uid for one in demand.workers] == ["uid-idle"]
    mended.generation = 3
    await call.write(_Request(upsert=mended, epoch=1))
    demand = await demand_where(call, lambda demand: demand.observed_generation == 3)
    assert not demand.complete
    # Closed and opened again: it is told from the beginning.
    await call.write(_Request(deleted_uid="uid-demo", epoch=1))
    await call.write(_Request(upsert=mended, epoch=1))
    demand = await demand_where(call, lambda demand: demand.complete)
    assert [one.pod_uid for one in demand.workers] == ["uid-idle"]


async def test_a_pool_that_cannot_be_read_survives_the_operators_restart_and_is_mended(
    stubs: Any, dispatcher: Any, make_pool: Any
) -> None:
    await stubs.sync(make_pool())
    await dispatcher.worker("idle")
    link = dispatcher_link.DispatcherLink(
        address=dispatcher.address,
        token_file="",
        operator_id="operator",
        epoch=lambda: 1,
        wake=lambda _: None,
        wake_all=lambda: None,
        clock=time.monotonic,
    )
    link.keep(name=POOL, uid="uid-demo")
    running = asyncio.ensure_future(link.run())
    try:
        async with asyncio.timeout(10):
            while not link.synced_for():
                await asyncio.sleep(0.01)
            await stubs.submit()
            assert link.demand(POOL, uid="uid-demo") is None
            link.upsert(make_pool(max_pending=9))
            while (load := link.demand(POOL, uid="uid-demo")) is None:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert list(load.workers) == ["uid-idle"]


async def test_a_pod_that_never_connected_gets_no_work_should_it_come(
    stubs: Any, dispatcher: Any, make_pool: Any
) -> None:
    await stubs.sync(make_pool())
    await dispatcher.worker("known")
    request = fleet_service_pb2.ReserveWorkersRequest(
        pool=POOL, absent_pod_uids=["uid-late", "uid-known"], epoch=1
    )
    answer = await stubs.fleet.ReserveWorkers(request)
    assert list(answer.absent_pod_uids) == ["uid-late"]
    assert not answer.workers
    await dispatcher.restart()
    # Its session may come back: nothing is said of it.
    answer = await stubs.fleet.ReserveWorkers(request)
    assert list(answer.absent_pod_uids) == ["uid-late"]
    await stubs.submit()
    late = await dispatcher.worker("late")
    assert (await late.read()).WhichOneof("message") == "drain"
    await late.nothing()
