"""BatchCancelTasks and BatchRetryTasks over the wire."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2

POOL = "namespaces/default/pools/demo"
COUNT = 2_600
_State = task_pb2.Task


async def cancel(stubs: Any, *names: str, query: str = "", **fields: Any) -> Any:
    request = task_service_pb2.BatchCancelTasksRequest(
        parent=POOL, names=names, filter=query, **fields
    )
    return await stubs.tasks.BatchCancelTasks(request, timeout=60)


async def retry(stubs: Any, *names: str, query: str = "", **fields: Any) -> Any:
    request = task_service_pb2.BatchRetryTasksRequest(
        parent=POOL, names=names, filter=query, **fields
    )
    return await stubs.tasks.BatchRetryTasks(request, timeout=60)


async def states(stubs: Any) -> dict[str, int]:
    listed = await stubs.tasks.ListTasks(
        task_service_pb2.ListTasksRequest(parent=POOL, page_size=1_000)
    )
    return {task.name.rpartition("/")[2]: task.state for task in listed.tasks}


async def refused(call: Any, rich: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rich(caught.value)


async def test_what_matches_is_cancelled_wherever_it_is(dispatcher: Any, stubs: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=2)
    for name in ("done", "runs"):
        await stubs.submit(task_id=name, type="work")
    first, second = await worker.assigned(2)
    await worker.succeed(first, credit=0)
    await stubs.wait(f"{POOL}/tasks/done")
    for number in range(3):
        await stubs.submit(task_id=f"w{number}", type="work", priority=number)
    await stubs.submit(task_id="other", type="rest")
    shown = await cancel(stubs, query="type=work", validate_only=True)
    assert shown.cancelled_count == 4
    assert (await states(stubs))["w0"] == _State.PENDING, "a preview changes nothing"
    found = await cancel(stubs, query="type=work", reason="enough")
    assert found == shown
    assert [name.rpartition("/")[2] for name in found.names] == ["runs", "w0", "w1", "w2"]
    while (frame := await worker.read()).WhichOneof("message") != "cancel":
        pass
    assert (frame.cancel.lease_id, frame.cancel.reason) == (second.lease.lease_id, "enough")
    now = await states(stubs)
    assert now["done"] == _State.SUCCEEDED
    assert now["runs"] == _State.CANCELLING
    assert {now[f"w{number}"] for number in range(3)} == {_State.CANCELLED}
    assert now["other"] == _State.PENDING
    assert (await cancel(stubs, query="type=work")).cancelled_count == 0, "asked already"
    assert (await cancel(stubs, query="*")).cancelled_count == 1


async def test_names_are_there_all_of_them_or_nothing_is_done(stubs: Any, rich: Any) -> None:
    made = [(await stubs.submit(task_id=f"t{number}")).name for number in range(3)]
    error = await refused(cancel(stubs, made[0], f"{POOL}/tasks/none"), rich)
    assert error.reason == "TASK_NOT_FOUND"
    error = await refused(cancel(stubs, "namespaces/default/pools/other/tasks/x"), rich)
    assert error.reason == "INVALID_FIELD"
    for bad in ({}, {"query": "type=noop", "names": True}):
        names = made if bad.pop("names", False) else []
        error = await refused(cancel(stubs, *names, **bad), rich)
        assert (error.reason, "one of them" in error.message) == ("INVALID_FIELD", True)
    error = await refused(cancel(stubs, *(made * 400)), rich)
    assert "at most 1000" in error.message
    assert set((await states(stubs)).values()) == {_State.PENDING}
    found = await cancel(stubs, made[0], made[2], made[0])
    assert (found.cancelled_count, list(found.names)) == (2, [made[0], made[2]])


async def test_a_long_queue_goes_while_others_are_served(dispatcher: Any, stubs: Any) -> None:
    single = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"))
    for _ in range(COUNT // 650):
        batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[single] * 650)
        await stubs.tasks.BatchSubmitTasks(batch)
    cancelling = asyncio.ensure_future(cancel(stubs, query="state=PENDING"))
    late = await stubs.submit(priority=5)
    found = await cancelling
    assert found.cancelled_count in (COUNT, COUNT + 1)
    assert len(found.names) == 100
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert pool.stats.pending == COUNT + 1 - found.cancelled_count
    await dispatcher.restart()
    stubs = dispatcher.stubs()
    assert (await stubs.get(late.name)).state in (_State.PENDING, _State.CANCELLED)
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert pool.stats.pending == COUNT + 1 - found.cancelled_count


async def test_what_failed_waits_again(dispatcher: Any, stubs: Any, rich: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=10)
    for number in range(6):
        await stubs.submit(task_id=f"t{number}", type="work" if number else "rest")
    assigned = await worker.assigned(6)
    for one in assigned[:5]:
        await worker.fail(one, retryable=False)
    await worker.succeed(assigned[5], credit=1)
    for one in assigned:
        await stubs.wait(one.task.name)
    await stubs.pools.PausePool(pool_service_pb2.PausePoolRequest(name=POOL))
    shown = await retry(stubs, query="type=work", validate_only=True)
    found = await retry(stubs, query="type=work")
    assert found == shown
    assert found.retried_count == 4
    assert sorted(found.names) == [f"{POOL}/tasks/t{number}" for number in range(1, 5)]
    now = await states(stubs)
    assert [now[f"t{number}"] for number in range(6)] == [
        _State.DEAD_LETTERED,
        *[_State.PENDING] * 4,
        _State.SUCCEEDED,
    ]
    names = [f"{POOL}/tasks/t0", f"{POOL}/tasks/t5"]
    elsewhere = "namespaces/default/pools/other/tasks/t0"
    assert (await refused(retry(stubs, names[0], elsewhere), rich)).reason == "INVALID_FIELD"
    assert (await retry(stubs, *names)).retried_count == 1
    await stubs.pools.DrainPool(pool_service_pb2.DrainPoolRequest(name=POOL))
    await cancel(stubs, query="*")
    assert (await retry(stubs, query="*")).retried_count == 0, "cancelled is not failed"
    await stubs.pools.UndrainPool(pool_service_pb2.UndrainPoolRequest(name=POOL))
    await stubs.pools.ResumePool(pool_service_pb2.ResumePoolRequest(name=POOL))
    await stubs.submit(task_id="last")
    (one,) = await worker.assigned(1)
    await worker.fail(one, retryable=False)
    await stubs.wait(one.task.name)
    await stubs.pools.DrainPool(pool_service_pb2.DrainPoolRequest(name=POOL))
    error = await refused(retry(stubs, query="*"), rich)
    assert error.reason == "DRAINING"
    assert (await stubs.get(one.task.name)).state == _State.DEAD_LETTERED
