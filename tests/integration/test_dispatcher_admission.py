"""The bound and the rate, under real concurrency."""

import asyncio
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2

POOL = "namespaces/default/pools/demo"
BOUND = 100
RATE_PER_SECOND, BURST = 40, 5


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [
        make_pool(max_pending=BOUND),
        make_pool(
            name="namespaces/default/pools/rated",
            uid="uid-rated",
            rate_limit=(RATE_PER_SECOND, 1.0, BURST),
        ),
    ]


async def test_the_bound_is_exact_for_sixteen_clients_at_once(dispatcher: Any, rich: Any) -> None:
    """48 waves too many: exactly the bound is accepted, everybody else is refused at once."""

    async def client(number: int) -> tuple[int, int]:
        stubs = dispatcher.stubs()
        accepted = refused = 0
        for attempt in range(10):
            single = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"))
            batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[single] * 3)
            if (number + attempt) % 2:
                answer = await stubs.tasks.BatchSubmitTasks(batch)
                accepted += sum(one.HasField("response") for one in answer.outcomes)
                refused += sum(one.HasField("error") for one in answer.outcomes)
                continue
            try:
                await stubs.submit()
                accepted += 1
            except grpc.aio.AioRpcError as error:
                refused += rich(error).reason == "QUEUE_FULL"
        return accepted, refused

    results = await asyncio.gather(*(client(number) for number in range(16)))
    assert sum(accepted for accepted, _ in results) == BOUND
    assert sum(refused for _, refused in results) == 16 * 20 - BOUND


async def test_nothing_is_refused_while_there_is_room(dispatcher: Any, stubs: Any) -> None:
    """With workers that drain it, a full pool takes exactly as many as have left."""
    for _ in range(BOUND):
        await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=7)
    held = await worker.assigned(7)
    for _ in held:
        await stubs.submit()
    with pytest.raises(grpc.aio.AioRpcError):
        await stubs.submit()


async def test_requeues_are_never_refused_and_keep_admission_closed(
    dispatcher: Any, stubs: Any
) -> None:
    for _ in range(BOUND):
        await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=2)
    held = await worker.assigned(2)
    for _ in held:
        await stubs.submit()
    for one in held:
        await worker.fail(one)
    await worker.acks(0)
    await asyncio.sleep(0.1)
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    waiting = pool.stats.pending + pool.stats.delayed
    assert waiting + pool.stats.in_flight == BOUND + 2
    with pytest.raises(grpc.aio.AioRpcError):
        await stubs.submit()


async def test_the_rate_holds_in_every_window_at_assignment(dispatcher: Any, stubs: Any) -> None:
    """Two workers, far more credit than tokens: in any window of t seconds at most burst + rate·t
    tasks start, and no token is left unused.
    """
    pool = "namespaces/default/pools/rated"
    count = 45
    await asyncio.gather(*(stubs.submit(parent=pool) for _ in range(count)))
    began = time.monotonic()
    workers = [await dispatcher.worker(f"pod-{n}", pool=pool, slots=count) for n in range(2)]

    names: list[str] = []

    async def collect(worker: Any) -> None:
        while len(names) < count:
            frame = await worker.read()
            names.extend(one.task.name for one in frame.assignments.assignments)

    readers = [asyncio.ensure_future(collect(worker)) for worker in workers]
    await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED)
    took = time.monotonic() - began
    for reader in readers:
        reader.cancel()
    assert len(set(names)) == count
    starts = sorted([(await stubs.get(name)).start_time.ToNanoseconds() for name in names])
    for first in range(count):
        for last in range(first, count):
            window = (starts[last] - starts[first]) / 1e9
            assert last - first + 1 <= BURST + RATE_PER_SECOND * window + 1e-6
    # (45 - 5) / 40 = 1 s, plus what a busy machine needs.
    assert 0.95 <= took <= 2.5
