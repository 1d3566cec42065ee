"""What must never silence a dispatcher: faults of its own, and pools that go away under workers."""

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import timestamp_pb2

from penstock.v1 import fleet_service_pb2
from penstock_dispatcher import server
from penstock_dispatcher.core import leases
from penstock_dispatcher.journal import interface
from rig import wire


async def test_a_fault_in_a_turn_ends_the_process_instead_of_silencing_it(make_pool: Any) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("a broken turn")

    def started(dispatcher: server.Dispatcher) -> None:
        dispatcher.pump.changed = broken
        dispatcher.pump.mark(next(iter(dispatcher.pump.registry.by_uid.values())))

    settings = server.Settings(listen="127.0.0.1:0")
    with pytest.raises(interface.JournalFailed, match="a broken turn"):
        async with asyncio.timeout(20):
            await server.run(settings, pools=[make_pool()], started=started)


async def test_a_dispatcher_without_a_fencing_token_left_ends(make_pool: Any) -> None:
    working: list[asyncio.Future[Any]] = []

    async def work(served: server.Dispatcher) -> None:
        async with grpc.aio.insecure_channel(served.address) as channel:
            stubs = wire.Stubs(channel)
            await stubs.submit()
            await wire.RawWorker(stubs, pod="pod-1").connect()
            await asyncio.sleep(20)

    def started(served: server.Dispatcher) -> None:
        served.pump.registry.tokens.skip(1 << leases.COUNTER_BITS)
        working.append(asyncio.ensure_future(work(served)))

    settings = server.Settings(listen="127.0.0.1:0")
    with pytest.raises(interface.JournalFailed, match="has no fencing token left"):
        async with asyncio.timeout(20):
            await server.run(settings, pools=[make_pool()], started=started)
    working[0].cancel()
    await asyncio.gather(*working, return_exceptions=True)


async def test_a_pool_is_purged_under_its_workers_and_the_others_go_on(
    dispatcher: Any, make_pool: Any, stubs: Any
) -> None:
    name = "namespaces/default/pools/gone"
    operator = await stubs.sync(
        make_pool(), make_pool(name, "uid-gone", pool_retention=0.3), epoch=1
    )
    submitted = await stubs.submit(parent=name)
    running = await dispatcher.worker("pod-1", pool=name)
    idle = await dispatcher.worker("pod-2", pool=name)
    await running.assigned()
    pump = dispatcher.dispatcher.pump
    pool = pump.registry.by_uid["uid-gone"]
    task = pool.book.tasks[submitted.name.rpartition("/")[2]]
    assert task.lease is not None
    await operator.write(fleet_service_pb2.SyncPoolsRequest(deleted_uid="uid-gone", epoch=1))
    for worker in (running, idle):
        with pytest.raises((EOFError, grpc.aio.AioRpcError)):
            await worker.read()
    # Its streams have ended after the purge; timers of other pools still come.
    await asyncio.sleep(0.2)
    assert not pump.commits.failed.done()
    assert "uid-gone" not in pump.registry.by_uid
    assert task.lease is None, "compiled, the two would keep each other for ever"
    assert not any(pool.config.uid == "uid-gone" for pool in (*pump._armed, *pump._awaiting))
    soon = timestamp_pb2.Timestamp()
    soon.FromMilliseconds(int((time.time() + 0.3) * 1000))
    later = await stubs.submit(schedule_time=soon)
    worker = await dispatcher.worker("pod-3")
    (one,) = await worker.assigned()
    assert one.task.name == later.name
