"""Both clients operate a pool: pause and resume, and who may."""

import asyncio
import dataclasses
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
            with pytest.raises(errors.PermissionDenied, match="role submit"):
                await client.restore(dry_run=True)
        async with penstock.Client(served.address, pool="demo", token="of-the-admin") as admin:
            assert (await admin.pause()).state is penstock.PoolState.PAUSED
            assert (await admin.resume()).state is penstock.PoolState.RUNNING


async def test_a_deleted_pool_is_had_back_by_both_clients(
    dispatcher: Any, stubs: Any, make_pool: Callable[..., Any]
) -> None:
    for number in range(3):
        await stubs.submit(task_id=f"t{number}")
    await stubs.sync(make_pool(uid="uid-new"))
    await stubs.submit(task_id="t2")

    def undo() -> tuple[penstock.Restore, penstock.Restore, penstock.PoolInfo]:
        with penstock.SyncClient(dispatcher.address, pool="demo") as client:
            return client.restore(dry_run=True), client.restore(), client.pool()

    async with penstock.Client(dispatcher.address, pool="demo", timeout=10) as client:
        before = await client.pool()
        assert (before.restorable_tasks, before.restorable_uid) == (3, "uid-demo")
        assert before.restorable_until is not None
        preview, done, after = await asyncio.to_thread(undo)
        assert done == dataclasses.replace(preview, moved=True)
        assert (done.count, done.from_uid, done.remaining, done.skipped) == (2, "uid-demo", 1, 1)
        assert [name.rpartition("/")[2] for name in done.sample] == ["t0", "t1"]
        assert (after.pending, after.restorable_tasks) == (3, 1)
        assert (await client.restore(from_uid="uid-demo")).count == 0
        with pytest.raises(errors.PoolNotFound, match="no deleted pool"):
            await client.restore(from_uid="nobody")
        with pytest.raises(errors.InvalidField, match="from_uid"):
            await client.restore(from_uid="uid-new")
