"""Submissions that wait for room, over the wire: who gets in, who does not, and what is left."""

import asyncio
import sys
import time
import urllib.request
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import duration_pb2

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2
from rig import polling

POOL = "namespaces/default/pools/demo"
BOUND = 3
SECONDS_MAX = 10.0
LATE_SECONDS = 0.1
"""How much later than `max_wait` the answer may come."""
_Code = grpc.StatusCode


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [make_pool(max_pending=BOUND, max_waiters=20, max_wait=60)]


def seconds(value: float) -> duration_pb2.Duration:
    made = duration_pb2.Duration()
    made.FromMilliseconds(int(value * 1000))
    return made


async def fill(stubs: Any) -> None:
    for _ in range(BOUND):
        await stubs.submit()


async def waiting(dispatcher: Any, stubs: Any, *, count: int = 1, **fields: Any) -> list[Any]:
    """So many submissions that wait, one after the other."""
    room = dispatcher.dispatcher.pump.registry.by_name[POOL].room
    made = []
    for number in range(count):
        before = len(room)
        fields.setdefault("max_wait", seconds(60))
        own = {name: value(number) if callable(value) else value for name, value in fields.items()}
        made.append(asyncio.ensure_future(stubs.submit(**own)))
        await polling.until(lambda before=before: len(room) == before + 1, SECONDS_MAX)
    return made


async def refused(calls: list[Any], rich: Any) -> set[tuple[Any, str]]:
    found = set()
    for ended in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(ended, grpc.aio.AioRpcError)
        error = rich(ended)
        found.add((error.code, error.reason))
    return found


async def test_the_best_who_waits_gets_in_and_the_bound_stays_exact(
    dispatcher: Any, stubs: Any
) -> None:
    await fill(stubs)
    calls = await waiting(
        dispatcher, stubs, count=6, priority=lambda n: n % 3, task_id=lambda n: f"w{n}"
    )
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert (pool.stats.pending, pool.stats.waiters) == (BOUND, 6)
    with pytest.raises(grpc.aio.AioRpcError):
        await stubs.submit(priority=9)
    worker = await dispatcher.worker("pod-1", slots=1)
    entered = []
    for order in ("w2", "w5", "w1", "w4", "w0", "w3"):
        (one,) = await worker.assigned(1)
        number = int(order[1:])
        answer = await calls[number]
        entered.append(answer.name.rpartition("/")[2])
        assert sum(call.done() for call in calls) == len(entered)
        await worker.succeed(one)
    assert entered == ["w2", "w5", "w1", "w4", "w0", "w3"]


async def test_waited_in_vain(dispatcher: Any, stubs: Any, rich: Any) -> None:
    await fill(stubs)
    for wanted in (0.3, 1.0):
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.submit(max_wait=seconds(wanted))
        took = time.monotonic() - began
        assert wanted <= took < wanted + LATE_SECONDS
        error = rich(caught.value)
        assert (error.code, error.reason) == (_Code.RESOURCE_EXHAUSTED, "ADMISSION_TIMEOUT")
        assert error.details["RetryInfo"].retry_delay.ToMilliseconds() > 0
        assert int(error.pushback_ms) > 0
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=POOL))
    assert len(listed.tasks) == BOUND
    assert not len(dispatcher.dispatcher.pump.callers)


async def test_many_who_wait_in_vain_are_all_answered_in_time(
    dispatcher: Any, stubs: Any, rich: Any
) -> None:
    await fill(stubs)

    async def one() -> float:
        began = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.submit(max_wait=seconds(0.5))
        assert rich(caught.value).reason == "ADMISSION_TIMEOUT"
        return time.monotonic() - began

    took = await asyncio.gather(*(one() for _ in range(20)))
    assert min(took) >= 0.5
    assert max(took) < 0.5 + 2 * LATE_SECONDS


async def test_no_more_wait_than_may(dispatcher: Any, stubs: Any, rich: Any) -> None:
    await fill(stubs)
    calls = await waiting(dispatcher, stubs, count=20)
    assert await refused([stubs.submit(max_wait=seconds(1))], rich) == {
        (_Code.RESOURCE_EXHAUSTED, "TOO_MANY_WAITERS")
    }
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_cancelled_call_leaves_nothing(dispatcher: Any, stubs: Any) -> None:
    await fill(stubs)
    calls = await waiting(dispatcher, stubs, count=5, task_id=lambda n: f"w{n}")
    pump = dispatcher.dispatcher.pump
    room = pump.registry.by_name[POOL].room
    for call in calls[:4]:
        call.cancel()
    await polling.until(lambda: len(room) == 1 and len(pump.callers) == 1, SECONDS_MAX)
    worker = await dispatcher.worker("pod-1", slots=BOUND)
    await worker.assigned(BOUND)
    assert (await calls[4]).name.endswith("/w4")
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=POOL))
    ids = [task.name.rpartition("/")[2] for task in listed.tasks]
    assert len(ids) == BOUND + 1
    assert not {"w0", "w1", "w2", "w3"} & set(ids)


async def test_a_call_whose_deadline_ends_first_leaves_nothing(dispatcher: Any, stubs: Any) -> None:
    await fill(stubs)
    request = task_service_pb2.SubmitTaskRequest(
        parent=POOL,
        task=task_pb2.Task(type="noop"),
        admission=task_service_pb2.SubmitTaskRequest.WAIT,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.tasks.SubmitTask(request, timeout=0.3)
    assert caught.value.code() is _Code.DEADLINE_EXCEEDED
    pump = dispatcher.dispatcher.pump
    await polling.until(
        lambda: not pump.registry.by_name[POOL].room and not len(pump.callers), SECONDS_MAX
    )


async def test_a_client_that_is_killed_leaves_nothing(dispatcher: Any, stubs: Any) -> None:
    await fill(stubs)
    pump = dispatcher.dispatcher.pump
    room = pump.registry.by_name[POOL].room
    program = (
        "import penstock, sys\n"
        "client = penstock.SyncClient(sys.argv[1], pool='demo')\n"
        "client.submit('noop', task_id='orphan', admission=penstock.Admission.WAIT, max_wait=60)\n"
    )
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", program, dispatcher.address)
    try:
        await polling.until(lambda: len(room) == 1, SECONDS_MAX)
    finally:
        client.kill()
        await client.wait()
    await polling.until(lambda: not room and not len(pump.callers), SECONDS_MAX)
    await (await dispatcher.worker("pod-1", slots=BOUND)).assigned(BOUND)
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=POOL))
    assert not [task for task in listed.tasks if task.name.endswith("/orphan")]


async def test_a_dispatcher_that_stops_answers_at_once(
    dispatcher: Any, stubs: Any, rich: Any
) -> None:
    await fill(stubs)
    calls = await waiting(dispatcher, stubs, count=5)
    began = time.monotonic()
    stopping = asyncio.ensure_future(dispatcher.stop())
    assert await refused(calls, rich) == {(_Code.UNAVAILABLE, "NOT_LEADER")}
    assert time.monotonic() - began < 1
    await stopping
    await dispatcher.start()
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=POOL))
    assert len(listed.tasks) == BOUND


async def test_a_pool_that_closes_answers_at_once(
    dispatcher: Any, stubs: Any, rich: Any, make_pool: Any
) -> None:
    await fill(stubs)
    calls = await waiting(dispatcher, stubs, count=2)
    operator = await stubs.sync(make_pool(uid="uid-another", max_pending=BOUND))
    assert await refused(calls, rich) == {(_Code.FAILED_PRECONDITION, "POOL_CLOSED")}
    operator.cancel()


async def test_the_same_request_waits_twice_and_is_one_task(dispatcher: Any, stubs: Any) -> None:
    await fill(stubs)
    calls = await waiting(dispatcher, stubs, count=3, request_id="r-1")
    await (await dispatcher.worker("pod-1", slots=1)).assigned(1)
    names = {(await call).name for call in calls}
    assert len(names) == 1
    again = await stubs.submit(request_id="r-1", max_wait=seconds(1))
    assert {again.name} == names
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=POOL))
    assert len(listed.tasks) == BOUND + 1


async def test_nobody_waits_in_a_batch_or_longer_than_the_pool_lets(stubs: Any, rich: Any) -> None:
    single = task_service_pb2.SubmitTaskRequest(
        task=task_pb2.Task(type="noop"), admission=task_service_pb2.SubmitTaskRequest.WAIT
    )
    plain = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"))
    batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[plain, single])
    answer = await stubs.tasks.BatchSubmitTasks(batch)
    assert answer.outcomes[0].HasField("response")
    error = rich(answer.outcomes[1].error)
    assert error.reason == "INVALID_FIELD"
    assert error.details["BadRequest"].field_violations[0].field == "admission"
    batch.atomic = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.tasks.BatchSubmitTasks(batch)
    violation = rich(caught.value).details["BadRequest"].field_violations[0]
    assert violation.field == "requests[1].admission"
    for wrong in (seconds(61), duration_pb2.Duration(seconds=-1)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.submit(max_wait=wrong)
        violation = rich(caught.value).details["BadRequest"].field_violations[0]
        assert (violation.field, "60 s" in violation.description) == ("max_wait", True)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.submit(max_wait=seconds(1), admission=0)
    assert rich(caught.value).reason == "INVALID_FIELD"


async def test_to_validate_never_waits(stubs: Any) -> None:
    await fill(stubs)
    began = time.monotonic()
    await stubs.submit(max_wait=seconds(30), validate_only=True)
    assert time.monotonic() - began < 5


async def test_who_waits_is_shown_as_a_metric(dispatcher: Any, stubs: Any) -> None:
    await fill(stubs)
    calls = await waiting(dispatcher, stubs, count=2)
    url = f"http://{dispatcher.dispatcher.http_address}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    assert 'penstock_pool_waiters{namespace="default",pool="demo"} 2.0' in text
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("somebody_works", [True, False])
async def test_a_full_disk_answers_who_waits(
    dispatcher: Any,
    stubs: Any,
    rich: Any,
    monkeypatch: pytest.MonkeyPatch,
    somebody_works: bool,
) -> None:
    await fill(stubs)
    calls = await waiting(dispatcher, stubs, count=2)
    monkeypatch.setattr(dispatcher.dispatcher.journal, "full", lambda: True)
    if somebody_works:  # else nothing happens in the pool
        await (await dispatcher.worker("pod-1", slots=1)).assigned(1)
    assert await refused(calls, rich) == {(_Code.UNAVAILABLE, "STORAGE")}


async def test_fifty_clients_who_wait_get_in_one_by_one(dispatcher: Any, make_pool: Any) -> None:
    """More callers than places, workers that drain: everybody gets in, nobody twice."""
    stubs = dispatcher.stubs()
    operator = await stubs.sync(make_pool(max_pending=BOUND, max_waiters=100, max_wait=60))
    worker = await dispatcher.worker("pod-1", slots=1)
    pool = dispatcher.dispatcher.pump.registry.by_name[POOL]
    calls = [asyncio.ensure_future(stubs.submit(max_wait=seconds(30))) for _ in range(50)]
    ran: list[str] = []
    while len(ran) < 50:
        for one in await worker.assigned(1):
            ran.append(one.task.name)
            assert pool.book.waiting <= BOUND
            await worker.succeed(one)
    names = [(await call).name for call in calls]
    assert sorted(names) == sorted(ran)
    operator.cancel()
