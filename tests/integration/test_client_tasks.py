"""The asynchronous client against a real dispatcher: one task's life, refusals, looking around."""

import asyncio
import contextlib
import datetime as dt
import pathlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import penstock
from penstock import errors

POOL = "namespaces/default/pools/demo"


@pytest_asyncio.fixture
async def client(dispatcher: Any) -> AsyncIterator[penstock.Client]:
    async with penstock.Client(dispatcher.address, pool="demo", timeout=10) as made:
        yield made


@pytest.fixture
def pools(make_pool: Callable[..., Any]) -> list[Any]:
    return [
        make_pool(),
        make_pool("namespaces/default/pools/small", "uid-small", max_pending=2, max_waiters=1),
        make_pool("namespaces/other/pools/third", "uid-third", max_payload_bytes=10),
    ]


async def test_submit_get_wait_result(dispatcher: Any, client: penstock.Client) -> None:
    task = await client.submit(
        "echo",
        penstock.json_payload({"n": 1}),
        labels={"a": "b"},
        priority=-3,
        execution_timeout=30,
        trace_context={"traceparent": "00-x"},
    )
    assert task.name == f"{POOL}/tasks/{task.id}"
    assert task.pool == POOL
    assert task.state is penstock.TaskState.PENDING
    assert task.create_time is not None
    assert abs((dt.datetime.now(dt.UTC) - task.create_time).total_seconds()) < 10

    found = await client.get(task.id)
    assert found.payload == b'{"n":1}'
    assert (found.priority, found.labels, found.type) == (-3, {"a": "b"}, "echo")
    assert found.content_type == "application/json"
    assert found.execution_timeout_seconds == 30

    waiting = asyncio.create_task(client.result(task, timeout=10))
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    running = await client.get(task)
    assert (running.state, running.worker) == (penstock.TaskState.RUNNING, "pod-1")
    await worker.succeed(one, result=b'{"m":2}')
    assert await waiting == b'{"m":2}'

    over = await client.wait(task.name, timeout=0)
    assert over.succeeded
    assert over.result_json() == {"m": 2}
    assert over.attempt == 1
    assert over.start_time is not None
    assert over.end_time is not None
    assert over.end_time >= over.start_time


async def test_a_failed_task_raises_its_failure(dispatcher: Any, client: penstock.Client) -> None:
    task = await client.submit("echo", retry_policy=penstock.RetryPolicy(max_attempts=1))
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    await worker.fail(one, reason="ZeroDivisionError")
    with pytest.raises(penstock.TaskFailed, match="ZeroDivisionError: no good") as raised:
        await client.result(task, timeout=10)
    assert raised.value.reason == "ZeroDivisionError"
    assert raised.value.task is not None
    assert raised.value.task.error == penstock.TaskFailure(2, "ZeroDivisionError", "no good")
    assert raised.value.task.state is penstock.TaskState.FAILED


async def test_a_dead_lettered_task_is_a_failed_one(
    dispatcher: Any, client: penstock.Client
) -> None:
    policy = penstock.RetryPolicy(max_attempts=3, non_retryable_reasons=["KeyError"])
    task = await client.submit("echo", retry_policy=policy)
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    await worker.fail(one, reason="KeyError")
    with pytest.raises(errors.TaskDeadLettered):
        await client.result(task, timeout=10)


async def test_waiting_ends_when_its_time_does(client: penstock.Client) -> None:
    task = await client.submit("echo")
    started = time.monotonic()
    with pytest.raises(penstock.WaitTimeout, match="it is PENDING") as raised:
        await client.wait(task, timeout=0.3)
    assert 0.25 < time.monotonic() - started < 3
    assert raised.value.task is not None
    assert raised.value.task.name == task.name
    with pytest.raises(TimeoutError):
        await client.result(task, timeout=0)


async def test_a_pending_task_is_cancelled_at_once_and_twice(client: penstock.Client) -> None:
    task = await client.submit("echo")
    assert (await client.cancel(task)).state is penstock.TaskState.CANCELLED
    assert (await client.cancel(task)).state is penstock.TaskState.CANCELLED
    with pytest.raises(errors.TaskCancelled):
        await client.result(task)


async def test_a_task_that_is_over_cannot_be_cancelled(
    dispatcher: Any, client: penstock.Client
) -> None:
    task = await client.submit("echo")
    worker = await dispatcher.worker("pod-1")
    await worker.succeed(*await worker.assigned())
    await client.wait(task, timeout=10)
    with pytest.raises(errors.WrongTaskState):
        await client.cancel(task)


async def test_a_full_pool_is_told_at_once_with_a_delay(client: penstock.Client) -> None:
    for _ in range(2):
        await client.submit("echo", pool="small")
    started = time.monotonic()
    with pytest.raises(penstock.QueueFull) as raised:
        await client.submit("echo", pool="small")
    assert time.monotonic() - started < 2
    assert raised.value.retry_after_seconds is not None
    assert raised.value.retry_after_seconds > 0
    assert raised.value.reason == "QUEUE_FULL"
    assert [each.subject for each in raised.value.violations] == ["namespaces/default/pools/small"]


async def test_retry_gets_in_when_there_is_room(dispatcher: Any, client: penstock.Client) -> None:
    first, _ = [await client.submit("echo", pool="small") for _ in range(2)]
    late = asyncio.create_task(
        client.submit("late", pool="small", retry=penstock.Retry(max_elapsed_seconds=30))
    )
    await asyncio.sleep(0.2)
    assert not late.done()
    await client.cancel(first)
    task = await late
    assert task.type == "late"


async def test_who_waits_gets_in_when_there_is_room(client: penstock.Client) -> None:
    first, _ = [await client.submit("echo", pool="small") for _ in range(2)]
    late = asyncio.create_task(
        client.submit("late", pool="small", admission=penstock.Admission.WAIT)
    )
    async with asyncio.timeout(10):
        while not (await client.pool("small")).waiters:
            await asyncio.sleep(0.01)
    await client.cancel(first)
    assert (await late).type == "late"
    assert (await client.pool("small")).waiters == 0


async def test_who_waits_in_vain_is_told_so(client: penstock.Client) -> None:
    for _ in range(2):
        await client.submit("echo", pool="small")
    started = time.monotonic()
    with pytest.raises(penstock.AdmissionTimeout) as raised:
        await client.submit("late", pool="small", admission=penstock.Admission.WAIT, max_wait=0.5)
    assert 0.5 <= time.monotonic() - started < 2
    assert raised.value.retry_after_seconds
    with pytest.raises(errors.InvalidField, match="max_wait"):
        await client.submit("late", pool="small", admission=penstock.Admission.WAIT, max_wait=31)


async def test_too_many_wait(client: penstock.Client) -> None:
    for _ in range(2):
        await client.submit("echo", pool="small")
    waiting = asyncio.create_task(
        client.submit("late", pool="small", admission=penstock.Admission.WAIT)
    )
    async with asyncio.timeout(10):
        while not (await client.pool("small")).waiters:
            await asyncio.sleep(0.01)
    with pytest.raises(penstock.TooManyWaiters):
        await client.submit("later", pool="small", admission=penstock.Admission.WAIT)
    waiting.cancel()


async def test_a_watch_goes_on_through_a_restart(dispatcher: Any, client: penstock.Client) -> None:
    seen: list[penstock.TaskChange] = []

    async def watch() -> None:
        async with contextlib.aclosing(client.watch(labels={"a": "b"})) as changes:
            async for change in changes:
                seen.append(change)  # noqa: PERF401 - it is looked at meanwhile

    async def until(task: penstock.Task) -> None:
        async with asyncio.timeout(10):
            while not any(change.task.name == task.name for change in seen):
                await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(10):
        while not dispatcher.dispatcher.pump.watches:
            await asyncio.sleep(0.01)
    await client.submit("echo")
    await until(await client.submit("echo", labels={"a": "b"}))
    await dispatcher.restart()
    await until(await client.submit("echo", labels={"a": "b"}))
    assert all(change.task.labels == {"a": "b"} for change in seen)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    async with asyncio.timeout(10):
        while dispatcher.dispatcher.pump.watches:
            await asyncio.sleep(0.01)


async def test_a_drain_ends_when_it_is_taken_back(client: penstock.Client) -> None:
    await client.submit("echo")
    waiting = asyncio.create_task(client.drain(max_wait=None))
    async with asyncio.timeout(10):
        while (await client.pool()).state is not penstock.PoolState.DRAINING:
            await asyncio.sleep(0.01)
    await client.undrain()
    found = await waiting
    assert (found.state, found.drained) == (penstock.PoolState.RUNNING, False)


async def test_the_same_request_id_is_the_same_task(client: penstock.Client) -> None:
    first = await client.submit("echo", b"x", request_id="r-1")
    again = await client.submit("echo", b"x", request_id="r-1")
    assert again.name == first.name
    with pytest.raises(errors.RequestIdReused):
        await client.submit("echo", b"y", request_id="r-1")
    assert (await client.pool()).accepted_total == 1


async def test_the_same_request_id_with_a_delay_is_the_same_task(client: penstock.Client) -> None:
    nightly = penstock.Submission("echo", b"x", request_id="nightly-1", delay=60)
    first, again = [outcome async for outcome in client.submit_many([nightly, nightly])]
    assert (first.ok, again.ok, again.name) == (True, True, first.name)
    assert again.deduplicated
    late = await client.submit("echo", b"x", request_id="nightly-1", delay=90)
    assert (late.name, late.schedule_time) == (first.name, first.task.schedule_time)
    with pytest.raises(errors.RequestIdReused):
        await client.submit("echo", b"y", request_id="nightly-1", delay=60)


async def test_refusals_are_told_apart(client: penstock.Client) -> None:
    await client.submit("echo", task_id="mine")
    with pytest.raises(errors.TaskExists):
        await client.submit("echo", task_id="mine")
    with pytest.raises(errors.PoolNotFound):
        await client.submit("echo", pool="nowhere")
    with pytest.raises(errors.TaskNotFound):
        await client.get("nothing")
    with pytest.raises(errors.PayloadTooLarge):
        await client.submit("echo", b"x" * 11, pool="other/third")
    with pytest.raises(errors.InvalidField) as raised:
        await client.submit("", labels={"": "x"})
    assert {each.subject for each in raised.value.violations} == {"task.type", "task.labels"}


async def test_validate_only_leaves_nothing(client: penstock.Client) -> None:
    await client.submit("echo", validate_only=True)
    assert (await client.pool()).pending == 0


async def test_a_delayed_task_is_delayed(client: penstock.Client) -> None:
    task = await client.submit("echo", delay=60)
    assert task.state is penstock.TaskState.DELAYED
    assert task.schedule_time is not None
    assert 50 < (task.schedule_time - dt.datetime.now(dt.UTC)).total_seconds() <= 60


async def test_lists_are_filtered_and_paged(client: penstock.Client) -> None:
    for number in range(7):
        await client.submit(f"t{number % 2}", labels={"n": str(number)}, priority=number)
    assert [task.priority async for task in client.list(page_size=2)] == list(range(7))
    assert [task.priority async for task in client.list(task_type="t1")] == [1, 3, 5]
    assert [task.priority async for task in client.list(labels={"n": "4"})] == [4]
    assert [task.priority async for task in client.list(priority=2)] == [2]
    none = client.list(state=penstock.TaskState.RUNNING)
    assert [task async for task in none] == []


async def test_pools_and_workers(dispatcher: Any, client: penstock.Client) -> None:
    await dispatcher.worker("pod-1", slots=3)
    await client.submit("echo", pool="small", priority=7)
    assert [pool.name async for pool in client.pools()] == [
        "namespaces/default/pools/demo",
        "namespaces/default/pools/small",
        "namespaces/other/pools/third",
    ]
    assert [pool.id async for pool in client.pools("other")] == ["third"]
    small = await client.pool("small")
    assert small.state is penstock.PoolState.RUNNING
    assert (small.pending, small.max_pending, small.pending_by_priority) == (1, 2, {7: 1})
    assert small.oldest_pending_time is not None
    demo = await client.pool()
    assert (demo.slots_total, demo.slots_used) == (3, 0)
    (worker,) = [each async for each in client.workers()]
    assert (worker.id, worker.pool, worker.slots_total) == ("pod-1", POOL, 3)
    assert worker.state is penstock.WorkerState.READY
    assert worker.pod_uid == "uid-pod-1"
    assert worker.connect_time is not None


async def test_tokens_are_sent_and_refusals_of_them_told(
    serve: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "auth.json").write_text(
        '{"clients": "token", "tokens": ['
        '{"name": "c", "role": "submit", "namespaces": ["other"], "token": "elsewhere"},'
        '{"name": "d", "role": "submit", "token": "everywhere"}]}'
    )
    token_file = tmp_path / "token"
    token_file.write_text("everywhere\n")
    async with serve(auth_file=tmp_path / "auth.json") as served:
        async with penstock.Client(served.address, pool="demo", token_file=token_file) as client:
            assert (await client.submit("echo")).name
        async with penstock.Client(served.address, pool="demo", token="guessed") as client:
            with pytest.raises(errors.Unauthenticated):
                await client.submit("echo")
        async with penstock.Client(served.address, pool="demo", token="elsewhere") as client:
            with pytest.raises(errors.PermissionDenied):
                await client.submit("echo")


async def test_nobody_there_is_unavailable_after_the_time_out() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        async with penstock.Client(address, pool="demo", timeout=0.7) as client:
            started = time.monotonic()
            with pytest.raises(errors.Unavailable):
                await client.submit("echo")
            assert 0.3 < time.monotonic() - started < 5
            with pytest.raises(errors.Unavailable):
                await client.wait("t-1", timeout=60)


async def test_a_closed_client_stays_closed(dispatcher: Any) -> None:
    client = penstock.Client(dispatcher.address, pool="demo")
    await client.submit("echo")
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.submit("echo")


async def test_our_own_cancellation_stays_one(client: penstock.Client) -> None:
    task = await client.submit("echo")
    waiting = asyncio.create_task(client.wait(task))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.wait(task)
