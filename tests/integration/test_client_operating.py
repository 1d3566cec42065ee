"""Both clients operate a pool: pause and resume, and who may."""

import asyncio
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

import penstock
from penstock import errors


async def test_a_paused_pool_starts_nothing_until_it_is_resumed(dispatcher: Any) -> None:
    async with penstock.Client(dispatcher.address, pool="demo", timeout=10) as client:
        paused = await client.pause(reason="a look")
        assert paused.state is penstock.PoolState.PAUSED
        worker = await dispatcher.worker("pod-1")
        task = await client.submit("echo")
        await asyncio.sleep(0.2)
        assert (await client.get(task)).state is penstock.TaskState.PENDING
        assert (await client.resume()).state is penstock.PoolState.RUNNING
        (one,) = await worker.assigned()
        await worker.succeed(one)
        assert (await client.wait(task, timeout=10)).succeeded
        with pytest.raises(errors.PoolNotFound):
            await client.pause("nope")


async def test_resume_leaves_the_manifests_suspend_alone(
    serve: Any, make_pool: Callable[..., Any]
) -> None:
    async with serve(pools=[make_pool(paused=True)]) as served:

        def resume() -> penstock.PoolInfo:
            with penstock.SyncClient(served.address, pool="demo") as client:
                client.pause()
                return client.resume()

        assert (await asyncio.to_thread(resume)).state is penstock.PoolState.PAUSED


async def test_only_an_admin_may(serve: Any, tmp_path: pathlib.Path) -> None:
    policy = tmp_path / "auth.json"
    tokens = [
        {"name": "ops", "role": "admin", "token": "of-the-admin"},
        {"name": "team", "role": "submit", "token": "of-a-client"},
    ]
    policy.write_text(json.dumps({"clients": "open", "tokens": tokens}))
    async with serve(auth_file=policy) as served:
        async with penstock.Client(served.address, pool="demo") as nobody:
            with pytest.raises(errors.Unauthenticated):
                await nobody.pause()
        async with penstock.Client(served.address, pool="demo", token="of-a-client") as client:
            with pytest.raises(errors.PermissionDenied, match="role submit"):
                await client.pause()
        async with penstock.Client(served.address, pool="demo", token="of-the-admin") as admin:
            assert (await admin.pause()).state is penstock.PoolState.PAUSED
            assert (await admin.resume()).state is penstock.PoolState.RUNNING
