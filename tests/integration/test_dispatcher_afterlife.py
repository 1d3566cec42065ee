"""RetryTask and DeleteTask over the wire."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2

POOL = "namespaces/default/pools/demo"
BOUND = 3
_State = task_pb2.Task.State


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [make_pool(max_pending=BOUND)]


async def retry(stubs: Any, name: str) -> Any:
    return await stubs.tasks.RetryTask(task_service_pb2.RetryTaskRequest(name=name))


async def delete(stubs: Any, name: str, etag: str = "") -> Any:
    return await stubs.tasks.DeleteTask(task_service_pb2.DeleteTaskRequest(name=name, etag=etag))


async def dead(stubs: Any, worker: Any, **fields: Any) -> str:
    """The name of a dead letter."""
    task = await stubs.submit(**fields)
    (one,) = await worker.assigned(1)
    await worker.fail(one, retryable=False)
    ended = await stubs.wait(task.name)
    assert ended.state == _State.DEAD_LETTERED
    return str(task.name)


async def refusal(call: Any, rich: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return str(rich(caught.value).reason)


async def test_a_dead_letter_is_queued_again_and_can_succeed(dispatcher: Any, stubs: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=1)
    name = await dead(stubs, worker, payload=b"x")
    before = await stubs.get(name)
    again = await retry(stubs, name)
    assert again.name == name
    assert again.etag != before.etag
    waiting = asyncio.ensure_future(stubs.wait(name))
    (one,) = await worker.assigned(1)
    assert (one.task.payload, one.lease.attempt) == (b"x", 1)
    await worker.succeed(one, result=b"y")
    ended = await waiting
    assert (ended.state, ended.result, ended.attempt) == (_State.SUCCEEDED, b"y", 1)
    assert not ended.HasField("error")


async def test_it_is_not_refused_by_the_bound_and_kept_over_a_restart(
    dispatcher: Any, stubs: Any, rich: Any
) -> None:
    worker = await dispatcher.worker("pod-1", slots=1)
    name = await dead(stubs, worker)
    await stubs.pools.PausePool(pool_service_pb2.PausePoolRequest(name=POOL))
    for _ in range(BOUND):
        await stubs.submit()
    assert (await retry(stubs, name)).state == _State.PENDING
    assert await refusal(stubs.submit(), rich) == "QUEUE_FULL"
    await dispatcher.restart()
    stubs = dispatcher.stubs()
    found = await stubs.get(name)
    assert (found.state, found.attempt, found.worker_losses) == (_State.PENDING, 0, 0)
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert (pool.stats.pending, pool.stats.dead_lettered) == (BOUND + 1, 0)


async def test_what_cannot_be_retried_says_why(dispatcher: Any, stubs: Any, rich: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=1)
    name = await dead(stubs, worker)
    waits = await stubs.submit()
    await worker.assigned(1)
    assert await refusal(retry(stubs, waits.name), rich) == "TASK_STATE"
    assert await refusal(retry(stubs, f"{POOL}/tasks/none"), rich) == "TASK_NOT_FOUND"
    drain = pool_service_pb2.DrainPoolRequest(name=POOL)
    await stubs.pools.DrainPool(drain)
    assert await refusal(retry(stubs, name), rich) == "DRAINING"


async def test_a_task_that_is_over_can_be_deleted(dispatcher: Any, stubs: Any, rich: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=1)
    name = await dead(stubs, worker, request_id="r")
    waits = await stubs.submit()
    await worker.assigned(1)
    assert await refusal(delete(stubs, waits.name), rich) == "TASK_STATE"
    assert await refusal(delete(stubs, name, '"old"'), rich) == "ETAG_MISMATCH"
    await delete(stubs, name, (await stubs.get(name)).etag)
    assert await refusal(stubs.get(name), rich) == "TASK_NOT_FOUND"
    assert await refusal(delete(stubs, name), rich) == "TASK_NOT_FOUND"
    assert (await stubs.submit(request_id="r")).name == name, "the request stays known"
    await dispatcher.restart()
    assert await refusal(dispatcher.stubs().get(name), rich) == "TASK_NOT_FOUND"
