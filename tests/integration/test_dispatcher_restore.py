"""RestorePool over the wire: what waits in a deleted pool moves into the one that has its name."""

import asyncio
import contextlib
import random
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import fleet_service_pb2, pool_service_pb2, task_pb2, task_service_pb2

POOL = "namespaces/default/pools/demo"
COUNT = 5_000
BATCH = 500
KILLS = 12
KILL_SECONDS_MIN = 0.01
RETENTION_SECONDS = 86_400
_Request = fleet_service_pb2.SyncPoolsRequest
_State = task_pb2.Task


async def restore(stubs: Any, from_uid: str = "", *, dry: bool = False) -> Any:
    request = pool_service_pb2.RestorePoolRequest(name=POOL, from_uid=from_uid, validate_only=dry)
    return await stubs.pools.RestorePool(request, timeout=60)


async def shown(stubs: Any) -> Any:
    return await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))


async def refusal(rich: Any, call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rich(caught.value)


async def re_created(stubs: Any, make_pool: Any, uid: str = "uid-new", **fields: Any) -> Any:
    """The pool is deleted, and applied again."""
    operator = await stubs.sync(make_pool())
    await operator.write(_Request(deleted_uid="uid-demo", epoch=1))
    await operator.write(_Request(upsert=make_pool(uid=uid, **fields), epoch=1))
    async with asyncio.timeout(10):
        while (await shown(stubs)).uid != uid:
            await asyncio.sleep(0.01)
    return operator


async def submit_many(stubs: Any, count: int) -> list[str]:
    names: list[str] = []
    for start in range(0, count, BATCH):
        requests = [
            task_service_pb2.SubmitTaskRequest(
                task=task_pb2.Task(type="noop", payload=f"{number}".encode()),
                request_id=f"r-{number}",
            )
            for number in range(start, min(start + BATCH, count))
        ]
        batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=requests)
        answer = await stubs.tasks.BatchSubmitTasks(batch, timeout=30)
        names += [outcome.response.task.name for outcome in answer.outcomes]
    return names


async def test_a_pool_that_was_deleted_by_mistake_is_had_back(
    dispatcher: Any, stubs: Any, make_pool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    waits = [await stubs.submit(payload=b"%d" % number) for number in range(3)]
    waited_for = asyncio.ensure_future(stubs.wait(waits[0].name))
    assert (await shown(stubs)).restorable_tasks == 0
    operator = await re_created(stubs, make_pool)
    assert "the deleted one (uid-demo) still has 3 tasks" in caplog.text
    seen = await shown(stubs)
    assert (seen.restorable_tasks, seen.restorable_uid) == (3, "uid-demo")
    left = seen.restorable_until.seconds - time.time()
    assert RETENTION_SECONDS - 60 < left <= RETENTION_SECONDS
    listed = await stubs.pools.ListPools(pool_service_pb2.ListPoolsRequest())
    assert [each.restorable_tasks for each in listed.pools] == [3]
    async with asyncio.timeout(10):
        while True:
            frame = await operator.read()
            if any(each.restorable_tasks == 3 for each in frame.demands):
                break
    preview = await restore(stubs, dry=True)
    names = [task.name for task in waits]
    assert list(preview.restored_sample) == names
    assert (preview.restored_count, preview.remaining, preview.from_uid) == (3, 0, "uid-demo")
    assert (await shown(stubs)).stats.pending == 0
    assert await restore(stubs) == preview
    again = await restore(stubs)
    assert (again.restored_count, again.remaining, again.from_uid) == (0, 0, "uid-demo")
    assert (await shown(stubs)).restorable_tasks == 0
    # Over a restart they are in one place, and whole.
    dispatcher.pools = [make_pool(uid="uid-new")]
    await dispatcher.restart()
    stubs = dispatcher.stubs()
    worker = await dispatcher.worker("pod-1", slots=3)
    assigned = await worker.assigned(3)
    assert [(one.task.name, one.task.payload) for one in assigned] == [
        (name, b"%d" % number) for number, name in enumerate(names)
    ]
    await worker.succeed(*assigned)
    assert (await stubs.wait(names[2])).state == _State.SUCCEEDED
    with pytest.raises(grpc.aio.AioRpcError):
        await waited_for


async def test_who_waits_for_a_task_goes_along_also_past_the_retention(
    dispatcher: Any, stubs: Any, make_pool: Any
) -> None:
    """The call began before the delete, and is answered by what the task does elsewhere."""
    operator = await stubs.sync(make_pool(pool_retention=1))
    task = await stubs.submit()
    waiting = asyncio.ensure_future(stubs.wait(task.name, 20))
    await asyncio.sleep(0.1)
    await operator.write(_Request(deleted_uid="uid-demo", epoch=1))
    await operator.write(_Request(upsert=make_pool(uid="uid-new"), epoch=1))
    async with asyncio.timeout(10):
        while (await shown(stubs)).restorable_tasks != 1:
            await asyncio.sleep(0.01)
        assert (await restore(stubs)).restored_count == 1
        while "uid-demo" in dispatcher.dispatcher.pump.registry.by_uid:
            await asyncio.sleep(0.05)
    worker = await dispatcher.worker("pod-1")
    await worker.succeed(*await worker.assigned(), result=b"done")
    assert (await waiting).result == b"done"


async def test_what_runs_goes_on_with_its_worker_and_moves_when_it_waits_again(
    dispatcher: Any, stubs: Any, make_pool: Any
) -> None:
    first, second = await stubs.submit(), await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=2, pool_uid="uid-demo")
    assigned = await worker.assigned(2)
    operator = await re_created(stubs, make_pool)
    found = await restore(stubs)
    assert (found.restored_count, found.remaining, found.skipped_count) == (0, 2, 0)
    await worker.succeed(assigned[0], credit=0)
    await worker.acks()
    gone = fleet_service_pb2.WorkerGone(pool=POOL, pod_name="pod-1", pod_uid="uid-pod-1")
    await operator.write(_Request(worker_gone=gone, epoch=1))
    async with asyncio.timeout(10):
        while (await shown(stubs)).restorable_tasks != 1:
            await asyncio.sleep(0.01)
    found = await restore(stubs)
    assert (list(found.restored_sample), found.remaining) == ([second.name], 0)
    assert (await stubs.get(second.name)).worker_losses == 1
    with pytest.raises(grpc.aio.AioRpcError):
        await stubs.get(first.name)


async def test_what_was_submitted_again_is_not_run_twice(stubs: Any, make_pool: Any) -> None:
    await stubs.submit(task_id="same")
    await stubs.submit(task_id="other", request_id="r")
    free = await stubs.submit(task_id="free", request_id="f")
    await re_created(stubs, make_pool)
    await stubs.submit(task_id="same")
    await stubs.submit(task_id="mine", request_id="r", type="noop")
    found = await restore(stubs)
    assert (list(found.restored_sample), found.skipped_count) == ([free.name], 2)
    assert found.remaining == 2
    # The client that submits once more is told the task that it made in the deleted pool.
    again = await stubs.submit(task_id="free", request_id="f")
    assert again.uid == free.uid
    assert (await shown(stubs)).stats.pending == 3


async def test_which_deleted_pool(stubs: Any, make_pool: Any, rich: Any) -> None:
    none = await refusal(rich, restore(stubs))
    assert none.reason == "POOL_NOT_FOUND"
    assert "retention" in none.message
    await stubs.submit(task_id="old")
    await re_created(stubs, make_pool, uid="uid-2")
    await stubs.sync(make_pool(uid="uid-3"))
    # The one deleted last has nothing: the one before it is meant.
    assert (await shown(stubs)).restorable_uid == "uid-demo"
    assert (await restore(stubs, dry=True)).from_uid == "uid-demo"
    assert (await restore(stubs, "uid-2")).restored_count == 0
    own = await refusal(rich, restore(stubs, "uid-3"))
    assert (own.reason, own.details["BadRequest"].field_violations[0].field) == (
        "INVALID_FIELD",
        "from_uid",
    )
    assert (await refusal(rich, restore(stubs, "nobody"))).reason == "POOL_NOT_FOUND"
    assert (await restore(stubs, "uid-demo")).restored_count == 1
    await stubs.pools.DrainPool(pool_service_pb2.DrainPoolRequest(name=POOL))
    assert (await refusal(rich, restore(stubs))).reason == "DRAINING"
    await stubs.sync()
    assert (await refusal(rich, restore(stubs))).reason == "POOL_CLOSED"


async def test_a_long_queue_moves_while_others_are_served(stubs: Any, make_pool: Any) -> None:
    names = await submit_many(stubs, COUNT)
    await re_created(stubs, make_pool, max_pending=COUNT + 100)
    restoring = asyncio.ensure_future(restore(stubs))
    served = 0
    while not restoring.done():
        await stubs.submit()
        served += 1
    found = await restoring
    assert served > 1
    assert (found.restored_count, len(found.restored_sample)) == (COUNT, 100)
    assert list(found.restored_sample) == names[:100]
    assert (await shown(stubs)).stats.pending == COUNT + served


@pytest.mark.timeout(180)
async def test_kill_9_in_the_middle_loses_nothing_and_runs_nothing_twice(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random.seed(seed)
    dispatcher_process.configure(make_pool(max_pending=COUNT))
    stubs = stubs_for(dispatcher_process.address)
    names = await submit_many(stubs, COUNT)
    await re_created(stubs, make_pool, max_pending=10)
    # A pool is shown at once; what its answers wait for is durable, and it with them.
    await stubs.pools.PausePool(pool_service_pb2.PausePoolRequest(name=POOL))
    await stubs.pools.ResumePool(pool_service_pb2.ResumePoolRequest(name=POOL))
    torn = 0
    for number in range(KILLS):
        restoring = asyncio.ensure_future(restore(stubs))
        # Later each time, by less than all of them take: one comes in the middle.
        await asyncio.sleep(KILL_SECONDS_MIN * 1.35**number * random.uniform(0.9, 1.1))
        dispatcher_process.kill()
        with contextlib.suppress(grpc.aio.AioRpcError):
            await restoring
        await asyncio.to_thread(dispatcher_process.start)
        await stubs.channel.channel_ready()
        seen = await shown(stubs)
        assert seen.stats.pending + seen.restorable_tasks == COUNT
        torn += 0 < seen.restorable_tasks < COUNT
        print(f"kill {number}: {seen.restorable_tasks} of {COUNT} left")
        if not seen.restorable_tasks:
            break
    assert torn, "no kill came in the middle"
    found = await restore(stubs)
    assert (found.remaining, found.skipped_count) == (0, 0)
    assert (await shown(stubs)).stats.pending == COUNT
    worker = await raw_worker(stubs, pod="pod-1", slots=BATCH).connect()
    run: list[str] = []
    while len(run) < COUNT:
        frame = await worker.read()
        given = frame.assignments.assignments
        run += [one.task.name for one in given]
        if given:
            await worker.succeed(*given)
    assert run == names
    assert (await stubs.wait(names[-1])).state == _State.SUCCEEDED
    again = await stubs.submit(request_id="r-0", payload=b"0")
    assert again.name == names[0]
    await stubs.channel.close()
