"""Limits on calls that last, through real channels: one caller too many is told what to do, and
the others do not notice.
"""

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2
from penstock_dispatcher import limits
from rig import dispatchers, wire

PER_CALLER = 3
TOKENS = {
    "team-a": "submit",
    "team-b": "submit",
    "admin-a": "admin",
    "fleet-a": "work",
    "operator": "fleet",
}
UNARY = ("WaitTask", "DrainPool")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for method, limit in limits.LIMITS.items():
        monkeypatch.setitem(limits.LIMITS, method, limit._replace(per_caller=PER_CALLER))


@pytest_asyncio.fixture
async def served(serve: Any, tmp_path: pathlib.Path) -> AsyncIterator[dispatchers.Served]:
    tokens = [{"name": name, "role": role, "token": name} for name, role in TOKENS.items()]
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"tokens": tokens}))
    async with serve(auth_file=file) as made:
        yield made


def calls_of(stubs: wire.Stubs, method: str, token: str, task: str) -> Any:
    metadata = (("authorization", f"Bearer {token}"),)
    match method:
        case "WaitTask":
            request = task_service_pb2.WaitTaskRequest(name=task)
            return stubs.tasks.WaitTask(request, metadata=metadata)
        case "DrainPool":
            drain = pool_service_pb2.DrainPoolRequest(name=wire.POOL)
            drain.timeout.FromSeconds(60)
            return stubs.pools.DrainPool(drain, metadata=metadata)
        case "WatchTasks":
            watch = task_service_pb2.WatchTasksRequest(parent=wire.POOL)
            return stubs.tasks.WatchTasks(watch, metadata=metadata)
        case "StreamSubmitTasks":
            return stubs.tasks.StreamSubmitTasks(metadata=metadata)
        case "Work":
            return stubs.work.Work(metadata=metadata)
    assert method == "SyncPools"
    return stubs.fleet.SyncPools(metadata=metadata)


async def open_calls(served: dispatchers.Served, method: str, count: int) -> None:
    async with asyncio.timeout(10):
        while served.dispatcher.calls.open[method] != count:
            await asyncio.sleep(0.01)


async def submitted(stubs: wire.Stubs) -> str:
    request = task_service_pb2.SubmitTaskRequest(parent=wire.POOL, task=task_pb2.Task(type="noop"))
    metadata = (("authorization", "Bearer team-a"),)
    return str((await stubs.tasks.SubmitTask(request, metadata=metadata)).task.name)


@pytest.mark.parametrize(
    ("method", "token", "remedy"),
    [
        ("WaitTask", "team-a", "watch the pool instead"),
        ("DrainPool", "admin-a", "wait once for each pool"),
        ("WatchTasks", "team-a", "watch a whole pool over one stream"),
        ("StreamSubmitTasks", "team-a", "send more tasks over each stream"),
        ("Work", "fleet-a", "give workers more slots"),
        ("SyncPools", "operator", "run one operator"),
    ],
)
async def test_one_too_many_is_told_what_to_do(
    served: dispatchers.Served, rich: Any, method: str, token: str, remedy: str
) -> None:
    stubs = served.stubs()
    task = await submitted(stubs)
    calls = [calls_of(stubs, method, token, task) for _ in range(PER_CALLER)]
    await open_calls(served, method, PER_CALLER)
    # Over another connection: the limit is the caller's.
    one_more = calls_of(served.stubs(), method, token, task)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await (one_more if method in UNARY else one_more.read())
    refused = rich(error.value)
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.reason == "TOO_MANY_STREAMS"
    assert f"{token} has {PER_CALLER} " in refused.message
    assert remedy in refused.message
    assert int(refused.pushback_ms) == limits.RETRY_AFTER_NS // 10**6
    if method in ("WaitTask", "WatchTasks", "StreamSubmitTasks"):
        other = calls_of(stubs, method, "team-b", task)
        await open_calls(served, method, PER_CALLER + 1)
        other.cancel()
        await open_calls(served, method, PER_CALLER)
    # One that ends makes room.
    calls.pop().cancel()
    await open_calls(served, method, PER_CALLER - 1)
    calls.append(calls_of(stubs, method, token, task))
    await open_calls(served, method, PER_CALLER)
    for call in calls:
        call.cancel()
    await open_calls(served, method, 0)


async def test_without_tokens_a_caller_is_a_host(serve: Any, rich: Any) -> None:
    async with serve() as served:
        task = (await served.stubs().submit()).name
        calls = [calls_of(served.stubs(), "WaitTask", "", task) for _ in range(PER_CALLER)]
        await open_calls(served, "WaitTask", PER_CALLER)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await calls_of(served.stubs(), "WaitTask", "", task)
        assert "ipv4:127.0.0.1 has" in rich(error.value).message
        for call in calls:
            call.cancel()
