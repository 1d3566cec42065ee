"""A thousand workers: those that stop reading hurt nobody, and all of them come back from a restart
of the dispatcher in time. The figures are printed by `benchmarks/stalled_workers.py`.
"""

import asyncio
import random
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import task_pb2, task_service_pb2
from rig import crowd, dispatchers, figures, stalled, wire

RATIO_MAX = 5.0
NOISE_SECONDS = 0.1
"""Latencies on a machine that does other things, too: what is looked for is a queue behind those
that stall, which lasts for seconds, or for ever."""
GROWTH_BYTES_MAX = 28 * figures.MIB
RECONNECT_SECONDS_MAX = 15.0


@pytest.mark.timeout(180)
async def test_a_thousand_stalled_workers_hurt_nobody(
    dispatcher_process: dispatchers.DispatcherProcess,
) -> None:
    dispatcher_process.configure(*stalled.CONFIGS)
    found = await stalled.measure(dispatcher_process, count=200, per_second=100, passed_by=5_000)
    for name in ("beside", "apart"):
        without, held, later = (
            crowd.percentile(getattr(phase, name), 0.99)
            for phase in (found.without, found.stalled, found.later)
        )
        print(f"{name}: p99 {without * 1e3:.1f} ms, then {held * 1e3:.1f} and {later * 1e3:.1f}")
        assert max(held, later) < RATIO_MAX * without + NOISE_SECONDS
    grown = found.later.figures.memory_bytes - found.stalled.figures.memory_bytes
    print(f"without {found.without.figures}\nstalled {found.stalled.figures}")
    print(f"after {found.passed_by} tasks more {found.later.figures}")
    assert grown < GROWTH_BYTES_MAX
    # Their streams are over, and with them what waited in the dispatcher to be read.
    left = await figures.settle(
        dispatcher_process.process.pid,  # type: ignore[union-attr]
        dispatcher_process.http_address,
        lambda now: now.open_calls == 0,
        seconds=20,
    )
    assert left.open_calls == 0


# ---------------------------------------------------------------- coming back


class Returning:
    """A worker that runs one task over the restart, and comes back as workers do: at once within a
    second, then with full jitter.
    """

    def __init__(self, raw: wire.RawWorker) -> None:
        self.raw = raw
        self.assignment: Any = None
        self.assigned = 0
        self.returned_at = 0.0
        self.revoked: list[str] = []

    async def start(self) -> None:
        await self.raw.connect()
        (self.assignment,) = await self.raw.assigned(seconds=60)
        self.assigned += 1

    async def come_back(self) -> None:
        """From the end of the stream on."""
        with pytest.raises((grpc.aio.AioRpcError, EOFError)):
            await self.raw.read(60)
        delay_max = 1.0
        while True:
            await asyncio.sleep(random.uniform(0, delay_max))
            try:
                await self.raw.connect(running=[self.assignment.lease], credit=0)
            except (grpc.aio.AioRpcError, EOFError, TimeoutError, asyncio.InvalidStateError):
                self.raw.vanish()
                delay_max = min(10.0, delay_max * 2)
                continue
            self.returned_at = time.monotonic()
            self.revoked = list(self.raw.welcome.revoked_lease_ids)
            return

    async def finish(self) -> None:
        await self.raw.succeed(self.assignment, result=b"done", credit=0)
        # An assignment instead would be the same task, a second time.
        assert await self.raw.acks() == {self.assignment.lease.lease_id: True}


@pytest.mark.timeout(180)
async def test_a_thousand_workers_come_back_from_a_restart_in_time(
    dispatcher_process: dispatchers.DispatcherProcess,
) -> None:
    dispatcher_process.configure(
        wire.pool_config(max_pending=10_000, lease_duration=30, reconnect_grace=60)
    )
    workers = crowd.Crowd(dispatcher_process.address, 1_000, pool=wire.POOL, slots=1, prefix="pod")
    returning = [Returning(raw) for raw in workers.workers]
    stubs = workers.workers[0].stubs
    await stalled.submit_many(stubs, len(returning))
    await crowd.each(returning, Returning.start)
    assert len({one.assignment.task.name for one in returning}) == len(returning)
    back = [asyncio.ensure_future(one.come_back()) for one in returning]
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    restarted = time.monotonic()
    await asyncio.gather(*back)
    took = max(one.returned_at for one in returning) - restarted
    print(f"1,000 workers were back {took:.1f} s after the dispatcher served again")
    assert took <= RECONNECT_SECONDS_MAX
    assert [lease for one in returning for lease in one.revoked] == []
    await crowd.each(returning, Returning.finish)
    request = task_service_pb2.ListTasksRequest(parent=wire.POOL, page_size=1_000)
    tasks = (await stubs.tasks.ListTasks(request, timeout=30)).tasks
    assert len(tasks) == len(returning)
    assert {task.state for task in tasks} == {task_pb2.Task.SUCCEEDED}
    # No lease expired, and nothing was run a second time.
    assert {(task.worker_losses, task.attempt) for task in tasks} == {(0, 1)}
    await workers.close()
