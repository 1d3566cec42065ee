"""Every row of docs/reference/errors.md, produced by a dispatcher and read from a real channel.

The page says code and whether to come again; what else a refusal carries stands with its case. A
row or a reason that no case produces fails the last test.
"""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from penstock.v1 import (
    fleet_service_pb2,
    pool_service_pb2,
    task_pb2,
    task_service_pb2,
    worker_service_pb2,
)
from penstock_dispatcher import errors, limits, server

POOL = "namespaces/default/pools/demo"
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "reference" / "errors.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \| `(\w+)` \| .* \| (yes|no|your choice) \| .* \|$")
KEYED = "namespaces/default/pools/keyed"
SECONDS_PER_TASK = 100
QUEUE_SECONDS_MAX = 10
"""That a task of the keyed pool would wait at most: less than its rate lets it."""

_Tasks = task_service_pb2


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the page."""

    code: grpc.StatusCode
    again: str


def rows() -> dict[str, Row]:
    """The page's table."""
    found = (ROW.match(line) for line in PAGE.read_text().splitlines())
    return {each[1]: Row(grpc.StatusCode[each[2]], each[4]) for each in found if each}


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


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [
        make_pool(max_pending=3, max_payload_bytes=100, max_waiters=1),
        make_pool(
            name=KEYED,
            uid="uid-keyed",
            max_pending_per_key=1,
            slots_per_worker=2,
            rate_limit=(1, float(SECONDS_PER_TASK), 1),
        ),
    ]


@pytest_asyncio.fixture
async def world(dispatcher: Any, serve: Any, tmp_path: pathlib.Path) -> AsyncIterator[World]:
    made = World(dispatcher, serve, tmp_path)
    async with made.stack:
        yield made


# ------------------------------------------------------------ admission


async def queue_full(world: World) -> None:
    await world.fill()
    await world.stubs.submit()


async def too_many_waiters(world: World) -> None:
    await world.fill()
    waits = asyncio.ensure_future(world.stubs.submit(max_wait={"seconds": 8}))
    world.stack.callback(waits.cancel)
    room = world.served.dispatcher.pump.registry.by_name[POOL].room
    async with asyncio.timeout(10):
        while not room:
            await asyncio.sleep(0.01)
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
    async with asyncio.timeout(10):
        while not table.tombstones:
            await asyncio.sleep(0.01)
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
    async with asyncio.timeout(10):
        while world.served.dispatcher.pump.watches:
            await asyncio.sleep(0.01)
        while await watcher.read() is not grpc.aio.EOF:
            pass


BIG = "namespaces/default/pools/big"


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
    async with asyncio.timeout(10):
        while late.address.endswith(":0"):
            await asyncio.sleep(0.01)
    async with grpc.aio.insecure_channel(late.address) as channel:
        await type(world.stubs)(channel).submit()


async def not_leader(world: World) -> None:
    task = await world.stubs.submit()
    waiting = asyncio.ensure_future(world.stubs.wait(task.name, 30))
    async with asyncio.timeout(10):
        while not world.served.dispatcher.pump.waiters:
            await asyncio.sleep(0.01)
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


# ------------------------------------------------------------ the table

Details = dict[str, Any]
CASES: dict[str, tuple[Callable[[World], Awaitable[None]], Details]] = {
    "QUEUE_FULL": (queue_full, {"QuotaFailure": POOL}),
    "TOO_MANY_WAITERS": (too_many_waiters, {}),
    "ADMISSION_TIMEOUT": (admission_timeout, {}),
    "KEY_QUEUE_FULL": (key_queue_full, {"QuotaFailure": "tenant"}),
    "DEADLINE_UNREACHABLE": (deadline_unreachable, {"ErrorInfo": ["estimated_wait"]}),
    "TOO_MANY_STREAMS": (too_many_streams, {}),
    "WATCH_TOO_SLOW": (watch_too_slow, {}),
    "PAYLOAD_TOO_LARGE": (payload_too_large, {"BadRequest": ["task.payload"]}),
    "INVALID_FIELD": (invalid_field, {"BadRequest": ["task.type", "task_id"]}),
    "POOL_NOT_FOUND": (
        pool_not_found,
        {"ResourceInfo": ("penstock.dev/Pool", "namespaces/default/pools/none")},
    ),
    "TASK_NOT_FOUND": (
        task_not_found,
        {"ResourceInfo": ("penstock.dev/Task", f"{POOL}/tasks/none")},
    ),
    "WORKER_NOT_FOUND": (
        worker_not_found,
        {"ResourceInfo": ("penstock.dev/Worker", f"{POOL}/workers/none")},
    ),
    "TASK_EXISTS": (task_exists, {"ResourceInfo": ("penstock.dev/Task", f"{POOL}/tasks/mine")}),
    "REQUEST_ID_REUSED": (request_id_reused, {}),
    "TASK_STATE": (task_state, {"PreconditionFailure": ("TASK_STATE", f"{POOL}/tasks/waits")}),
    "WORKER_STATE": (
        worker_state,
        {"PreconditionFailure": ("WORKER_STATE", f"{POOL}/workers/pod-1")},
    ),
    "UNSCHEDULABLE": (unschedulable, {"PreconditionFailure": ("UNSCHEDULABLE", KEYED)}),
    "POOL_CLOSED": (pool_closed, {"PreconditionFailure": ("POOL_CLOSED", POOL)}),
    "ETAG_MISMATCH": (etag_mismatch, {}),
    "STARTING": (starting, {}),
    "NOT_LEADER": (not_leader, {}),
    "DRAINING": (draining, {}),
    "STORAGE": (storage, {}),
    "UNAUTHENTICATED": (unauthenticated, {}),
    "PERMISSION_DENIED": (permission_denied, {}),
    "STALE_SESSION": (stale_session, {}),
}


def told(details: Details) -> Details:
    """What the details say, without the texts for people."""
    found: Details = {}
    for name, detail in details.items():
        match name:
            case "ErrorInfo" if detail.metadata:
                found[name] = sorted(detail.metadata)
            case "QuotaFailure":
                (violation,) = detail.violations
                found[name] = violation.subject
            case "BadRequest":
                found[name] = [bad.field for bad in detail.field_violations]
            case "ResourceInfo":
                found[name] = (detail.resource_type, detail.resource_name)
            case "PreconditionFailure":
                (violation,) = detail.violations
                found[name] = (violation.type, violation.subject)
    return found


@pytest.mark.parametrize("reason", CASES)
async def test_a_row_as_it_travels(reason: str, world: World, rich: Any) -> None:
    provoke, details = CASES[reason]
    row = rows()[reason]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await provoke(world)
    error = rich(caught.value)
    assert (error.code, error.reason) == (row.code, reason)
    assert error.details["ErrorInfo"].domain == "penstock.dev"
    assert error.message == caught.value.details(), "one text, in the status and in the details"
    assert error.message
    assert told(error.details) == details
    if row.again == "no":
        assert "RetryInfo" not in error.details
        assert error.pushback_ms == "-1"
        return
    delay_ms = error.details["RetryInfo"].retry_delay.ToNanoseconds() / 1e6
    assert 0 <= int(error.pushback_ms) - delay_ms < 1, "the same delay, rounded up"
    if row.again == "yes":
        assert 50 <= delay_ms <= 30_000
    else:
        wait = float(error.details["ErrorInfo"].metadata["estimated_wait"].removesuffix("s"))
        assert QUEUE_SECONDS_MAX < wait <= SECONDS_PER_TASK
        assert delay_ms / 1e3 == pytest.approx(wait - QUEUE_SECONDS_MAX, abs=0.01), "the excess"


def test_no_row_is_left_out() -> None:
    named = set(rows())
    assert named == set(CASES)
    assert {reason.name for reason in errors.Reason} <= named
