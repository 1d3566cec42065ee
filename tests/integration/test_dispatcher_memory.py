"""The bound on what tasks take of the memory, through a real channel, on a real process."""

import asyncio
import contextlib
import os
import pathlib
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2, worker_service_pb2
from penstock_dispatcher import commits, loading
from penstock_dispatcher.core import budget, units
from rig import dispatchers, figures, wire

MIB = 1024 * 1024
OTHER = "namespaces/default/pools/other"
BATCH = 500
LARGE = (("grpc.max_receive_message_length", 16 * MIB),)
_Batch = task_service_pb2.BatchSubmitTasksRequest


def request(number: int, payload: bytes, parent: str = wire.POOL) -> Any:
    return task_service_pb2.SubmitTaskRequest(
        parent=parent,
        task_id=f"t{number}",
        request_id=str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        task=task_pb2.Task(type="noop", payload=payload),
    )


async def submit(stubs: wire.Stubs, first: int, count: int, payload: bytes) -> None:
    requests = [request(number, payload) for number in range(first, first + count)]
    batch = _Batch(parent=wire.POOL, requests=requests)
    answer = await stubs.tasks.BatchSubmitTasks(batch, timeout=30)
    assert all(each.HasField("response") for each in answer.outcomes), answer.outcomes[0]


async def echo(
    worker: wire.RawWorker, result: bytes = bytes(1_000), ended: list[str] | None = None
) -> None:
    """Every task returns that result."""
    with contextlib.suppress(EOFError):
        while True:
            frame = await worker.read(60)
            given = frame.assignments.assignments
            await worker.succeed(*given, result=result)
            if ended is not None:
                ended += [one.task.name for one in given]


@pytest.fixture
def process(tmp_path: pathlib.Path) -> Iterator[dispatchers.DispatcherProcess]:
    arguments = ("--task-memory", "32Mi", "--log-level", "warning")
    with dispatchers.process_in(tmp_path, *arguments) as made:
        made.configure(wire.pool_config(max_pending=10_000, result_retention=3600))
        yield made


async def test_memory_stays_where_it_is_though_results_are_to_be_kept_for_an_hour(
    process: dispatchers.DispatcherProcess,
) -> None:
    count = 40_000
    assert process.process is not None
    pid = process.process.pid
    async with grpc.aio.insecure_channel(process.address) as channel:
        stubs = wire.Stubs(channel)
        worker = await wire.RawWorker(stubs, pod="w", slots=2 * BATCH).connect()
        echoing = asyncio.create_task(echo(worker))
        grown = []
        for first in range(0, count, BATCH):
            await submit(stubs, first, BATCH, bytes(1_000))
            await stubs.wait(f"{wire.POOL}/tasks/t{first + BATCH - 1}")
            if first % (count // 2) == count // 2 - BATCH:
                grown.append(figures.memory_bytes(pid))
        half, whole = grown
        assert whole - half < 8 * MIB, "that would have been 57 MiB"
        told = figures.metrics(process.http_address)
        assert 0.9 * 32 * MIB < told["penstock_dispatcher_task_memory_bytes"] <= 32 * MIB
        assert told["penstock_pool_results_given_up_total"] > count / 2
        newest = await stubs.get(f"{wire.POOL}/tasks/t{count - 1}")
        assert newest.result == bytes(1_000)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.get(f"{wire.POOL}/tasks/t0")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        # What is given up is given up for good, and who asked for it is remembered.
        echoing.cancel()
        process.kill()
        process.start()
        assert (await stubs.get(newest.name)).result == newest.result
        again = await stubs.tasks.SubmitTask(request(count - 15_000, bytes(1_000)), timeout=10)
        assert again.deduplicated
        told = figures.metrics(process.http_address)
        assert told["penstock_dispatcher_task_memory_bytes"] <= 32 * MIB


async def test_nothing_more_is_begun_while_the_journal_is_far_behind(
    process: dispatchers.DispatcherProcess,
) -> None:
    count = 120
    async with grpc.aio.insecure_channel(process.address, options=LARGE) as channel:
        stubs = wire.Stubs(channel)
        worker = await wire.RawWorker(stubs, pod="w", slots=8).connect(credit=0)
        await submit(stubs, 0, count, b"")
        journal = process.journal_pid
        os.kill(journal, signal.SIGSTOP)
        await worker.send(credit=worker_service_pb2.Credit(slots=8))
        ended: list[str] = []
        working = asyncio.create_task(echo(worker, bytes(MIB), ended))
        before = -1
        while before < len(ended) or not ended:
            before = len(ended)
            await asyncio.sleep(2)
        assert 16 <= before <= 16 + 2 * 8, "the bound, and what was under way"
        os.kill(journal, signal.SIGCONT)
        await stubs.wait(f"{wire.POOL}/tasks/t{count - 1}")
        assert len(ended) == count
        working.cancel()


async def test_what_is_due_in_many_pools_at_once_is_deleted_by_and_by(serve: Any) -> None:
    names = [f"{wire.POOL}-{number}" for number in range(6)]
    pools = [wire.pool_config(name, f"uid-{name}", max_pending=1_000) for name in names]
    async with serve(pools=pools) as served:
        stubs, pump = served.stubs(), served.dispatcher.pump
        books = [pump.registry.by_name[name].book for name in names]
        for name in names:
            for first in (0, BATCH):
                requests = [request(first + number, b"", name) for number in range(BATCH)]
                await stubs.tasks.BatchSubmitTasks(_Batch(parent=name, requests=requests))
            everything = task_service_pb2.BatchCancelTasksRequest(parent=name, filter="*")
            await stubs.tasks.BatchCancelTasks(everything)
        now, log = pump.now, pump._log
        pump.now = lambda: now() + 10 * 3_600 * units.SECOND
        before = log.last
        pump._take_time()
        made = log.last - before
        assert commits.BEHIND_RECORDS_MAX < made <= commits.BEHIND_RECORDS_MAX + 1_000
        async with asyncio.timeout(20):
            while any(book.tasks for book in books):
                await asyncio.sleep(0.01)
        assert log.last - before == 6_000


async def test_where_tasks_of_all_pools_leave_no_room_new_ones_are_refused_or_wait(
    serve: Any, rich: Any
) -> None:
    pools = [wire.pool_config(), wire.pool_config(OTHER, "uid-other")]
    async with serve(pools=pools, task_memory_bytes=16 * MIB) as served:
        stubs = served.stubs()
        for _ in range(15):
            await stubs.submit(payload=bytes(MIB))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.submit(parent=OTHER, payload=bytes(MIB))
        refused = rich(caught.value)
        assert (refused.code.name, refused.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert "all pools" in refused.message
        assert {"RetryInfo", "QuotaFailure"} <= {
            kind.rpartition(".")[2] for kind in refused.details
        }
        waits = asyncio.create_task(
            stubs.submit(parent=OTHER, payload=bytes(MIB), max_wait={"seconds": 20})
        )
        await asyncio.sleep(0.2)
        assert not waits.done()
        purge = pool_service_pb2.PurgePoolRequest(name=wire.POOL, force=True)
        await stubs.pools.PurgePool(purge, timeout=10)
        assert (await asyncio.wait_for(waits, 5)).name.startswith(OTHER)
        memory = served.dispatcher.pump.registry.memory
        assert memory.used < 2 * MIB + budget.TASK_BYTES * 40


async def test_who_waits_is_let_in_when_a_deleted_pool_is_forgotten(serve: Any) -> None:
    large = wire.pool_config(pool_retention=1)
    async with serve(
        pools=[large, wire.pool_config(OTHER, "uid-other")], task_memory_bytes=16 * MIB
    ) as served:
        stubs = served.stubs()
        for _ in range(15):
            await stubs.submit(payload=bytes(MIB))
        await stubs.sync(wire.pool_config(OTHER, "uid-other"))
        waits = asyncio.create_task(
            stubs.submit(parent=OTHER, payload=bytes(MIB), max_wait={"seconds": 30})
        )
        assert (await asyncio.wait_for(waits, 10)).name.startswith(OTHER)


async def test_a_start_with_more_than_there_is_memory_for_holds_no_record_of_each(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 6_000
    monkeypatch.setattr(loading, "LOADING_RECORDS_MAX", 500)
    async with serve() as served:
        stubs = served.stubs()
        worker = await served.worker("w", slots=BATCH)
        echoing = asyncio.create_task(echo(worker))
        for first in range(0, count, BATCH):
            await submit(stubs, first, BATCH, bytes(20_000))
            await stubs.wait(f"{wire.POOL}/tasks/t{first + BATCH - 1}")
        echoing.cancel()
    backlogs = []
    idle = commits.Commits.idle

    async def looked_at(self: commits.Commits) -> None:
        backlogs.append(self.backlog())
        await idle(self)

    monkeypatch.setattr(commits.Commits, "idle", looked_at)
    async with serve(task_memory_bytes=16 * MIB) as served:
        pool = served.dispatcher.pump.registry.by_name[wire.POOL]
        assert 600 < len(pool.book.tasks) < 800
        assert len(backlogs) > 3
        assert max(backlogs) < 2_000, "of more than 5,000"
        newest = await served.stubs().get(f"{wire.POOL}/tasks/t{count - 1}")
        assert newest.result == bytes(1_000)
    async with serve(task_memory_bytes=16 * MIB) as served:
        pool = served.dispatcher.pump.registry.by_name[wire.POOL]
        assert pool.book.given_up_total == 0, "what went is gone"
