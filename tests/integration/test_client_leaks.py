"""Whatever a client walks away from ends at the dispatcher too."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import penstock


async def all_closed(dispatcher: Any) -> None:
    """Every call at the dispatcher ends within seconds."""
    async with asyncio.timeout(10):
        await dispatcher.dispatcher.calls.none_open()


async def opened(dispatcher: Any, method: str, count: int) -> None:
    """So many calls of the method are open at the dispatcher, within seconds."""
    async with asyncio.timeout(10):
        while dispatcher.dispatcher.calls.open[method] < count:
            await asyncio.sleep(0.01)


async def endless() -> AsyncIterator[penstock.Submission]:
    yield penstock.Submission("echo")
    await asyncio.Event().wait()


async def test_cancelled_waits(dispatcher: Any) -> None:
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        task = await client.submit("echo")
        waits = [asyncio.create_task(client.wait(task)) for _ in range(50)]
        await opened(dispatcher, "WaitTask", 50)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        await all_closed(dispatcher)


async def test_waits_that_run_out_of_time(dispatcher: Any) -> None:
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        task = await client.submit("echo")
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.wait(task)
        await all_closed(dispatcher)


@pytest.mark.parametrize("end", ["close the generator", "forget it", "cancel"])
async def test_submit_many_that_is_left_early(dispatcher: Any, end: str) -> None:
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        seen_open = asyncio.Event()

        async def use() -> None:
            outcomes = client.submit_many(endless())
            await anext(outcomes)
            await opened(dispatcher, "StreamSubmitTasks", 1)
            seen_open.set()
            if end == "close the generator":
                await outcomes.aclose()
            elif end == "cancel":
                await anext(outcomes)

        using = asyncio.create_task(use())
        await seen_open.wait()
        if end == "cancel":
            using.cancel()
        await asyncio.gather(using, return_exceptions=True)
        del using
        gc.collect()
        await all_closed(dispatcher)


async def test_a_client_that_is_closed_with_calls_open(dispatcher: Any) -> None:
    client = penstock.Client(dispatcher.address, pool="demo")
    task = await client.submit("echo")
    waits = [asyncio.create_task(client.wait(task)) for _ in range(10)]
    outcomes = client.submit_many(endless())
    await anext(outcomes)
    more = asyncio.ensure_future(anext(outcomes))
    await opened(dispatcher, "WaitTask", 10)
    await client.close()
    await all_closed(dispatcher)
    ended = await asyncio.gather(more, *waits, return_exceptions=True)
    assert {type(each) for each in ended} == {RuntimeError}


async def test_the_blocking_client_leaves_nothing_open(dispatcher: Any) -> None:
    def source() -> Iterator[penstock.Submission]:
        while True:
            yield penstock.Submission("echo")

    def use() -> None:
        with penstock.SyncClient(dispatcher.address, pool="demo") as client:
            task = client.submit("echo")
            with pytest.raises(TimeoutError):
                client.wait(task, timeout=0.1)
            for _ in range(3):
                outcomes = client.submit_many(source())
                next(outcomes)
                outcomes.close()

    await asyncio.to_thread(use)
    await all_closed(dispatcher)
    assert dispatcher.dispatcher.calls.open.total() == 0
