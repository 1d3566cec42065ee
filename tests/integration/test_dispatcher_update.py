"""UpdateTask over the wire: what may be changed, what is refused, and that a kill takes none of it
back.
"""

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import field_mask_pb2, timestamp_pb2

from penstock.v1 import task_pb2, task_service_pb2

POOL = "namespaces/default/pools/demo"
_Code = grpc.StatusCode


def moment(seconds: float) -> timestamp_pb2.Timestamp:
    made = timestamp_pb2.Timestamp()
    made.FromNanoseconds(int((time.time() + seconds) * 1e9))
    return made


async def update(stubs: Any, name: str, paths: tuple[str, ...] = (), **fields: Any) -> Any:
    request = task_service_pb2.UpdateTaskRequest(
        task=task_pb2.Task(name=name, **fields),
        update_mask=field_mask_pb2.FieldMask(paths=paths),
    )
    return await stubs.tasks.UpdateTask(request, timeout=10)


async def refused(call: Any, rich: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rich(caught.value)


async def test_the_order_follows_and_the_etag_with_it(dispatcher: Any, stubs: Any) -> None:
    made = [await stubs.submit(task_id=name) for name in ("a", "b", "c")]
    before = await stubs.get(made[2].name)
    changed = await update(stubs, made[2].name, ("priority",), priority=9, etag=before.etag)
    assert changed.priority == 9
    assert changed.etag != before.etag
    assert (changed.create_time, changed.queue_position) == (before.create_time, 0)
    assert changed == await stubs.get(made[2].name)
    worker = await dispatcher.worker("pod-1", slots=3)
    order = [one.task.name.rpartition("/")[2] for one in await worker.assigned(3)]
    assert order == ["c", "a", "b"]


async def test_a_later_start_an_earlier_one_and_none(dispatcher: Any, stubs: Any) -> None:
    name = (await stubs.submit(expire_time=moment(500))).name
    later, end = moment(100), moment(300)
    shown = await update(stubs, name, schedule_time=later, expire_time=end)  # what is set
    assert (shown.state, shown.schedule_time) == (task_pb2.Task.DELAYED, later)
    assert (shown.expire_time, shown.priority) == (end, 0)
    worker = await dispatcher.worker("pod-1")
    shown = await update(stubs, name, ("expire_time",))
    assert not shown.HasField("expire_time")
    assert shown.state == task_pb2.Task.DELAYED
    await update(stubs, name, ("schedule_time",), schedule_time=moment(-50))
    (one,) = await worker.assigned(1)
    assert one.task.name == name
    other = (await stubs.submit(schedule_time=moment(100), priority=3)).name
    shown = await update(stubs, other, ("*",))
    assert not shown.HasField("schedule_time")
    assert (shown.state, shown.priority) == (task_pb2.Task.PENDING, 0)


async def test_refusals(dispatcher: Any, stubs: Any, rich: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    runs, waits = await stubs.submit(), await stubs.submit()
    (one,) = await worker.assigned(1)
    error = await refused(update(stubs, waits.name, ("payload", "priority", "type")), rich)
    assert (error.code, error.reason) == (_Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert "'payload'" in error.message
    assert "'type'" in error.message
    assert {bad.field for bad in error.details["BadRequest"].field_violations} == {"update_mask"}
    error = await refused(update(stubs, waits.name), rich)
    assert error.reason == "INVALID_FIELD"
    bad_time = timestamp_pb2.Timestamp(seconds=-5)
    error = await refused(update(stubs, waits.name, schedule_time=bad_time), rich)
    assert error.details["BadRequest"].field_violations[0].field == "task.schedule_time"
    error = await refused(update(stubs, waits.name, priority=1, etag='"other"'), rich)
    assert (error.code, error.reason) == (_Code.ABORTED, "ETAG_MISMATCH")
    error = await refused(update(stubs, f"{POOL}/tasks/none", priority=1), rich)
    assert (error.code, error.reason) == (_Code.NOT_FOUND, "TASK_NOT_FOUND")
    for name in (runs.name, runs.name):
        error = await refused(update(stubs, name, priority=1), rich)
        assert (error.code, error.reason) == (_Code.FAILED_PRECONDITION, "TASK_STATE")
        assert error.details["PreconditionFailure"].violations[0].subject == runs.name
        if (await stubs.get(name)).state == task_pb2.Task.RUNNING:
            await worker.succeed(one, credit=0)
            await stubs.wait(name)
    assert (await stubs.get(waits.name)).priority == 0


async def test_two_at_once_are_both_in_force(stubs: Any) -> None:
    name = (await stubs.submit()).name
    end = moment(300)
    await asyncio.gather(
        *(update(stubs, name, ("priority",), priority=number) for number in range(20)),
        update(stubs, name, ("expire_time",), expire_time=end),
    )
    shown = await stubs.get(name)
    assert shown.expire_time == end
    assert 0 <= shown.priority < 20
    assert (await update(stubs, name, priority=30)).priority == 30
    assert (await stubs.get(name)).expire_time == end


async def test_a_kill_takes_nothing_back(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any
) -> None:
    await asyncio.to_thread(dispatcher_process.configure)
    stubs = stubs_for(dispatcher_process.address)
    made = [(await stubs.submit(task_id=f"t{number}")).name for number in range(6)]
    later, end = moment(1_000), moment(2_000)
    told = [
        await update(stubs, made[5], ("priority",), priority=9),
        await update(stubs, made[4], priority=4, expire_time=end),
        await update(stubs, made[0], ("schedule_time",), schedule_time=later),
    ]
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    stubs = stubs_for(dispatcher_process.address)
    for before in told:
        after = await stubs.get(before.name)
        for each in (before, after):
            each.ClearField("queue_position")
            each.ClearField("estimated_wait")
        assert after == before, "the etag, too"
    worker = await raw_worker(stubs, pod="pod-1", slots=10).connect()
    order = [one.task.name for one in await worker.assigned(5)]
    assert order == [made[number] for number in (5, 4, 1, 2, 3)]
    await update(stubs, made[0], ("schedule_time",))
    assert (await worker.assigned(1))[0].task.name == made[0]
    await worker.call.done_writing()
