"""How to be refused by a dispatcher: for each reason, a way to meet it through a real channel."""

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio

from penstock.v1 import (
    fleet_service_pb2,
    pool_service_pb2,
    task_pb2,
    task_service_pb2,
    worker_service_pb2,
)
from penstock_dispatcher import limits, server
from rig import wire

POOL = wire.POOL
BIG = "namespaces/default/pools/big"
KEYED = "namespaces/default/pools/keyed"
SECONDS_PER_TASK = 100
QUEUE_SECONDS_MAX = 10
"""That a task of the keyed pool would wait at most: less than its rate lets it."""

CONFIGS = (
    wire.pool_config(max_pending=3, max_payload_bytes=100, max_waiters=1),
    wire.pool_config(
        KEYED,
        "uid-keyed",
        max_pending_per_key=1,
        slots_per_worker=2,
        rate_limit=(1, float(SECONDS_PER_TASK), 1),
    ),
)
"""Pools in which it does not take much."""

_Tasks = task_service_pb2


class World:
    """What a case may use: one dispatcher, or others that it makes."""

    def __init__(self, served: Any, serve: Any, folder: pathlib.Path) -> None:
        self.served, self.serve, self.folder = served, serve, folder
        self.stubs = served.stubs()
        self.stack = contextlib.AsyncExitStack()

    async def fill(self) -> None:
        """Leave no room."""
        for _ in range(3):
            await self.stubs.submit()


async def _until(holds: Callable[[], bool]) -> None:
    """Wait for something that nobody tells."""
    async with asyncio.timeout(10):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


# ------------------------------------------------------------ admission


async def queue_full(world: World) -> None:
    await world.fill()
    await world.stubs.submit()


async def too_many_waiters(world: World) -> None:
    await world.fill()
    waits = asyncio.ensure_future(world.stubs.submit(max_wait={"seconds": 8}))
    world.stack.callback(waits.cancel)
    room = world.served.dispatcher.pump.registry.by_name[POOL].room
    await _until(lambda: bool(room))
    await world.stubs.submit(max_wait={"seconds": 8})


async def admission_timeout(world: World) -> None:
    await world.fill()
    await world.stubs.submit(max_wait={"nanos": 10_000_000})


async def key_queue_full(world: World) -> None:
    for _ in range(2):
        await world.stubs.submit(parent=KEYED, fairness_key="tenant")


async def unschedulable(world: World) -> None:
    await world.stubs.submit(parent=KEYED, slots=3)


async def deadline_unreachable(world: World) -> None:
    """The only token is taken by a task that runs, and the next one comes too late."""
    worker = await world.served.worker("pod-1", pool=KEYED)
    await world.stubs.submit(parent=KEYED)
    await worker.assigned()
    request = _Tasks.SubmitTaskRequest(parent=KEYED, task=task_pb2.Task(type="noop"))
    request.max_queue_time.FromSeconds(QUEUE_SECONDS_MAX)
    await world.stubs.tasks.SubmitTask(request)


async def payload_too_large(world: World) -> None:
    await world.stubs.submit(payload=b"x" * 101)


async def invalid_field(world: World) -> None:
    await world.stubs.submit(type="", task_id="X")


async def task_exists(world: World) -> None:
    await world.stubs.submit(task_id="mine")
    await world.stubs.submit(task_id="mine")


async def request_id_reused(world: World) -> None:
    await world.stubs.submit(request_id="r")
    await world.stubs.submit(request_id="r", payload=b"other")


async def pool_closed(world: World) -> None:
    await world.stack.enter_async_context(operator(world))
    await world.stubs.submit()


async def draining(world: World) -> None:
    await world.stubs.pools.DrainPool(pool_service_pb2.DrainPoolRequest(name=POOL))
    await world.stubs.submit()


@contextlib.asynccontextmanager
async def operator(world: World) -> AsyncIterator[Any]:
    """One that knows of no pool: those that there were are closed."""
    call = await world.stubs.sync()
    try:
        yield call
    finally:
        call.cancel()


# ------------------------------------------------------------ what is there


async def pool_not_found(world: World) -> None:
    await world.stubs.submit(parent="namespaces/default/pools/none")


async def task_not_found(world: World) -> None:
    await world.stubs.get(f"{POOL}/tasks/none")


async def worker_not_found(world: World) -> None:
    request = pool_service_pb2.DrainWorkerRequest(name=f"{POOL}/workers/none")
    await world.stubs.pools.DrainWorker(request)


async def task_state(world: World) -> None:
    task = await world.stubs.submit(task_id="waits")
    await world.stubs.tasks.DeleteTask(_Tasks.DeleteTaskRequest(name=task.name))


async def etag_mismatch(world: World) -> None:
    task = await world.stubs.submit()
    await world.stubs.tasks.CancelTask(_Tasks.CancelTaskRequest(name=task.name, etag='"old"'))


async def worker_state(world: World) -> None:
    worker = await world.served.worker("pod-1")
    name = f"{POOL}/workers/pod-1"
    await world.stubs.pools.DrainWorker(pool_service_pb2.DrainWorkerRequest(name=name))
    drain = (await worker.read()).drain
    drained = worker_service_pb2.Drained(reservation_id=drain.reservation_id)
    await worker.send(drained=drained)
    table = world.served.dispatcher.pump.registry.by_name[POOL].fleet.workers
    await _until(lambda: bool(table.tombstones))
    await world.stubs.pools.UndrainWorker(pool_service_pb2.UndrainWorkerRequest(name=name))


# ------------------------------------------------------------ streams


async def too_many_streams(world: World) -> None:
    async def watch() -> Any:
        call = world.stubs.tasks.WatchTasks(_Tasks.WatchTasksRequest(parent=POOL))
        world.stack.callback(call.cancel)
        await call.initial_metadata()
        return call

    for _ in range(limits.LIMITS["WatchTasks"].per_caller):
        await watch()
    await (await watch()).read()


async def watch_too_slow(world: World) -> None:
    await world.stack.enter_async_context(big_pool(world))
    stubs = world.stubs
    watcher = world.served.stubs().tasks.WatchTasks(_Tasks.WatchTasksRequest(parent=BIG))
    await watcher.initial_metadata()
    labels = {f"key-{number}": "v" * 200 for number in range(20)}
    single = _Tasks.SubmitTaskRequest(task=task_pb2.Task(type="noop", labels=labels))
    for _ in range(4):
        batch = _Tasks.BatchSubmitTasksRequest(parent=BIG, requests=[single] * 500)
        await stubs.tasks.BatchSubmitTasks(batch)
    await _until(lambda: not world.served.dispatcher.pump.watches)
    async with asyncio.timeout(10):
        while await watcher.read() is not grpc.aio.EOF:
            pass


@contextlib.asynccontextmanager
async def big_pool(world: World) -> AsyncIterator[None]:
    """One more pool, with room for many tasks."""
    big = fleet_service_pb2.PoolConfig(name=BIG, uid="uid-big", generation=1)
    call = await world.stubs.sync(*world.served.pools, big)
    try:
        yield
    finally:
        call.cancel()


async def stale_session(world: World) -> None:
    first = await world.served.worker("pod-1")
    await world.served.worker("pod-2", session_id=first.session_id)


# ------------------------------------------------------------ the dispatcher


async def starting(world: World) -> None:
    """Its disk is slow: the journal is not open yet."""
    late = server.Dispatcher(server.Settings(listen="127.0.0.1:0"))
    slow, journal = asyncio.Event(), late.journal
    right = journal.open

    async def opened() -> Any:
        await slow.wait()
        return await right()

    journal.open = opened  # type: ignore[method-assign]
    start = asyncio.ensure_future(late.start())

    async def end() -> None:
        slow.set()
        await start
        await late.stop()

    world.stack.push_async_callback(end)
    await _until(lambda: not late.address.endswith(":0"))
    async with grpc.aio.insecure_channel(late.address) as channel:
        await type(world.stubs)(channel).submit()


async def not_leader(world: World) -> None:
    task = await world.stubs.submit()
    waiting = asyncio.ensure_future(world.stubs.wait(task.name, 30))
    await _until(lambda: bool(world.served.dispatcher.pump.waiters))
    await world.served.stop()
    world.stack.push_async_callback(world.served.start)
    await waiting


async def storage(world: World) -> None:
    """Its file has reached its bound, as on a full disk."""
    served = await world.stack.enter_async_context(
        world.serve(
            data=world.folder / "small",
            journal_pages_max=400,
            journal_reserve_bytes=400 * 1024,
        )
    )
    stubs = served.stubs()
    for _ in range(100):
        await stubs.submit(payload=b"x" * 100_000)


async def _with_token(world: World, token: str) -> None:
    policy = world.folder / "auth.json"
    known = {"name": "elsewhere", "role": "submit", "namespaces": ["x"], "token": "t-x"}
    policy.write_text(json.dumps({"clients": "token", "tokens": [known]}))
    served = await world.stack.enter_async_context(
        world.serve(data=world.folder / "guarded", auth_file=policy)
    )
    metadata = (("authorization", f"Bearer {token}"),)
    request = _Tasks.SubmitTaskRequest(parent=POOL, task=task_pb2.Task(type="noop"))
    await served.stubs().tasks.SubmitTask(request, metadata=metadata)


async def unauthenticated(world: World) -> None:
    await _with_token(world, "t-none")


async def permission_denied(world: World) -> None:
    await _with_token(world, "t-x")
