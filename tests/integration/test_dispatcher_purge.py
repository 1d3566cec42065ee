"""PurgePool over the wire: what waits and matches goes, all else stays."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2

POOL = "namespaces/default/pools/demo"
COUNT = 2_500


async def purge(stubs: Any, query: str = "", *, force: bool = False) -> Any:
    request = pool_service_pb2.PurgePoolRequest(name=POOL, filter=query, force=force)
    return await stubs.pools.PurgePool(request)


async def names(stubs: Any) -> set[str]:
    listed = await stubs.tasks.ListTasks(
        task_service_pb2.ListTasksRequest(parent=POOL, page_size=1_000)
    )
    return {task.name for task in listed.tasks}


async def test_a_preview_changes_nothing_and_force_deletes_what_waits(
    dispatcher: Any, stubs: Any
) -> None:
    worker = await dispatcher.worker("pod-1", slots=2)
    done, runs = await stubs.submit(), await stubs.submit()
    first, _ = await worker.assigned(2)
    await worker.succeed(first, credit=0)
    await stubs.wait(done.name)
    waits = [await stubs.submit(priority=number % 2) for number in range(4)]
    waited_for = asyncio.ensure_future(stubs.wait(waits[3].name))
    shown = await purge(stubs, "priority=1")
    assert (shown.purge_count, list(shown.purge_sample)) == (2, [waits[1].name, waits[3].name])
    assert len(await names(stubs)) == 6
    assert (await purge(stubs, "priority=1", force=True)).purge_count == 2
    assert (await waited_for).state == task_pb2.Task.CANCELLED
    left = {done.name, runs.name, waits[0].name, waits[2].name}
    assert await names(stubs) == left
    await dispatcher.restart()
    assert await names(dispatcher.stubs()) == left


async def test_what_may_still_run_after_a_restart_stays(dispatcher: Any, stubs: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=1)
    runs = await stubs.submit()
    await worker.assigned(1)
    await dispatcher.restart()
    stubs = dispatcher.stubs()
    assert (await purge(stubs, force=True)).purge_count == 0
    assert await names(stubs) == {runs.name}


async def test_a_long_queue_goes_while_others_are_served(dispatcher: Any, stubs: Any) -> None:
    single = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"))
    for _ in range(COUNT // 500):
        batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[single] * 500)
        await stubs.tasks.BatchSubmitTasks(batch)
    purging = asyncio.ensure_future(purge(stubs, force=True))
    late = await stubs.submit(priority=5)
    found = await purging
    assert found.purge_count in (COUNT, COUNT + 1)
    assert len(found.purge_sample) == 100
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert pool.stats.pending == COUNT + 1 - found.purge_count
    assert (late.name in await names(stubs)) == (found.purge_count == COUNT)


async def test_who_waits_for_room_gets_in(dispatcher: Any, stubs: Any, make_pool: Any) -> None:
    operator = await stubs.sync(make_pool(max_pending=1))
    await stubs.submit()
    waiting = asyncio.ensure_future(stubs.submit(max_wait={"seconds": 20}))
    async with asyncio.timeout(10):
        while not dispatcher.dispatcher.pump.callers:
            await asyncio.sleep(0.005)
    assert (await purge(stubs, force=True)).purge_count == 1
    assert await names(stubs) == {(await waiting).name}
    operator.cancel()


async def test_a_bad_filter_is_refused(stubs: Any, rich: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await purge(stubs, "nonsense", force=True)
    assert rich(caught.value).reason == "INVALID_FIELD"
