"""What waits for a watcher is bounded, by count and in bytes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock.v1 import task_pb2
from penstock_dispatcher import errors, watches
from penstock_dispatcher.core import effects
from rig import pool_bench


async def nothing() -> AsyncIterator[watches.Event]:
    return
    yield


class Watcher:
    """A watch whose stream takes what `room` lets through."""

    def __init__(self, bench: pool_bench.Bench | None = None) -> None:
        pool = (bench or pool_bench.Bench()).pool
        self.watch = watches.Watch(pool, frozenset(), lambda _: True)
        self.room = asyncio.Semaphore(0)
        self.written = 0
        self.running = asyncio.ensure_future(self.watch.run(self._write, first=nothing()))

    async def _write(self, _: watches.Event) -> None:
        await self.room.acquire()
        self.written += 1

    def offer(self, size_bytes: int) -> None:
        self.watch.offer(watches.Event(), size_bytes)

    async def still_open(self) -> bool:
        for _ in range(10):
            await asyncio.sleep(0)
        return not self.running.done()

    async def refusal(self) -> errors.Refusal:
        with pytest.raises(errors.Refusal) as caught:
            await self.running
        return caught.value


@pytest.mark.parametrize(
    ("count", "size_bytes"),
    [(watches.EVENTS_MAX, 100), (4, watches.EVENT_BYTES_MAX // 4), (1, watches.EVENT_BYTES_MAX)],
)
async def test_one_too_many_is_the_end(count: int, size_bytes: int) -> None:
    watcher = Watcher()
    for _ in range(count):
        watcher.offer(size_bytes)
    assert await watcher.still_open()
    watcher.offer(size_bytes)
    watcher.offer(size_bytes)
    refused = await watcher.refusal()
    assert refused.reason is errors.Reason.WATCH_TOO_SLOW
    assert refused.details.retry_after_ns


async def test_what_was_sent_makes_room() -> None:
    watcher = Watcher()
    for number in range(20):
        watcher.offer(watches.EVENT_BYTES_MAX)
        watcher.room.release()
        assert await watcher.still_open()
        assert watcher.written == number + 1
    watcher.running.cancel()
    await asyncio.gather(watcher.running, return_exceptions=True)


async def test_large_labels_count() -> None:
    bench = pool_bench.Bench()
    labels = {f"key-{number}": "v" * 1_000 for number in range(32)}
    bench.submit("large", body=task_pb2.Task(labels=labels).SerializeToString())
    task = bench.task("large")
    watcher, every = Watcher(bench), watches.Watches()
    every.add(watcher.watch, 0)
    for _ in range(watches.EVENT_BYTES_MAX // 32_000 + 1):
        every.changed(bench.pool, effects.TaskChanged(task, None, task.state), bench.now)
    refused = await watcher.refusal()
    assert refused.reason is errors.Reason.WATCH_TOO_SLOW
