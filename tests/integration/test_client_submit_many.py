"""`submit_many` against a real dispatcher: order, refusals, sources, early ends."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import penstock
from penstock import _pipeline, errors

COUNT = 5_000


@pytest.fixture
def pools(make_pool: Callable[..., Any]) -> list[Any]:
    return [
        make_pool(max_pending=100_000),
        make_pool("namespaces/default/pools/small", "uid-small", max_pending=20),
    ]


def numbered(count: int) -> Iterator[penstock.Submission]:
    for number in range(count):
        yield penstock.Submission("echo", str(number), labels={"n": str(number)})


async def drain(worker: Any, count: int) -> list[str]:
    """Run `count` tasks; returns their payloads in the order of assignment."""
    seen: list[str] = []
    while len(seen) < count:
        frame = await worker.read()
        if frame.WhichOneof("message") == "assignments":
            seen += [one.task.payload.decode() for one in frame.assignments.assignments]
            await worker.succeed(*frame.assignments.assignments)
    return seen


async def test_thousands_are_admitted_in_order(dispatcher: Any) -> None:
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        outcomes = [outcome async for outcome in client.submit_many(numbered(COUNT))]
        assert all(outcome.ok and not outcome.deduplicated for outcome in outcomes)
        assert [outcome.submission.payload for outcome in outcomes] == [
            str(number) for number in range(COUNT)
        ]
        names = [outcome.name for outcome in outcomes]
        assert len(set(names)) == COUNT
        listed = [task async for task in client.list(page_size=1000)]
        assert [task.name for task in listed] == names
        assert [task.labels["n"] for task in listed] == [str(number) for number in range(COUNT)]
        last = outcomes[-1].task
        assert last.state is penstock.TaskState.PENDING
        assert (await client.get(last)).payload == str(COUNT - 1).encode()


async def test_the_blocking_client_does_the_same(dispatcher: Any) -> None:
    def run() -> tuple[list[str], list[str]]:
        with penstock.SyncClient(dispatcher.address, pool="demo") as client:
            outcomes = list(client.submit_many(numbered(COUNT)))
            listed = [task.name for task in client.list(page_size=1000)]
            return [outcome.name for outcome in outcomes], listed

    names, listed = await asyncio.to_thread(run)
    assert len(set(names)) == COUNT
    assert listed == names


async def test_an_asynchronous_source_is_not_held_up(dispatcher: Any) -> None:
    answered = asyncio.Event()

    async def source() -> AsyncIterator[penstock.Submission]:
        yield penstock.Submission("echo", "first")
        async with asyncio.timeout(10):
            await answered.wait()
        yield penstock.Submission("echo", "second")

    payloads = []
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        async for outcome in client.submit_many(source()):
            payloads.append(outcome.submission.payload)
            answered.set()
    assert payloads == ["first", "second"]


async def test_nothing_to_submit_asks_nobody() -> None:
    async with penstock.Client("127.0.0.1:1", pool="demo", timeout=1) as client:
        assert [outcome async for outcome in client.submit_many(())] == []


async def test_a_slow_taker_bounds_what_is_drawn(dispatcher: Any) -> None:
    drawn = 0

    def source() -> Iterator[penstock.Submission]:
        nonlocal drawn
        for submission in numbered(10 * _pipeline.WINDOW_TASKS_MAX):
            drawn += 1
            yield submission

    async with (
        penstock.Client(dispatcher.address, pool="demo") as client,
        contextlib.aclosing(client.submit_many(source())) as outcomes,
    ):
        await anext(outcomes)
        await asyncio.sleep(0.5)
        first = drawn
        await asyncio.sleep(0.5)
        assert drawn == first <= 2 * _pipeline.WINDOW_TASKS_MAX


async def test_a_full_pool_refuses_each_by_itself(dispatcher: Any) -> None:
    async with penstock.Client(dispatcher.address, pool="small") as client:
        outcomes = [outcome async for outcome in client.submit_many(numbered(50))]
    assert [outcome.ok for outcome in outcomes] == [True] * 20 + [False] * 30
    refused = outcomes[-1].error
    assert isinstance(refused, penstock.QueueFull)
    assert refused.retry_after_seconds is not None


async def test_with_retry_all_get_in_as_room_comes_free_none_twice(dispatcher: Any) -> None:
    worker = await dispatcher.worker("pod-1", pool="namespaces/default/pools/small", slots=4)
    working = asyncio.create_task(drain(worker, 200))
    async with penstock.Client(dispatcher.address, pool="small") as client:
        outcomes = [
            outcome
            async for outcome in client.submit_many(
                numbered(200), retry=penstock.Retry(max_attempts=1000, max_elapsed_seconds=60)
            )
        ]
        assert all(outcome.ok for outcome in outcomes)
        assert len({outcome.name for outcome in outcomes}) == 200
        async with asyncio.timeout(30):
            assert sorted(await working, key=int) == [str(number) for number in range(200)]
        assert (await client.pool()).succeeded_total == 200


async def test_one_bad_submission_is_refused_alone(dispatcher: Any) -> None:
    submissions = [penstock.Submission(kind) for kind in ("a", "", "c")]
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        outcomes = [outcome async for outcome in client.submit_many(submissions)]
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, errors.InvalidField)


@pytest.mark.parametrize("time", range(5))
async def test_no_such_pool_ends_it_and_is_told_as_such(dispatcher: Any, time: int) -> None:
    async with penstock.Client(dispatcher.address) as client:
        outcomes = client.submit_many(numbered(5000), pool="nowhere")
        with pytest.raises(errors.PoolNotFound):
            await anext(outcomes)


async def test_a_bad_token_ends_it_and_is_told_as_such(
    serve: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "auth.json").write_text('{"clients": "token", "tokens": []}')
    async with serve(auth_file=tmp_path / "auth.json") as served:
        for _ in range(5):
            async with penstock.Client(served.address, token="guessed") as client:
                outcomes = client.submit_many(numbered(5000), pool="demo")
                with pytest.raises(errors.Unauthenticated):
                    await anext(outcomes)


def failing() -> Iterator[penstock.Submission]:
    yield from numbered(3)
    raise LookupError("no more")


async def test_a_source_that_is_cancelled_is_told(dispatcher: Any) -> None:
    async def source() -> AsyncIterator[penstock.Submission]:
        yield penstock.Submission("echo", "first")
        asyncio.get_running_loop().call_later(0.1, given_up.cancel)
        await given_up

    given_up = asyncio.get_running_loop().create_future()
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        outcomes = client.submit_many(source())
        async with asyncio.timeout(10):
            assert (await anext(outcomes)).ok
            with pytest.raises(asyncio.CancelledError):
                await anext(outcomes)


async def test_a_failing_source_is_told_after_what_it_gave(dispatcher: Any) -> None:
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        outcomes = client.submit_many(failing())
        assert [(await anext(outcomes)).ok for _ in range(3)] == [True] * 3
        with pytest.raises(LookupError, match="no more"):
            await anext(outcomes)


async def test_the_blocking_client_tells_of_a_failing_source_alike(dispatcher: Any) -> None:
    def run() -> None:
        with penstock.SyncClient(dispatcher.address, pool="demo") as client:
            outcomes = client.submit_many(failing())
            assert [next(outcomes).ok for _ in range(3)] == [True] * 3
            with pytest.raises(LookupError, match="no more"):
                next(outcomes)

    await asyncio.to_thread(run)


async def test_the_same_request_ids_make_nothing_new(dispatcher: Any) -> None:
    submissions = [penstock.Submission("a", request_id=f"r-{number}") for number in range(100)]
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        first = [outcome async for outcome in client.submit_many(submissions)]
        again = [outcome async for outcome in client.submit_many(submissions)]
    assert [outcome.name for outcome in again] == [outcome.name for outcome in first]
    assert all(outcome.deduplicated for outcome in again)


def around_a_large_one() -> Iterator[penstock.Submission]:
    for payload in (b"a", bytes(9_000_000), b"c"):
        yield penstock.Submission("t", payload)


async def test_what_no_message_can_carry_is_refused_alone(dispatcher: Any) -> None:
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        outcomes = [outcome async for outcome in client.submit_many(around_a_large_one())]
        with pytest.raises(errors.PayloadTooLarge):
            await client.submit("t", bytes(9_000_000))
        # What a message can carry, and no pool takes, is for the dispatcher to refuse.
        with pytest.raises(errors.PayloadTooLarge, match="the pool takes"):
            await client.submit("t", bytes(7_000_000))
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, errors.PayloadTooLarge)


async def test_the_blocking_client_refuses_it_alone_too(dispatcher: Any) -> None:
    def run() -> list[penstock.Outcome]:
        with penstock.SyncClient(dispatcher.address, pool="demo") as client:
            return list(client.submit_many(around_a_large_one()))

    outcomes = await asyncio.to_thread(run)
    assert [outcome.ok for outcome in outcomes] == [True, False, True]


async def test_nothing_but_what_is_too_large(dispatcher: Any) -> None:
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        source = [penstock.Submission("t", bytes(9_000_000), request_id="mine")]
        (only,) = [outcome async for outcome in client.submit_many(source)]
    assert (only.ok, only.request_id) == (False, "mine")


async def test_a_batch_of_large_labels_fits_a_message(dispatcher: Any) -> None:
    labels = {f"{number:0256}": "v" * 256 for number in range(64)}
    submissions = [penstock.Submission("t", labels=labels) for _ in range(600)]
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        outcomes = [outcome async for outcome in client.submit_many(submissions)]
    assert all(outcome.ok for outcome in outcomes)


async def test_large_payloads_travel(dispatcher: Any) -> None:
    payloads = [bytes([number]) * 700_000 for number in range(30)]
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        submissions = [penstock.Submission("big", payload) for payload in payloads]
        names = [outcome.task.name async for outcome in client.submit_many(submissions)]
        found = [(await client.get(name)).payload for name in names]
    assert found == payloads
