"""What a thousand workers that stopped reading do to a dispatcher and to everybody else."""

import asyncio
import dataclasses

import grpc.aio

from penstock.v1 import task_pb2, task_service_pb2
from rig import crowd, dispatchers, figures, wire

WORKERS = 1_000
SLOTS = 10
PAYLOAD_BYTES = 1_000
BATCH = 500
WARM_ROUNDS = 5
ROUNDS = 8
OTHER_POOL = "namespaces/default/pools/other"
CONFIGS = (
    # Stalled workers keep what they hold for as long as this lasts.
    wire.pool_config(
        max_pending=100_000, lease_duration=3600, heartbeat_interval=600, result_retention=1
    ),
    wire.pool_config(OTHER_POOL, "uid-other", max_pending=100_000, result_retention=1),
)


@dataclasses.dataclass(frozen=True)
class Phase:
    """Seconds from submission to the healthy worker, by pool, sorted; and what the process has."""

    beside: list[float]
    apart: list[float]
    figures: figures.Figures


@dataclasses.dataclass(frozen=True)
class Found:
    """Without stalled workers, with them, and with them after `passed_by` more tasks."""

    without: Phase
    stalled: Phase
    later: Phase
    passed_by: int


async def submit_many(stubs: wire.Stubs, count: int) -> None:
    """So many tasks to the pool of the stalled workers."""
    one = task_service_pb2.SubmitTaskRequest(
        task=task_pb2.Task(type="noop", payload=b"x" * PAYLOAD_BYTES)
    )
    for _ in range(count // BATCH):
        batch = task_service_pb2.BatchSubmitTasksRequest(parent=wire.POOL, requests=[one] * BATCH)
        answer = await stubs.tasks.BatchSubmitTasks(batch, timeout=30)
        assert all(outcome.HasField("response") for outcome in answer.outcomes)


async def _stats(http: str, name: str, wanted: int) -> None:
    async with asyncio.timeout(60):
        while True:
            found = await asyncio.to_thread(figures.metrics, http)
            if found[f"penstock_pool_{name}"] == wanted:
                return
            await asyncio.sleep(0.1)


async def measure(
    process: dispatchers.DispatcherProcess,
    *,
    count: int,
    per_second: float,
    passed_by: int,
    workers: int = WORKERS,
) -> Found:
    """Run it on a dispatcher that has `CONFIGS`; `passed_by` tasks go past those that stall, some
    times over.
    """
    assert process.process is not None
    pid, http = process.process.pid, process.http_address
    channel = grpc.aio.insecure_channel(process.address, options=dispatchers.CHANNEL_OPTIONS)
    stubs = wire.Stubs(channel)
    beside = crowd.Healthy(stubs, pod="beside", pool=wire.POOL)
    apart = crowd.Healthy(stubs, pod="apart", pool=OTHER_POOL)

    async def phase() -> Phase:
        one, other = await asyncio.gather(
            beside.latencies(stubs, count=count, per_second=per_second),
            apart.latencies(stubs, count=count, per_second=per_second),
        )
        await asyncio.sleep(1.5)  # retention
        return Phase(one, other, await asyncio.to_thread(figures.of, pid, http))

    async def pass_by() -> None:
        await submit_many(stubs, passed_by)
        await _stats(http, "pending", 0)

    stalled = crowd.Crowd(process.address, workers, pool=wire.POOL, slots=SLOTS, prefix="stalled")
    try:
        async with beside, apart:
            await phase()  # warm
            without = await phase()
        # Alone, they get all that their credit allows.
        await stalled.connect_and_stall()
        await _stats(http, "slots_total", workers * SLOTS)
        await submit_many(stubs, workers * SLOTS)
        await _stats(http, "in_flight", workers * SLOTS)
        async with beside, apart:
            # Bursts of tasks leave the allocator with room that it keeps, and the heap of leases
            # with as many that are over as there are others.
            for _ in range(WARM_ROUNDS):
                await pass_by()
            held = await phase()
            for _ in range(ROUNDS):
                await pass_by()
            return Found(without, held, await phase(), ROUNDS * passed_by)
    finally:
        await stalled.close()
        await channel.close()
