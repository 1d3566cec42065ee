"""Keys and slots through a real channel: what is refused, who waits, and at which rate they go."""

import asyncio
import collections
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2

PREFIX = "namespaces/default/pools"
BOUNDED, RATED, FAIR = f"{PREFIX}/bounded", f"{PREFIX}/rated", f"{PREFIX}/fair"
CAPPED, AGING = f"{PREFIX}/capped", f"{PREFIX}/aging"
AGING_SECONDS = 0.2
RATE_PER_SECOND, BURST = 20, 3
_Code = grpc.StatusCode


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [
        make_pool(name=BOUNDED, uid="1", max_pending_per_key=2, slots_per_worker=4),
        make_pool(name=RATED, uid="2", rate_limit_per_key=(RATE_PER_SECOND, 1.0, BURST)),
        make_pool(name=FAIR, uid="3", fair=True, fairness_weights={"a": 3}),
        make_pool(name=CAPPED, uid="4", max_in_flight_per_key=2),
        make_pool(name=AGING, uid="5", priority_aging=AGING_SECONDS),
    ]


async def refused(rich: Any, awaitable: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await awaitable
    return rich(error.value)


async def test_a_full_key_is_refused_by_itself(stubs: Any, rich: Any) -> None:
    for _ in range(2):
        await stubs.submit(parent=BOUNDED, fairness_key="a")
    error = await refused(rich, stubs.submit(parent=BOUNDED, fairness_key="a"))
    assert (error.code, error.reason) == (_Code.RESOURCE_EXHAUSTED, "KEY_QUEUE_FULL")
    (violation,) = error.details["QuotaFailure"].violations
    assert violation.subject == "a"
    assert "the bound for each key is 2" in violation.description
    delay_ms = error.details["RetryInfo"].retry_delay.ToMilliseconds()
    assert 50 <= delay_ms <= 30_000
    assert error.pushback_ms == str(delay_ms)
    error = await refused(rich, stubs.submit(parent=BOUNDED, fairness_key="a", validate_only=True))
    assert error.reason == "KEY_QUEUE_FULL"
    for key in ("b", "b", "", ""):
        await stubs.submit(parent=BOUNDED, fairness_key=key)
    error = await refused(rich, stubs.submit(parent=BOUNDED))
    assert error.details["QuotaFailure"].violations[0].subject == BOUNDED


async def test_in_a_batch_only_what_is_of_a_full_key_is_refused(stubs: Any) -> None:
    requests = [
        task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop", fairness_key=key))
        for key in ("a", "a", "a", "b")
    ]
    batch = task_service_pb2.BatchSubmitTasksRequest(parent=BOUNDED, requests=requests)
    answer = await stubs.tasks.BatchSubmitTasks(batch)
    assert [one.error.code for one in answer.outcomes] == [0, 0, 8, 0]


async def test_a_caller_waits_for_its_key(dispatcher: Any, stubs: Any) -> None:
    for _ in range(2):
        await stubs.submit(parent=BOUNDED, fairness_key="a")
    waiting = asyncio.ensure_future(
        stubs.submit(parent=BOUNDED, fairness_key="a", max_wait={"seconds": 20})
    )
    other = await stubs.submit(parent=BOUNDED, fairness_key="b", max_wait={"seconds": 20})
    assert other.name
    assert not waiting.done()
    worker = await dispatcher.worker("pod-1", pool=BOUNDED)
    await worker.assigned()
    assert (await waiting).name


async def test_a_task_that_no_worker_can_run_is_refused(stubs: Any, rich: Any) -> None:
    await stubs.submit(parent=BOUNDED, slots=4)
    error = await refused(rich, stubs.submit(parent=BOUNDED, slots=5))
    assert (error.code, error.reason) == (_Code.FAILED_PRECONDITION, "UNSCHEDULABLE")
    (violation,) = error.details["PreconditionFailure"].violations
    assert (violation.type, violation.subject) == ("UNSCHEDULABLE", BOUNDED)
    assert "5 slots" in violation.description
    assert error.pushback_ms == "-1"


async def test_the_rate_of_each_key_holds_in_every_window(dispatcher: Any, stubs: Any) -> None:
    """Far more credit than tokens: each key starts at its own rate, and neither waits for the
    other.
    """
    count = 18
    worker = await dispatcher.worker("pod-1", pool=RATED, slots=3 * count)
    tasks = [
        await stubs.submit(parent=RATED, fairness_key=key)
        for _ in range(count)
        for key in ("a", "b", "")
    ]
    await worker.assigned(3 * count)
    starts: dict[str, list[float]] = collections.defaultdict(list)
    for task in tasks:
        shown = await stubs.get(task.name)
        starts[shown.fairness_key].append(shown.start_time.ToNanoseconds() / 1e9)
    assert {key: len(times) for key, times in starts.items()} == {"a": 18, "b": 18, "": 18}
    for times in starts.values():
        times.sort()
        for first in range(count):
            for last in range(first, count):
                window = times[last] - times[first]
                assert last - first + 1 <= BURST + RATE_PER_SECOND * window + 1e-6
        assert times[-1] - times[0] < (count - BURST) / RATE_PER_SECOND + 2


async def test_shares_and_slots_are_seen(dispatcher: Any, stubs: Any) -> None:
    for key in "ab" * 40:
        await stubs.submit(parent=FAIR, fairness_key=key, slots=2)
    worker = await dispatcher.worker("pod-1", pool=FAIR, slots=80)
    started = await worker.assigned(40)
    counted = collections.Counter(one.task.fairness_key for one in started)
    assert counted == {"a": 30, "b": 10}
    request = pool_service_pb2.GetPoolRequest(name=FAIR)
    pool = await stubs.pools.GetPool(request)
    assert (pool.stats.slots_used, pool.stats.in_flight, pool.stats.slots_total) == (80, 40, 80)
    listed = await stubs.pools.ListWorkers(pool_service_pb2.ListWorkersRequest(parent=FAIR))
    assert [shown.slots_used for shown in listed.workers] == [80]


async def test_no_more_of_a_concurrency_key_run_at_once_than_its_cap(
    dispatcher: Any, stubs: Any
) -> None:
    for key in ("a", "a", "a", "b", "", "", ""):
        await stubs.submit(parent=CAPPED, concurrency_key=key)
    worker = await dispatcher.worker("pod-1", pool=CAPPED, slots=9)
    started = await worker.assigned(6)
    counted = collections.Counter(one.task.concurrency_key for one in started)
    assert counted == {"a": 2, "b": 1, "": 3}, "no key, no cap"
    request = pool_service_pb2.GetPoolRequest(name=CAPPED)
    assert (await stubs.pools.GetPool(request)).stats.pending == 1
    first = next(one for one in started if one.task.concurrency_key == "a")
    await worker.succeed(first)
    (last,) = await worker.assigned(1)
    assert last.task.concurrency_key == "a"


async def test_a_task_gains_priority_by_waiting(dispatcher: Any, stubs: Any) -> None:
    old = await stubs.submit(parent=AGING, task_id="old", priority=0)
    created = old.create_time.ToNanoseconds()
    while True:
        late = await stubs.submit(parent=AGING, priority=1)
        if late.create_time.ToNanoseconds() - created > 1.5e9 * AGING_SECONDS:
            break
        await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=late.name))
        await asyncio.sleep(0.02)
    urgent = await stubs.submit(parent=AGING, priority=1_000)
    worker = await dispatcher.worker("pod-1", pool=AGING, slots=3)
    order = [one.task.name for one in await worker.assigned(3)]
    assert order == [urgent.name, old.name, late.name]


async def test_a_key_never_seen_has_no_burst_after_a_restart(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any
) -> None:
    config = make_pool(rate_limit_per_key=(1, 600.0, 2), reconnect_grace=0)
    dispatcher_process.configure(config)
    stubs = stubs_for(dispatcher_process.address)
    for _ in range(3):
        await stubs.submit(fairness_key="a")
    worker = await raw_worker(stubs, pod="pod-1", slots=9).connect()
    await worker.assigned(2)
    await stubs.submit(fairness_key="b", concurrency_key="c", slots=3)
    await worker.assigned(1)
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    await stubs.submit(fairness_key="new")
    fresh = await raw_worker(stubs, pod="pod-2", slots=9).connect()
    await fresh.nothing(1.5)
    await stubs.channel.close()


@pytest.mark.parametrize("cap", ["max_in_flight", "max_in_flight_per_key"])
async def test_what_runs_keeps_its_place_under_the_cap_over_a_restart(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any, cap: str
) -> None:
    dispatcher_process.configure(make_pool(**{cap: 1}, reconnect_grace=60))
    stubs = stubs_for(dispatcher_process.address)
    first = await stubs.submit(concurrency_key="account")
    old = await raw_worker(stubs, pod="old").connect()
    (running,) = await old.assigned(1)
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    second = await stubs.submit(concurrency_key="account")
    other = await raw_worker(stubs, pod="other").connect()
    waiting = asyncio.create_task(other.assigned(1))
    await asyncio.sleep(0.5)
    assert not waiting.done(), "the other may still run"
    await old.connect(running=[running.lease], credit=0)
    assert not old.welcome.revoked_lease_ids
    await asyncio.sleep(0.5)
    assert not waiting.done(), "the other does"
    await old.succeed(running, credit=0)
    (started,) = await waiting
    assert (running.task.name, started.task.name) == (first.name, second.name)
    await stubs.channel.close()
