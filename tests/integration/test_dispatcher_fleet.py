"""The operator's side: configuration in, demand out, workers reserved and confirmed."""

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import (
    fleet_service_pb2,
    pool_service_pb2,
    task_pb2,
    task_service_pb2,
    worker_service_pb2,
)
from penstock_dispatcher import demand_feed

POOL = "namespaces/default/pools/demo"
OTHER = "namespaces/default/pools/other"
_Request = fleet_service_pb2.SyncPoolsRequest
_Worker = pool_service_pb2.Worker


async def demand_where(call: Any, condition: Any, pool: str = POOL) -> Any:
    """The next demand of a pool that meets a condition."""
    async with asyncio.timeout(10):
        while True:
            message = await call.read()
            assert message is not grpc.aio.EOF, await call.details()
            for demand in message.demands:
                if demand.pool == pool and condition(demand):
                    return demand


async def test_a_full_sync_configures_and_closes_what_is_absent(
    stubs: Any, make_pool: Any, rich: Any
) -> None:
    old = await stubs.submit()
    call = await stubs.sync(make_pool(OTHER, "uid-other"))
    await stubs.submit(parent=OTHER)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stubs.submit()
    found = rich(error.value)
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "POOL_CLOSED")
    shown = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert shown.state == pool_service_pb2.Pool.CLOSED
    assert shown.stats.pending == 1  # an accidental delete can be undone
    assert (await stubs.get(old.name)).state == task_pb2.Task.PENDING
    await call.write(_Request(upsert=make_pool(), epoch=1))
    await demand_where(call, lambda demand: demand.stats.pending == 1)
    await stubs.submit()


async def test_a_closed_pool_is_purged_after_its_retention(
    stubs: Any, make_pool: Any, rich: Any
) -> None:
    call = await stubs.sync(make_pool(pool_retention=0.3))
    task = await stubs.submit()
    waiting = asyncio.ensure_future(stubs.wait(task.name, 10))
    await call.write(_Request(deleted_uid="uid-demo", epoch=1))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await waiting
    assert rich(error.value).reason == "TASK_NOT_FOUND"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stubs.get(task.name)
    assert rich(error.value).reason == "POOL_NOT_FOUND"


async def test_a_re_created_pool_is_another_pool(stubs: Any, make_pool: Any, rich: Any) -> None:
    old = await stubs.submit(task_id="same")
    await stubs.sync(make_pool(uid="uid-new"))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stubs.get(old.name)
    assert rich(error.value).reason == "TASK_NOT_FOUND"
    assert (await stubs.submit(task_id="same")).uid != old.uid


async def test_a_refused_configuration_is_reported_and_the_earlier_one_stays(
    stubs: Any, make_pool: Any, rich: Any
) -> None:
    call = await stubs.sync(make_pool(max_pending=7))
    bad = make_pool(max_pending=-1, rate_limit=(0, 1.0, 5))
    bad.generation = 2
    await call.write(_Request(upsert=bad, epoch=1))
    demand = await demand_where(call, lambda demand: demand.HasField("config_error"))
    error = rich(demand.config_error)
    assert error.reason == "INVALID_FIELD"
    fields = [one.field for one in error.details["BadRequest"].field_violations]
    assert fields == ["max_pending", "rate_limit.tasks"]
    assert demand.observed_generation == 1
    shown = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert shown.max_pending == 7
    good = make_pool(max_pending=8)
    good.generation = 3
    await call.write(_Request(upsert=good, epoch=1))
    demand = await demand_where(call, lambda demand: demand.observed_generation == 3)
    assert not demand.HasField("config_error")


async def test_a_pool_whose_first_configuration_is_bad_is_reported_too(
    stubs: Any, make_pool: Any
) -> None:
    call = stubs.fleet.SyncPools()
    await call.write(_Request(upsert=make_pool(OTHER, "uid-bad", max_in_flight=-1), epoch=1))
    await call.write(_Request(sync_end=fleet_service_pb2.SyncEnd(), epoch=1))
    first = await call.read()
    (demand,) = [one for one in first.demands if one.uid == "uid-bad"]
    assert demand.pool == OTHER
    assert "max_in_flight" in demand.config_error.message
    assert first.synced


@pytest.mark.parametrize("how", ["deleted", "absent", "kept", "in a kept namespace"])
async def test_a_refusal_goes_with_its_pool(
    stubs: Any, dispatcher: Any, make_pool: Any, how: str
) -> None:
    refused = dispatcher.dispatcher.pump.registry.config_errors
    call = await stubs.sync(
        make_pool(max_pending=-1),  # of a pool that is known
        make_pool(OTHER, "uid-bad", max_in_flight=-1),
        make_pool("no name", "uid-nameless"),
    )
    assert set(refused) == {"uid-demo", "uid-bad", "uid-nameless"}
    if how == "deleted":
        for uid in list(refused):
            await call.write(_Request(deleted_uid=uid, epoch=1))
        async with asyncio.timeout(10):
            while refused:
                await asyncio.sleep(0.01)
    if how == "kept":
        call = stubs.fleet.SyncPools()
        for uid in refused:
            await call.write(_Request(kept_uid=uid, epoch=1))
    if how == "in a kept namespace":
        call = stubs.fleet.SyncPools()
        await call.write(_Request(kept_namespace="default", epoch=1))
    if how in ("deleted", "absent"):
        await stubs.sync()
        assert not refused
    else:
        await call.write(_Request(sync_end=fleet_service_pb2.SyncEnd(), epoch=1))
        assert (await call.read()).synced
        assert {"uid-demo", "uid-bad"} <= set(refused)
        assert ("uid-nameless" in refused) == (how == "kept")


async def test_a_successor_takes_the_refusal_away(
    stubs: Any, dispatcher: Any, make_pool: Any
) -> None:
    call = await stubs.sync(make_pool(max_pending=-1))
    await call.write(_Request(upsert=make_pool(uid="uid-new"), epoch=1))
    await demand_where(call, lambda demand: demand.uid == "uid-new")
    assert not dispatcher.dispatcher.pump.registry.config_errors


async def test_changes_are_pushed_a_few_at_once_and_then_ten_times_a_second(
    stubs: Any, dispatcher: Any
) -> None:
    call = await stubs.sync(*dispatcher.pools)
    await stubs.submit()
    await demand_where(call, lambda demand: demand.stats.pending == 1)
    seen: list[int] = []

    async def count() -> None:
        while True:
            seen.extend(one.stats.pending for one in (await call.read()).demands)

    counting = asyncio.ensure_future(count())
    began = time.monotonic()
    for _ in range(100):
        await stubs.submit()
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.15)
    took = time.monotonic() - began
    counting.cancel()
    assert 2 <= len(seen) <= took * 10 + demand_feed.PACE.burst
    assert seen[-1] == 101
    assert seen == sorted(seen)


async def test_demand_counts_what_could_run(stubs: Any, dispatcher: Any, make_pool: Any) -> None:
    call = await stubs.sync(make_pool(max_in_flight=3))
    for _ in range(5):
        await stubs.submit()
    demand = await demand_where(call, lambda demand: demand.stats.pending == 5)
    assert demand.runnable_slots == 3
    assert demand.uid == "uid-demo"
    assert demand.pool_epoch == 1
    worker = await dispatcher.worker("pod-1", slots=2, revision="abc")
    await worker.assigned(2)
    demand = await demand_where(call, lambda demand: demand.stats.in_flight == 2)
    assert demand.runnable_slots == 1
    assert (demand.stats.slots_used, demand.stats.slots_total) == (2, 2)


async def test_every_pool_is_shown_anew_within_five_seconds(stubs: Any, dispatcher: Any) -> None:
    call = await stubs.sync(*dispatcher.pools)
    began = time.monotonic()
    for _ in range(2):
        async with asyncio.timeout(7):
            while not (await call.read()).demands:
                pass
    assert time.monotonic() - began >= 4


async def test_reserve_drain_confirm(stubs: Any, dispatcher: Any) -> None:
    call = await stubs.sync(*dispatcher.pools)
    idle = await dispatcher.worker("idle")
    busy = await dispatcher.worker("busy")
    await stubs.submit()
    await busy.assigned()
    await asyncio.sleep(0.2)
    request = fleet_service_pb2.ReserveWorkersRequest(pool=POOL, count=5, idle_only=True, epoch=1)
    request.idle_for.FromMilliseconds(100)
    answer = await stubs.fleet.ReserveWorkers(request)
    assert [(one.pod_uid, one.state) for one in answer.workers] == [("uid-idle", _Worker.DRAINING)]
    frame = await idle.read()
    assert frame.drain.reservation_id == answer.reservation_id
    # Reserved: no work, even if there is some.
    await stubs.submit()
    await idle.send(drained=worker_service_pb2.Drained(reservation_id=answer.reservation_id))
    demand = await demand_where(
        call, lambda demand: any(one.state == _Worker.DRAINED for one in demand.workers)
    )
    (drained,) = [one for one in demand.workers if one.state == _Worker.DRAINED]
    assert (drained.pod_uid, drained.reservation_id) == ("uid-idle", answer.reservation_id)
    # Too late to take it back.
    await stubs.fleet.ReleaseWorkers(
        fleet_service_pb2.ReleaseWorkersRequest(
            pool=POOL, reservation_id=answer.reservation_id, epoch=1
        )
    )
    listed = await stubs.pools.ListWorkers(
        pool_service_pb2.ListWorkersRequest(parent=POOL, filter="state=DRAINED")
    )
    assert [one.pod_uid for one in listed.workers] == ["uid-idle"]
    await idle.send(credit=worker_service_pb2.Credit(slots=1))
    await idle.nothing()


async def test_a_reservation_is_revoked_until_it_is_confirmed(stubs: Any, dispatcher: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    answer = await stubs.fleet.ReserveWorkers(
        fleet_service_pb2.ReserveWorkersRequest(pool=POOL, count=1, idle_only=True)
    )
    assert (await worker.read()).WhichOneof("message") == "drain"
    await stubs.fleet.ReleaseWorkers(
        fleet_service_pb2.ReleaseWorkersRequest(
            pool=POOL, reservation_id=answer.reservation_id, pod_uids=["uid-pod-1"]
        )
    )
    assert (await worker.read()).WhichOneof("message") == "undrain"
    await stubs.submit()
    await worker.send(credit=worker_service_pb2.Credit(slots=1))
    assert len(await worker.assigned()) == 1


async def test_workers_too_fresh_or_of_another_revision_are_not_reserved(
    stubs: Any, dispatcher: Any
) -> None:
    await dispatcher.worker("pod-1", revision="new")
    request = fleet_service_pb2.ReserveWorkersRequest(
        pool=POOL, count=1, idle_only=True, revision="old"
    )
    assert not (await stubs.fleet.ReserveWorkers(request)).workers
    request.revision = "new"
    request.idle_for.seconds = 60
    answer = await stubs.fleet.ReserveWorkers(request)
    assert not answer.workers
    assert answer.reservation_id == ""


async def test_a_drained_worker_stays_drained_over_a_restart(stubs: Any, dispatcher: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    answer = await stubs.fleet.ReserveWorkers(
        fleet_service_pb2.ReserveWorkersRequest(pool=POOL, count=1, idle_only=True)
    )
    await worker.read()
    await worker.send(drained=worker_service_pb2.Drained(reservation_id=answer.reservation_id))
    call = await stubs.sync(*dispatcher.pools)
    request = pool_service_pb2.ListWorkersRequest(parent=POOL, filter="state=DRAINED")
    async with asyncio.timeout(5):
        while not (await stubs.pools.ListWorkers(request)).workers:
            await asyncio.sleep(0.02)
    call.cancel()
    await dispatcher.restart()
    await stubs.submit()
    await worker.connect()
    listed = await stubs.pools.ListWorkers(request)
    assert [one.pod_uid for one in listed.workers] == ["uid-pod-1"]
    assert (await worker.read()).WhichOneof("message") == "drain"
    await worker.nothing()


async def test_a_lower_epoch_is_refused_also_after_a_restart(
    stubs: Any, dispatcher: Any, rich: Any
) -> None:
    await stubs.sync(*dispatcher.pools, epoch=7)

    async def refused() -> Any:
        call = stubs.fleet.SyncPools()
        await call.write(_Request(sync_end=fleet_service_pb2.SyncEnd(), epoch=6))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        return rich(error.value)

    found = await refused()
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STALE_SESSION")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stubs.fleet.ReserveWorkers(
            fleet_service_pb2.ReserveWorkersRequest(pool=POOL, count=1, epoch=6)
        )
    assert rich(error.value).reason == "STALE_SESSION"
    await dispatcher.restart()
    await stubs.channel.channel_ready()
    assert (await refused()).reason == "STALE_SESSION"


async def test_a_newer_stream_ends_the_older_one(stubs: Any, dispatcher: Any) -> None:
    old = await stubs.sync(*dispatcher.pools)
    new = await stubs.sync(*dispatcher.pools, epoch=2)
    assert await old.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "newer stream" in await old.details()
    await stubs.submit()
    await demand_where(new, lambda demand: demand.stats.pending == 1)


async def test_pools_are_listed_by_namespace_and_paged(stubs: Any, make_pool: Any) -> None:
    configs = [
        make_pool(f"namespaces/{namespace}/pools/p{number}", f"uid-{namespace}-{number}")
        for namespace in ("a", "b")
        for number in range(3)
    ]
    await stubs.sync(*configs)
    listed = await stubs.pools.ListPools(pool_service_pb2.ListPoolsRequest(parent="namespaces/b"))
    assert [pool.name for pool in listed.pools] == [f"namespaces/b/pools/p{n}" for n in range(3)]
    names: list[str] = []
    request = pool_service_pb2.ListPoolsRequest(page_size=4)
    while True:
        page = await stubs.pools.ListPools(request)
        names.extend(pool.name for pool in page.pools)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert names == sorted([config.name for config in configs] + [POOL])


async def test_pausing_is_a_latch_of_its_own_and_survives_a_restart(
    stubs: Any, dispatcher: Any, make_pool: Any
) -> None:
    await stubs.pools.PausePool(pool_service_pb2.PausePoolRequest(name=POOL))
    await dispatcher.restart()
    task = await stubs.submit()
    await stubs.sync(make_pool(paused=True))
    shown = await stubs.pools.ResumePool(pool_service_pb2.ResumePoolRequest(name=POOL))
    assert shown.state == pool_service_pb2.Pool.PAUSED  # the manifest's latch is set, too
    worker = await dispatcher.worker("pod-1")
    await asyncio.sleep(0.1)
    assert (await stubs.get(task.name)).state == task_pb2.Task.PENDING
    call = await stubs.sync(make_pool())
    assert len(await worker.assigned()) == 1
    call.cancel()


async def test_an_older_demand_stream_does_not_keep_a_pool_from_being_read(
    stubs: Any, dispatcher: Any
) -> None:
    """An operator that does not read holds nobody up."""
    await stubs.sync(*dispatcher.pools)
    batch = task_service_pb2.BatchSubmitTasksRequest(
        parent=POOL,
        requests=[task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"))] * 500,
    )
    for _ in range(10):
        await stubs.tasks.BatchSubmitTasks(batch, timeout=10)
