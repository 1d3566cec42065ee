"""Many workers in one process: raw streams over few channels. What is measured beside them is how
long a task is on its way, from its submission to the healthy worker that gets it.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Self

import grpc.aio

from penstock.v1 import worker_service_pb2
from rig import dispatchers, wire

STREAMS_PER_CHANNEL = 100
AT_A_TIME = 50


async def each(things: Sequence[Any], work: Any, *, at_a_time: int = AT_A_TIME) -> None:
    """`await work(thing)` for all of them, some at a time."""
    gate = asyncio.Semaphore(at_a_time)

    async def one(thing: Any) -> None:
        async with gate:
            await work(thing)

    async with asyncio.TaskGroup() as group:
        for thing in things:
            group.create_task(one(thing))


class Crowd:
    """So many workers of one pool, named `prefix`-N."""

    def __init__(self, address: str, count: int, *, pool: str, slots: int, prefix: str) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, options=dispatchers.CHANNEL_OPTIONS)
            for _ in range(-(-count // STREAMS_PER_CHANNEL))
        ]
        stubs = [wire.Stubs(channel) for channel in self._channels]
        self.workers = [
            wire.RawWorker(
                stubs[number // STREAMS_PER_CHANNEL],
                pod=f"{prefix}-{number}",
                pool=pool,
                slots=slots,
            )
            for number in range(count)
        ]

    async def connect(self) -> None:
        """Hello and credit for all slots, each answered by Welcome."""
        await each(self.workers, lambda worker: worker.connect())

    async def connect_and_stall(self) -> None:
        """Hello and credit for all slots. Nothing is read, now or ever."""

        async def stall(worker: wire.RawWorker) -> None:
            worker.call = worker.stubs.work.Work()
            await worker.send(
                hello=worker_service_pb2.Hello(
                    pool=worker.pool,
                    pod_name=worker.pod,
                    pod_uid=f"uid-{worker.pod}",
                    slots=worker.slots,
                    protocol_version=1,
                )
            )
            await worker.send(credit=worker_service_pb2.Credit(slots=worker.slots))

        await each(self.workers, stall)

    async def close(self) -> None:
        """End the streams and the channels."""
        for worker in self.workers:
            worker.vanish()
        for channel in self._channels:
            await channel.close()


class Healthy:
    """A worker that takes what it gets and reports success at once; remembers when what came."""

    def __init__(self, stubs: wire.Stubs, *, pod: str, pool: str, slots: int = 100) -> None:
        self.worker = wire.RawWorker(stubs, pod=pod, pool=pool, slots=slots)
        self.started: dict[str, float] = {}
        self._came = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.worker.connect()
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        self.worker.vanish()

    async def _run(self) -> None:
        while True:
            frame = await self.worker.read(3600)
            got = frame.assignments.assignments
            if got:
                now = time.perf_counter()
                self.started.update((one.task.name.rpartition("/")[2], now) for one in got)
                self._came.set()
                await self.worker.succeed(*got)

    async def latencies(self, stubs: wire.Stubs, *, count: int, per_second: float) -> list[float]:
        """Seconds from submission to arrival here, of so many tasks, sorted. They are submitted at
        this rate, whatever becomes of those before.
        """
        began = time.perf_counter()
        submitted: dict[str, float] = {}

        async def submit(number: int) -> None:
            task_id = f"{self.worker.pod}-{began:.6f}-{number}".replace(".", "-")
            await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            submitted[task_id] = time.perf_counter()
            await stubs.submit(parent=self.worker.pool, task_id=task_id, payload=b"x" * 100)

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(submit(number))
        async with asyncio.timeout(30):
            while not submitted.keys() <= self.started.keys():
                await self._came.wait()
                self._came.clear()
        return sorted(self.started[task_id] - at for task_id, at in submitted.items())


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
