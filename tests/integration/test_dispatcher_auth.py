"""Tokens and roles, through a real server."""

import asyncio
import contextlib
import json
import pathlib
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from penstock.v1 import (
    fleet_service_pb2,
    pool_service_pb2,
    task_pb2,
    task_service_pb2,
    worker_service_pb2,
)

POOL = "namespaces/default/pools/demo"
POLICY: dict[str, Any] = {
    "clients": "token",
    "tokens": [
        {"name": "operator", "role": "fleet", "token": "t-fleet"},
        {"name": "worker", "role": "work", "namespaces": ["default"], "token": "t-work"},
        {"name": "foreign worker", "role": "work", "namespaces": ["x"], "token": "t-work-x"},
        {"name": "client", "role": "submit", "namespaces": ["*"], "token": "t-submit"},
        {"name": "foreign client", "role": "submit", "namespaces": ["x"], "token": "t-submit-x"},
        {"name": "admin", "role": "admin", "token": "t-admin"},
    ],
}
EVERY_TOKEN = ("", "t-fleet", "t-work", "t-submit", "t-admin", "t-none")
_Code = grpc.StatusCode


def write(path: pathlib.Path, policy: Any) -> None:
    path.write_text(policy if isinstance(policy, str) else json.dumps(policy))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


async def submit(stubs: Any, token: str) -> None:
    request = task_service_pb2.SubmitTaskRequest(parent=POOL, task=task_pb2.Task(type="noop"))
    await stubs.tasks.SubmitTask(request, metadata=bearer(token))


async def stream_submit(stubs: Any, token: str) -> None:
    call = stubs.tasks.StreamSubmitTasks(metadata=bearer(token))
    await call.done_writing()
    await call.read()


async def read_pool(stubs: Any, token: str) -> None:
    request = pool_service_pb2.GetPoolRequest(name=POOL)
    await stubs.pools.GetPool(request, metadata=bearer(token))


async def pause_pool(stubs: Any, token: str) -> None:
    request = pool_service_pb2.PausePoolRequest(name=POOL)
    await stubs.pools.PausePool(request, metadata=bearer(token))


async def work(stubs: Any, token: str) -> None:
    call = stubs.work.Work(metadata=bearer(token))
    hello = worker_service_pb2.Hello(
        pool=POOL, pod_name="p", pod_uid=f"uid-{token}", slots=1, protocol_version=1
    )
    await call.write(worker_service_pb2.WorkRequest(hello=hello))
    await call.read()
    call.cancel()


async def sync(stubs: Any, token: str) -> None:
    call = stubs.fleet.SyncPools(metadata=bearer(token))
    # A call that is refused at once may already be over when something is written.
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await call.write(fleet_service_pb2.SyncPoolsRequest(deleted_uid="none", epoch=1))
        await call.done_writing()
    if await call.code() is not _Code.OK:
        await call.read()


async def codes(stubs: Any, calls: Any, tokens: tuple[str, ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for call in calls:
        for token in tokens:
            try:
                await call(stubs, token)
                code = _Code.OK
            except grpc.aio.AioRpcError as error:
                code = error.code()
            found.setdefault(call.__name__, {})[token] = code.name
    return found


@pytest.fixture
def auth_file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "auth.json"
    path.write_text(json.dumps(POLICY))
    return path


async def test_each_role_opens_its_services(serve: Any, auth_file: pathlib.Path) -> None:
    async with serve(auth_file=auth_file) as served:
        calls = (submit, stream_submit, read_pool, pause_pool, work, sync)
        found = await codes(served.stubs(), calls, EVERY_TOKEN)
    no, denied, ok = "UNAUTHENTICATED", "PERMISSION_DENIED", "OK"
    task = dict(zip(EVERY_TOKEN, (no, denied, denied, ok, ok, no), strict=True))
    assert found == {
        "submit": task,
        "stream_submit": task,
        "read_pool": task,
        "pause_pool": dict(zip(EVERY_TOKEN, (no, denied, denied, denied, ok, no), strict=True)),
        "work": dict(zip(EVERY_TOKEN, (no, denied, ok, denied, denied, no), strict=True)),
        "sync": dict(zip(EVERY_TOKEN, (no, ok, denied, denied, denied, no), strict=True)),
    }


async def test_open_clients_need_no_token_for_tasks_and_reading(
    serve: Any, auth_file: pathlib.Path
) -> None:
    write(auth_file, {**POLICY, "clients": "open"})
    async with serve(auth_file=auth_file) as served:
        calls = (submit, stream_submit, read_pool, pause_pool, work, sync)
        found = await codes(served.stubs(), calls, ("", "t-none"))
    assert {name: code[""] for name, code in found.items()} == {
        "submit": "OK",
        "stream_submit": "OK",
        "read_pool": "OK",
        "pause_pool": "UNAUTHENTICATED",
        "work": "UNAUTHENTICATED",
        "sync": "UNAUTHENTICATED",
    }
    # A token that is given must be good.
    assert {code["t-none"] for code in found.values()} == {"UNAUTHENTICATED"}


async def test_namespaces_bind_tokens(serve: Any, auth_file: pathlib.Path) -> None:
    async with serve(auth_file=auth_file) as served:
        stubs = served.stubs()
        found = await codes(stubs, (submit, read_pool), ("t-submit-x",))
        assert found == {
            "submit": {"t-submit-x": "PERMISSION_DENIED"},
            "read_pool": {"t-submit-x": "PERMISSION_DENIED"},
        }
        assert (await codes(stubs, (work,), ("t-work-x",)))["work"] == {
            "t-work-x": "PERMISSION_DENIED"
        }
        request = pool_service_pb2.ListPoolsRequest()
        listed = await stubs.pools.ListPools(request, metadata=bearer("t-submit-x"))
        assert not listed.pools
        listed = await stubs.pools.ListPools(request, metadata=bearer("t-submit"))
        assert [pool.name for pool in listed.pools] == [POOL]


async def test_refusals_say_why_and_are_not_retried(
    serve: Any, auth_file: pathlib.Path, rich: Any
) -> None:
    async with serve(auth_file=auth_file) as served:
        stubs = served.stubs()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await submit(stubs, "t-work")
        found = rich(error.value)
        assert found.reason == "PERMISSION_DENIED"
        assert "role work" in found.message
        assert found.pushback_ms == "-1"
        assert "t-work" not in found.message


async def test_health_and_reflection_are_open(serve: Any, auth_file: pathlib.Path) -> None:
    async with serve(auth_file=auth_file) as served:
        stubs = served.stubs()
        answer = await stubs.health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_file_is_read_again_when_it_changes(serve: Any, auth_file: pathlib.Path) -> None:
    async with serve(auth_file=auth_file) as served:
        stubs = served.stubs()
        write(auth_file, "{ not json")
        await asyncio.sleep(1.1)
        await submit(stubs, "t-submit")  # the last good one stays in force
        rotated = {**POLICY, "tokens": [{"name": "c", "role": "submit", "token": "t-new"}]}
        write(auth_file, rotated)
        await asyncio.sleep(1.1)
        found = await codes(stubs, (submit,), ("t-submit", "t-new"))
        assert found["submit"] == {"t-submit": "UNAUTHENTICATED", "t-new": "OK"}
