"""DrainPool over the wire: it refuses, waits, survives a restart, and can be taken back."""

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2

POOL = "namespaces/default/pools/demo"
_State = pool_service_pb2.Pool.State


async def drain(stubs: Any, seconds: float | None = None) -> Any:
    request = pool_service_pb2.DrainPoolRequest(name=POOL)
    if seconds is not None:
        request.timeout.FromMilliseconds(int(seconds * 1000))
    return await stubs.pools.DrainPool(request)


async def undrain(stubs: Any) -> Any:
    return await stubs.pools.UndrainPool(pool_service_pb2.UndrainPoolRequest(name=POOL))


async def pool_of(stubs: Any) -> Any:
    return await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))


async def test_it_refuses_new_tasks_and_waits_for_the_accepted_ones(
    dispatcher: Any, stubs: Any, rich: Any
) -> None:
    await stubs.submit()
    await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=1)
    (first,) = await worker.assigned(1)
    found = await drain(stubs)
    assert (found.state, found.drained) == (_State.DRAINING, False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.submit()
    error = rich(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert "RetryInfo" in error.details
    waiting = asyncio.ensure_future(drain(stubs, 30))
    await worker.succeed(first)
    (second,) = await worker.assigned(1)
    assert not waiting.done()
    await worker.succeed(second)
    found = await waiting
    assert (found.state, found.drained) == (_State.DRAINING, True)
    assert (found.stats.pending, found.stats.in_flight) == (0, 0)
    found = await undrain(stubs)
    assert (found.state, found.drained) == (_State.RUNNING, False)
    await stubs.submit()


async def test_it_answers_when_the_time_is_up_and_goes_on_draining(
    dispatcher: Any, stubs: Any
) -> None:
    await stubs.submit()
    began = time.monotonic()
    found = await drain(stubs, 0.3)
    assert 0.3 <= time.monotonic() - began < 2
    assert (found.state, found.drained) == (_State.DRAINING, False)
    assert (await pool_of(stubs)).state == _State.DRAINING
    assert not dispatcher.dispatcher.pump.drains


async def test_it_is_kept_over_a_restart(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    await drain(stubs)
    await dispatcher.restart()
    assert (await pool_of(dispatcher.stubs())).state == _State.DRAINING
    worker = await dispatcher.worker("pod-1", slots=1)
    (one,) = await worker.assigned(1)
    assert one.task.name == task.name
    await undrain(dispatcher.stubs())
    await dispatcher.restart()
    assert (await pool_of(dispatcher.stubs())).state == _State.RUNNING


async def test_who_waits_is_told_when_it_is_taken_back_or_the_dispatcher_stops(
    dispatcher: Any, stubs: Any, rich: Any
) -> None:
    await stubs.submit()
    drains = dispatcher.dispatcher.pump.drains
    waiting = asyncio.ensure_future(drain(stubs, 60))
    async with asyncio.timeout(10):
        while not drains:
            await asyncio.sleep(0.005)
    await undrain(stubs)
    assert (await waiting).state == _State.RUNNING
    waiting = asyncio.ensure_future(drain(stubs, 60))
    async with asyncio.timeout(10):
        while not drains:
            await asyncio.sleep(0.005)
    await dispatcher.stop()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    assert rich(caught.value).reason == "NOT_LEADER"
    await dispatcher.start()


async def test_a_bad_request_changes_nothing(stubs: Any, rich: Any) -> None:
    request = pool_service_pb2.DrainPoolRequest(name=POOL)
    request.timeout.seconds = -1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.pools.DrainPool(request)
    assert rich(caught.value).reason == "INVALID_FIELD"
    assert (await pool_of(stubs)).state == _State.RUNNING
