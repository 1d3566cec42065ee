"""Ten thousand connects, most of them broken off: nothing of them is left in the dispatcher."""

import asyncio
import collections
import contextlib
import gc
import random
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import task_pb2, task_service_pb2, worker_service_pb2
from penstock_dispatcher.journal import sqlite
from rig import dispatchers, figures, wire

CONNECTS = 10_000
WARM_UP_CONNECTS = 3_000
CALLS_PER_CHANNEL = 25
CHANNELS_AT_A_TIME = 8
GROWTH_BYTES_MAX = 4 * figures.MIB
"""0.4 KiB a connect: a session, a future or a call that stays is more than that."""
DESCRIPTORS_MAX = 2
"""More than before: those of our own questions for metrics come and go."""
THREADS_MAX = 1
"""More than before: one more was seen now and then, however many had connected."""
SETTLE_SECONDS_MAX = 30.0
_Use = Callable[[wire.Stubs, int], Awaitable[None]]


async def a_worker_that_says_goodbye(stubs: wire.Stubs, number: int) -> None:
    worker = await wire.RawWorker(stubs, pod=f"pod-{number}").connect(credit=0)
    await worker.send(goodbye=worker_service_pb2.Goodbye())
    await worker.call.done_writing()
    with contextlib.suppress(EOFError):
        await worker.read()
    worker.vanish()


async def a_worker_that_vanishes(stubs: wire.Stubs, number: int) -> None:
    worker = await wire.RawWorker(stubs, pod=f"pod-{number}").connect(credit=0)
    worker.vanish()


async def a_worker_that_never_says_hello(stubs: wire.Stubs, number: int) -> None:
    call = stubs.work.Work()
    await call.wait_for_connection()
    call.cancel()


async def a_watcher(stubs: wire.Stubs, number: int) -> None:
    call = stubs.tasks.WatchTasks(task_service_pb2.WatchTasksRequest(parent=wire.POOL))
    await call.initial_metadata()
    call.cancel()


async def a_waiter(stubs: wire.Stubs, number: int) -> None:
    task = await stubs.submit()
    call = stubs.tasks.WaitTask(task_service_pb2.WaitTaskRequest(name=task.name))
    await call.wait_for_connection()
    await asyncio.sleep(random.uniform(0, 0.02))
    call.cancel()


async def a_submit_stream(stubs: wire.Stubs, number: int) -> None:
    request = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop", payload=b"x"))
    batch = task_service_pb2.BatchSubmitTasksRequest(parent=wire.POOL, requests=[request] * 3)
    call = stubs.tasks.StreamSubmitTasks()
    await call.write(batch)
    if number % 2:
        await call.read()
    await call.write(batch)
    call.cancel()


USES: tuple[_Use, ...] = (
    a_worker_that_says_goodbye,
    a_worker_that_vanishes,
    a_worker_that_never_says_hello,
    a_watcher,
    a_waiter,
    a_submit_stream,
)


async def connect(address: str, count: int, *, first: int) -> None:
    """So many calls, over channels that end with calls open."""
    numbers = iter(range(first, first + count))

    async def one(stubs: wire.Stubs, number: int) -> None:
        try:
            await USES[number % len(USES)](stubs, number)
        except (asyncio.CancelledError, asyncio.InvalidStateError):
            pass  # it was cut off while it was under way
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                raise

    async def channels() -> None:
        while mine := [
            number for number, _ in zip(numbers, range(CALLS_PER_CHANNEL), strict=False)
        ]:
            async with grpc.aio.insecure_channel(
                address, options=dispatchers.CHANNEL_OPTIONS
            ) as channel:
                stubs = wire.Stubs(channel)
                await asyncio.gather(*(one(stubs, number) for number in mine))

    await asyncio.gather(*(channels() for _ in range(CHANNELS_AT_A_TIME)))


CONFIG = wire.pool_config(
    ttl=3,
    result_retention=0.2,
    lease_duration=2,
    heartbeat_interval=0.5,
    reconnect_grace=0.5,
    max_pending=100_000,
)
"""Sessions and tasks of calls that broke off are forgotten within seconds."""


def ours() -> collections.Counter[str]:
    """Objects of the dispatcher's own types, and what tasks and futures there are, by type."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    return collections.Counter(
        f"{kind.__module__}.{kind.__qualname__}"
        for kind in kinds
        if str(kind.__module__).startswith("penstock_dispatcher.")
        or issubclass(kind, asyncio.Future)
    )


async def test_nothing_of_ours_is_kept(serve: Any) -> None:
    async with serve(pools=[CONFIG], http="127.0.0.1:0") as served:
        (pool,) = served.dispatcher.pump.registry.by_uid.values()

        async def settled() -> collections.Counter[str]:
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                await served.dispatcher.calls.none_open()
                while pool.book.tasks or len(pool.fleet.workers):
                    await asyncio.sleep(0.1)
            # With no operator who asks, changed sessions are kept until there are too many.
            pool.demand(served.dispatcher.pump.now())
            await asyncio.sleep(0.2)
            return ours()

        await connect(served.address, 120, first=0)
        before = await settled()
        await connect(served.address, 600, first=120)
        grown = {kind: count for kind, count in ((await settled()) - before).items() if count > 5}
        assert grown == {}


@pytest.mark.timeout(420)
async def test_ten_thousand_connects_leave_nothing(
    dispatcher_process: dispatchers.DispatcherProcess,
) -> None:
    dispatcher_process.configure(CONFIG)
    assert dispatcher_process.process is not None
    pid, http = dispatcher_process.process.pid, dispatcher_process.http_address

    async def settled(base: figures.Figures | None = None) -> figures.Figures:
        most = base.descriptors + DESCRIPTORS_MAX if base else 1_000
        found = await figures.settle(
            pid,
            http,
            lambda now: now.open_calls == 0 and now.descriptors <= most,
            seconds=SETTLE_SECONDS_MAX,
        )
        kept = ("pending", "in_flight", "workers")
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while True:
                now = await asyncio.to_thread(figures.metrics, http)
                if not any(now[f"penstock_pool_{name}"] for name in kept):
                    break
                await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)  # retention of the last ones
        return found._replace(memory_bytes=figures.memory_bytes(pid))

    # What the allocator and gRPC keep for next time is there after some thousands.
    await connect(dispatcher_process.address, WARM_UP_CONNECTS, first=0)
    before = await settled()
    await connect(dispatcher_process.address, CONNECTS, first=WARM_UP_CONNECTS)
    after = await settled(before)
    print(f"before: {before}\nafter:  {after}")
    assert after.open_calls == 0
    assert after.descriptors <= before.descriptors + DESCRIPTORS_MAX
    assert after.threads <= before.threads + THREADS_MAX
    assert after.memory_bytes - before.memory_bytes < GROWTH_BYTES_MAX
    # On disk neither.
    assert dispatcher_process.terminate() == 0
    connection = sqlite3.connect(dispatcher_process.folder / "data" / sqlite.FILE_NAME)
    for table in ("sessions", "drained", "tasks", "changes", "requests"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    connection.close()
