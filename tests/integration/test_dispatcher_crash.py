"""`kill -9` of a real dispatcher process, at random moments under load, and its orderly stop.

The history is kept on the clients' side: what was accepted, what was run, what was acknowledged.
"""

import asyncio
import contextlib
import resource
import signal
import subprocess
import sys
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_service_pb2
from rig import kills, wire

POOL = wire.POOL
KILLS = 20
"""`make soak` has 200."""
every_task = kills.every_task


@pytest.mark.timeout(240)
async def test_kill_9_under_load_loses_nothing_and_runs_nothing_twice(
    dispatcher_process: Any,
) -> None:
    await kills.kill_under_load(dispatcher_process, KILLS)


async def test_a_request_id_is_remembered_over_kill_9(
    dispatcher_process: Any, stubs_for: Any, make_pool: Any
) -> None:
    dispatcher_process.configure(make_pool(result_retention=0.2))
    stubs = stubs_for(dispatcher_process.address)
    first = await stubs.submit(request_id="again", payload=b"x")
    short = await stubs.submit(request_id="short")
    request = task_service_pb2.CancelTaskRequest(name=short.name)
    await stubs.tasks.CancelTask(request)
    async with asyncio.timeout(5):
        # Its retention ends; what is left is the request id.
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                await stubs.get(short.name)
                await asyncio.sleep(0.05)
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    again = await stubs.submit(request_id="again", payload=b"x")
    assert again.name == first.name
    assert (await stubs.submit(request_id="short")).name == short.name
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert pool.stats.pending == 1
    await stubs.channel.close()


async def test_tasks_of_a_worker_that_does_not_return_wait_for_its_grace(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any
) -> None:
    dispatcher_process.configure(make_pool(reconnect_grace=1.5))
    stubs = stubs_for(dispatcher_process.address)
    running = await stubs.submit(task_id="running")
    lost = await raw_worker(stubs, pod="lost").connect()
    await lost.assigned()
    waiting = await stubs.submit(task_id="waiting")
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    restarted = time.monotonic()
    await stubs.channel.channel_ready()
    other = await raw_worker(stubs, pod="other", slots=2).connect()
    names = [one.task.name for one in await other.assigned(2)]
    # Both were held back: the dispatcher cannot know which of them still runs.
    assert 1.0 < time.monotonic() - restarted < 5
    assert names == [running.name, waiting.name]
    await stubs.channel.close()


async def test_a_rate_limit_has_no_fresh_burst_after_a_restart(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any
) -> None:
    dispatcher_process.configure(make_pool(rate_limit=(2, 1.0, 10), reconnect_grace=0))
    stubs = stubs_for(dispatcher_process.address)
    for _ in range(15):
        await stubs.submit()
    worker = await raw_worker(stubs, pod="pod-1", slots=15).connect()
    await worker.assigned(10)
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    began = time.monotonic()
    fresh = await raw_worker(stubs, pod="pod-2", slots=15).connect()
    await fresh.assigned(1)
    await fresh.assigned(1)
    assert time.monotonic() - began > 0.45
    await stubs.channel.close()


# ---------------------------------------------------------------- the orderly stop


async def test_sigterm_commits_tells_everybody_and_exits_zero(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any, rich: Any
) -> None:
    dispatcher_process.configure(make_pool())
    stubs = stubs_for(dispatcher_process.address)
    task = await stubs.submit()
    worker = await raw_worker(stubs, pod="pod-1").connect()
    (one,) = await worker.assigned()
    waiting = asyncio.ensure_future(stubs.wait(task.name, 30))
    operator = await stubs.sync(make_pool())
    await asyncio.sleep(0.1)
    began = time.monotonic()
    stopping = asyncio.ensure_future(asyncio.to_thread(dispatcher_process.terminate))
    frame = await worker.read()
    assert frame.go_away.reconnect_after.ToMilliseconds() <= 1000
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await worker.read()
    assert (error.value.code(), rich(error.value).reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "NOT_LEADER",
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await waiting
    assert rich(error.value).reason == "NOT_LEADER"
    assert await operator.code() is grpc.StatusCode.UNAVAILABLE
    assert await stopping == 0
    assert time.monotonic() - began < 5
    # The worker kept running, comes back, and nothing was lost.
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    await worker.connect(running=[one.lease], credit=0)
    assert not worker.welcome.revoked_lease_ids
    await worker.succeed(one, result=b"done", credit=0)
    await worker.acks()
    assert (await stubs.wait(task.name)).result == b"done"
    await stubs.channel.close()


# ---------------------------------------------------------------- a disk that fails


async def test_a_failing_disk_ends_the_process_and_loses_nothing_acknowledged(
    dispatcher_process: Any, stubs_for: Any, make_pool: Any
) -> None:
    """Writing beyond a file size limit gives EFBIG, which SQLite calls an I/O error."""
    dispatcher_process.configure(make_pool(max_pending=100_000))
    assert dispatcher_process.terminate() == 0
    dispatcher_process.start()
    pid = dispatcher_process.journal_pid
    limit = 20 * 1024 * 1024
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limit))
    stubs = stubs_for(dispatcher_process.address)
    accepted: list[str] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        for _ in range(2_000):
            accepted.append((await stubs.submit(payload=b"x" * 50_000)).name)  # noqa: PERF401
    assert len(accepted) > 10
    assert await asyncio.to_thread(dispatcher_process.process.wait, 15) == 1
    assert "the journal cannot be used" in dispatcher_process.log.read_text()
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    found = await every_task(stubs)
    assert set(accepted) <= set(found)
    await stubs.channel.close()


def test_a_journal_in_use_is_refused_by_a_second_process(dispatcher_process: Any) -> None:
    second = subprocess.run(
        [
            sys.executable,
            *("-m", "penstock_dispatcher", "--listen", "127.0.0.1:0", "--http", ""),
            *("--data", str(dispatcher_process.folder / "data")),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert "in use by another process" in second.stderr


def test_arguments_are_checked() -> None:
    command = [sys.executable, "-m", "penstock_dispatcher"]
    missing = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert missing.returncode == 2
    assert "--data" in missing.stderr
    taken = subprocess.run(
        [*command, "--memory", "--http", "", "--auth-file", "/nonexistent/auth.json"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert taken.returncode == 1
    assert "auth.json" in taken.stderr


def test_sigint_is_an_orderly_stop_too(dispatcher_process: Any) -> None:
    dispatcher_process.process.send_signal(signal.SIGINT)
    assert dispatcher_process.process.wait(10) == 0
