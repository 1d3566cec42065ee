"""A dispatcher that dies and comes back under the client's hands: nothing lost, nothing doubled."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import penstock
from penstock import errors

COUNT = 20_000
DIE_AT = (2_000, 9_000, 15_000)


def kill(process: Any) -> None:
    process.kill()
    process.start()


def terminate(process: Any) -> None:
    assert process.terminate() == 0
    process.start()


def check(address: str, outcomes: list[penstock.Outcome]) -> None:
    """Each submission is one task: accepted once, there once, in order."""
    assert [outcome.submission.payload for outcome in outcomes] == [
        str(number) for number in range(COUNT)
    ]
    assert [outcome.error for outcome in outcomes if not outcome.ok] == []
    names = [outcome.name for outcome in outcomes]
    assert len(set(names)) == COUNT
    with penstock.SyncClient(address, pool="demo") as client:
        listed = {task.name: task.labels["n"] for task in client.list(page_size=1000)}
        assert client.pool().pending == COUNT
    assert listed == {outcome.name: str(outcome.submission.payload) for outcome in outcomes}


@pytest.mark.parametrize("die", [kill, terminate])
async def test_submit_many_goes_on_after_a_restart(
    dispatcher_process: Any, make_pool: Callable[..., Any], die: Callable[[Any], None]
) -> None:
    dispatcher_process.configure(make_pool(max_pending=COUNT))
    dying: list[asyncio.Future[None]] = []

    async def source() -> AsyncIterator[penstock.Submission]:
        for number in range(COUNT):
            if number in DIE_AT:
                if dying:
                    await dying[-1]
                dying.append(asyncio.ensure_future(asyncio.to_thread(die, dispatcher_process)))
            yield penstock.Submission("echo", str(number), labels={"n": str(number)})

    outcomes = []
    async with penstock.Client(dispatcher_process.address, pool="demo", timeout=60) as client:
        async for outcome in client.submit_many(source()):
            outcomes.append(outcome)  # noqa: PERF401  drawing on is what makes it die
    await asyncio.gather(*dying)
    await asyncio.to_thread(check, dispatcher_process.address, outcomes)


@pytest.mark.parametrize("die", [kill, terminate])
def test_the_blocking_client_goes_on_too(
    dispatcher_process: Any, make_pool: Callable[..., Any], die: Callable[[Any], None]
) -> None:
    dispatcher_process.configure(make_pool(max_pending=COUNT))
    dying: list[threading.Thread] = []

    def source() -> Iterator[penstock.Submission]:
        for number in range(COUNT):
            if number in DIE_AT:
                if dying:
                    dying[-1].join()
                dying.append(threading.Thread(target=die, args=(dispatcher_process,)))
                dying[-1].start()
            yield penstock.Submission("echo", str(number), labels={"n": str(number)})

    with penstock.SyncClient(dispatcher_process.address, pool="demo", timeout=60) as client:
        outcomes = list(client.submit_many(source()))
    for thread in dying:
        thread.join()
    check(dispatcher_process.address, outcomes)


@pytest.mark.parametrize("die", [kill, terminate])
async def test_single_calls_outlast_a_restart(
    dispatcher_process: Any, make_pool: Callable[..., Any], die: Callable[[Any], None]
) -> None:
    dispatcher_process.configure(make_pool())
    async with penstock.Client(dispatcher_process.address, pool="demo", timeout=60) as client:
        waited_for = await client.submit("echo")
        waiting = asyncio.create_task(client.wait(waited_for, timeout=60))
        dying = asyncio.create_task(asyncio.to_thread(die, dispatcher_process))
        names = []
        started = time.monotonic()
        while not dying.done() or len(names) < 50:
            names.append((await client.submit("echo", request_id=f"r-{len(names)}")).name)
            assert time.monotonic() - started < 60
        await dying
        assert len(set(names)) == len(names)
        assert (await client.pool()).pending == len(names) + 1
        assert not waiting.done()
        await client.cancel(waited_for)
        assert (await waiting).state is penstock.TaskState.CANCELLED


async def test_a_wait_for_room_is_no_longer_over_a_restart(
    dispatcher_process: Any, make_pool: Callable[..., Any]
) -> None:
    dispatcher_process.configure(make_pool(max_pending=1, max_wait=60))
    wait, until = penstock.Admission.WAIT, 6.0

    def blocking() -> float:
        started = time.monotonic()
        with (
            penstock.SyncClient(dispatcher_process.address, pool="demo", timeout=30) as client,
            pytest.raises(errors.AdmissionTimeout),
        ):
            client.submit("echo", admission=wait, max_wait=until)
        return time.monotonic() - started

    async with penstock.Client(dispatcher_process.address, pool="demo", timeout=30) as client:
        await client.submit("echo")
        other = asyncio.create_task(asyncio.to_thread(blocking))
        started = time.monotonic()
        waiting = asyncio.create_task(client.submit("echo", admission=wait, max_wait=until))
        await asyncio.sleep(4)
        await asyncio.to_thread(kill, dispatcher_process)
        back = time.monotonic() - started
        with pytest.raises(errors.AdmissionTimeout):
            await waiting
        for took in (time.monotonic() - started, await other):
            assert until - 0.1 < took < max(until, back) + 3
