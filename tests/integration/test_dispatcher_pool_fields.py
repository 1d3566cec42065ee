"""What the comments of the pool's messages promise, field by field, where no other test has its own
story for it. Which field is shown where stands in tests/unit/test_repository_fields.py.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import (
    fleet_service_pb2,
    pool_service_pb2,
    task_pb2,
    task_service_pb2,
    worker_service_pb2,
)

POOL = "namespaces/default/pools/demo"
_S = task_pb2.Task


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    """Of one attempt, so that a failure is the end."""
    return [make_pool(retry_policy=task_pb2.RetryPolicy(max_attempts=1))]


async def shown(stubs: Any) -> Any:
    return await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))


async def stats(stubs: Any, when: Callable[[Any], bool]) -> Any:
    """The statistics as soon as they are so."""
    async with asyncio.timeout(10):
        while not when(found := (await shown(stubs)).stats):
            await asyncio.sleep(0.01)
    return found


async def workers(stubs: Any, filter_: str = "") -> list[Any]:
    request = pool_service_pb2.ListWorkersRequest(parent=POOL, filter=filter_)
    return list((await stubs.pools.ListWorkers(request)).workers)


async def refusal_of_get(stubs: Any, name: str, rich: Any) -> str:
    """The reason, as soon as there is one."""
    async with asyncio.timeout(10):
        while True:
            try:
                await stubs.get(name)
            except grpc.aio.AioRpcError as error:
                return str(rich(error).reason)
            await asyncio.sleep(0.02)


def in_seconds(seconds: float) -> Any:
    moment = task_pb2.Task().schedule_time
    moment.FromNanoseconds(time.time_ns() + int(seconds * 1e9))
    return moment


# ------------------------------------------------------------ statistics


async def test_who_waits_is_counted(stubs: Any) -> None:
    before = (await shown(stubs)).stats
    assert not before.HasField("oldest_pending_time")
    first = await stubs.submit(payload=b"x" * 10)
    await stubs.submit(payload=b"x" * 5, priority=7)
    await stubs.submit(priority=7)
    await stubs.submit(payload=b"x", priority=9, schedule_time=in_seconds(3600))
    found = (await shown(stubs)).stats
    assert (found.pending, found.delayed, found.pending_bytes) == (3, 1, 16)
    assert dict(found.pending_by_priority) == {0: 1, 7: 2}
    assert found.oldest_pending_time == first.create_time
    assert (found.in_flight, found.slots_used, found.slots_total) == (0, 0, 0)
    assert found.arrival_rate > 0
    assert found.completion_rate == 0
    assert not found.HasField("estimated_wait"), "nothing has ended: nobody can tell"
    assert not found.HasField("mean_execution_time")


async def test_what_runs_and_what_has_ended_is_counted(dispatcher: Any, stubs: Any) -> None:
    for _ in range(4):
        await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=3)
    good, bad, _ = await worker.assigned(3)
    found = (await shown(stubs)).stats
    assert (found.in_flight, found.slots_used, found.slots_total, found.pending) == (3, 3, 3, 1)
    assert found.HasField("mean_execution_time"), "of what runs, until something has ended"
    outcome = worker_service_pb2.TaskOutcome(
        lease_id=good.lease.lease_id,
        fencing_token=good.lease.fencing_token,
        completed=worker_service_pb2.TaskOutcome.Completed(),
    )
    outcome.execution_time.FromSeconds(3)
    await worker.outcomes([outcome], credit=0)
    await worker.fail(bad)
    found = await stats(stubs, lambda each: each.failed_total == 1)
    assert (found.succeeded_total, found.accepted_total) == (1, 4)
    assert 0 < found.mean_execution_time.ToMilliseconds() <= 3000
    assert found.completion_rate > 0


async def test_how_long_a_newcomer_would_wait(dispatcher: Any, stubs: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    await stubs.submit()
    await worker.succeed(*await worker.assigned(), credit=0)
    await worker.acks()
    await stubs.submit()
    few = (await shown(stubs)).stats.estimated_wait.ToNanoseconds()
    for _ in range(9):
        await stubs.submit()
    many = (await shown(stubs)).stats.estimated_wait.ToNanoseconds()
    assert 0 < few < many


async def test_totals_begin_with_the_process(dispatcher: Any, stubs: Any, make_pool: Any) -> None:
    operator = await stubs.sync(make_pool(max_pending=2))
    for _ in range(2):
        await stubs.submit()
    with pytest.raises(grpc.aio.AioRpcError):
        await stubs.submit()
    found = (await shown(stubs)).stats
    assert (found.accepted_total, found.refused_total) == (2, 1)
    operator.cancel()
    await dispatcher.restart()
    found = (await shown(dispatcher.stubs())).stats
    assert (found.pending, found.accepted_total, found.refused_total) == (2, 0, 0)


async def test_the_rate_limits_tokens_are_shown(
    dispatcher: Any, stubs: Any, make_pool: Any
) -> None:
    """Of a pool that is new: its bucket is full."""
    name = "namespaces/default/pools/rated"
    operator = await stubs.sync(
        *dispatcher.pools, make_pool(name, "uid-rated", rate_limit=(1, 1000.0, 3))
    )

    async def rated() -> Any:
        return (await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=name))).stats

    assert (await rated()).rate_limit_tokens == 3
    assert (await shown(stubs)).stats.rate_limit_tokens == 0
    worker = await dispatcher.worker("pod-1", pool=name, slots=5)
    for _ in range(4):
        await stubs.submit(parent=name)
    await worker.assigned(3)
    async with asyncio.timeout(10):
        while not (found := await rated()).rate_limited_for.ToNanoseconds():
            await asyncio.sleep(0.01)
    assert (found.rate_limit_tokens, found.pending) == (0, 1)
    await asyncio.sleep(0.1)
    assert (await rated()).rate_limited_for.ToMilliseconds() >= 100
    operator.cancel()


async def test_slots_in_use_are_leases_whoever_is_away(dispatcher: Any, stubs: Any) -> None:
    await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=2)
    await worker.assigned()
    worker.vanish()
    found = await stats(stubs, lambda each: each.slots_total == 0)
    assert (found.slots_used, found.in_flight) == (1, 1)


# ------------------------------------------------------------ workers


async def test_a_worker_is_shown_as_it_is(dispatcher: Any, stubs: Any) -> None:
    about = {"revision": "r1", "sdk_version": "test 1", "task_types": ["noop", "more"]}
    worker = await dispatcher.worker("pod-1", slots=2, **about)
    (idle,) = await workers(stubs)
    assert idle.name == f"{POOL}/workers/pod-1"
    assert (idle.state, idle.pod_uid) == (pool_service_pb2.Worker.READY, "uid-pod-1")
    assert (idle.revision, idle.sdk_version) == ("r1", "test 1")
    assert list(idle.task_types) == ["more", "noop"]
    assert (idle.slots_total, idle.slots_used, list(idle.tasks)) == (2, 0, [])
    assert abs(idle.connect_time.seconds - time.time()) < 60
    assert idle.idle_since_time.ToNanoseconds() >= idle.connect_time.ToNanoseconds()
    task = await stubs.submit()
    (one,) = await worker.assigned()
    (busy,) = await workers(stubs)
    assert (busy.state, busy.slots_used) == (pool_service_pb2.Worker.BUSY, 1)
    assert list(busy.tasks) == [task.name]
    assert not busy.HasField("idle_since_time")
    before = busy.last_heartbeat_time.ToNanoseconds()
    await worker.send(heartbeat=worker_service_pb2.Heartbeat(lease_ids=[one.lease.lease_id]))
    async with asyncio.timeout(10):
        while (await workers(stubs))[0].last_heartbeat_time.ToNanoseconds() == before:
            await asyncio.sleep(0.01)
    await worker.succeed(one)
    await worker.acks()
    (again,) = await workers(stubs)
    assert again.idle_since_time.ToNanoseconds() > idle.idle_since_time.ToNanoseconds()


async def test_workers_are_found_by_state(dispatcher: Any, stubs: Any) -> None:
    await stubs.submit()
    await (await dispatcher.worker("busy")).assigned()
    gone = await dispatcher.worker("gone")
    await dispatcher.worker("idle")
    gone.vanish()
    async with asyncio.timeout(10):
        while len(await workers(stubs, "state=LOST")) != 1:
            await asyncio.sleep(0.01)
    for state, pod in (("READY", "idle"), ("BUSY", "busy"), ("LOST", "gone")):
        (found,) = await workers(stubs, f"state={state}")
        assert found.name == f"{POOL}/workers/{pod}"


async def test_the_operator_is_told_who_is_gone(dispatcher: Any, stubs: Any) -> None:
    operator = await stubs.sync(*dispatcher.pools)
    worker = await dispatcher.worker("pod-1")

    async def told(gone: bool) -> None:
        async with asyncio.timeout(10):
            while True:
                for demand in (await operator.read()).demands:
                    if [(each.pod_uid, each.gone) for each in demand.workers] == [
                        ("uid-pod-1", gone)
                    ]:
                        return

    await told(False)
    await worker.send(goodbye=worker_service_pb2.Goodbye(reason="done"))
    await told(True)
    operator.cancel()


# ------------------------------------------------------------ configuration


async def test_a_pool_is_shown_as_configured(stubs: Any, make_pool: Any) -> None:
    config = make_pool(max_pending=7)
    config.generation = 5
    operator = await stubs.sync(config)
    found = await shown(stubs)
    assert (found.name, found.uid) == (POOL, "uid-demo")
    assert (found.generation, found.max_pending) == (5, 7)
    operator.cancel()


async def test_workers_are_told_the_times_of_their_pool(
    dispatcher: Any, stubs: Any, make_pool: Any
) -> None:
    operator = await stubs.sync(
        make_pool(lease_duration=12, heartbeat_interval=3, cancel_grace=4.5)
    )
    welcome = (await dispatcher.worker("pod-1")).welcome
    assert welcome.lease_duration.ToMilliseconds() == 12_000
    assert welcome.heartbeat_interval.ToMilliseconds() == 3_000
    assert welcome.cancel_grace.ToMilliseconds() == 4_500
    operator.cancel()


async def test_what_is_not_set_has_its_default(dispatcher: Any) -> None:
    welcome = (await dispatcher.worker("pod-1")).welcome
    assert welcome.lease_duration.ToSeconds() == 30
    assert welcome.heartbeat_interval.ToSeconds() == 5
    assert welcome.cancel_grace.ToSeconds() == 10


async def test_the_manifests_latch_is_another_one(
    dispatcher: Any, stubs: Any, make_pool: Any
) -> None:
    operator = await stubs.sync(make_pool(paused=True))
    assert (await shown(stubs)).state == pool_service_pb2.Pool.PAUSED
    await stubs.submit()
    worker = await dispatcher.worker("pod-1")
    await stubs.pools.PausePool(pool_service_pb2.PausePoolRequest(name=POOL))
    resume = pool_service_pb2.ResumePoolRequest(name=POOL)
    assert (await stubs.pools.ResumePool(resume)).state == pool_service_pb2.Pool.PAUSED
    assert (await shown(stubs)).stats.in_flight == 0
    await operator.write(fleet_service_pb2.SyncPoolsRequest(upsert=make_pool(), epoch=1))
    await worker.assigned()
    assert (await shown(stubs)).state == pool_service_pb2.Pool.RUNNING
    operator.cancel()


async def test_no_more_run_at_once_than_the_cap(
    dispatcher: Any, stubs: Any, make_pool: Any
) -> None:
    operator = await stubs.sync(make_pool(max_in_flight=2))
    for _ in range(5):
        await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=5)
    first, _ = await worker.assigned(2)
    found = await stats(stubs, lambda each: each.in_flight == 2)
    assert found.pending == 3
    await worker.succeed(first, credit=0)
    await worker.assigned(1)
    await operator.write(fleet_service_pb2.SyncPoolsRequest(upsert=make_pool(), epoch=1))
    await worker.assigned(2)
    operator.cancel()


async def test_a_task_without_an_expire_time_has_the_pools(stubs: Any, make_pool: Any) -> None:
    operator = await stubs.sync(make_pool(ttl=0.2))
    task = await stubs.submit()
    lives = task.expire_time.ToNanoseconds() - task.create_time.ToNanoseconds()
    assert lives == 200_000_000
    later = await stubs.submit(expire_time=in_seconds(3600))
    assert (await stubs.wait(task.name)).state == _S.EXPIRED
    assert (await stubs.get(later.name)).state == _S.PENDING
    operator.cancel()


async def test_results_and_dead_letters_have_a_time_each(
    dispatcher: Any, stubs: Any, make_pool: Any, rich: Any
) -> None:
    operator = await stubs.sync(make_pool(result_retention=0.5, dead_letter_retention=1.5))
    worker = await dispatcher.worker("pod-1", slots=2)
    good, dead = await stubs.submit(), await stubs.submit()
    over = {task.name: asyncio.ensure_future(stubs.wait(task.name)) for task in (good, dead)}
    await asyncio.sleep(0.1)  # so that both wait already
    for one in await worker.assigned(2):
        if one.task.name == good.name:
            await worker.succeed(one)
        else:
            await worker.fail(one, retryable=False)
    for task, least in ((good, 0.5), (dead, 1.5)):
        ended = (await over[task.name]).end_time.ToNanoseconds()
        assert await refusal_of_get(stubs, task.name, rich) == "TASK_NOT_FOUND"
        assert time.time_ns() - ended >= least * 1e9
    operator.cancel()


async def test_the_oldest_dead_letters_make_room(
    dispatcher: Any, stubs: Any, make_pool: Any
) -> None:
    operator = await stubs.sync(make_pool(max_dead_letters=2))
    worker = await dispatcher.worker("pod-1")
    for number in range(4):
        task = await stubs.submit(task_id=f"t{number}")
        await worker.fail(*await worker.assigned(), retryable=False)
        await stubs.wait(task.name)
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=POOL))
    assert [task.name for task in listed.tasks] == [f"{POOL}/tasks/t2", f"{POOL}/tasks/t3"]
    assert (await shown(stubs)).stats.dead_lettered == 2
    operator.cancel()


# ------------------------------------------------------------ requests


async def test_the_log_says_why(
    dispatcher: Any, stubs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await dispatcher.worker("pod-1")
    worker = f"{POOL}/workers/pod-1"
    with caplog.at_level("INFO", logger="penstock_dispatcher.services.pool_service"):
        await stubs.pools.PausePool(pool_service_pb2.PausePoolRequest(name=POOL, reason="lunch"))
        await stubs.pools.DrainPool(pool_service_pb2.DrainPoolRequest(name=POOL, reason="x" * 1000))
        await stubs.pools.DrainWorker(
            pool_service_pb2.DrainWorkerRequest(name=worker, reason="disk")
        )
    assert caplog.messages == [
        f"{POOL} is paused: lunch",
        f"{POOL} drains: {'x' * 200}",
        f"{worker} drains: disk",
    ]


async def test_a_worker_that_is_drained_finishes_and_nobody_waits(
    dispatcher: Any, stubs: Any
) -> None:
    await stubs.submit()
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    request = pool_service_pb2.DrainWorkerRequest(name=f"{POOL}/workers/pod-1")
    request.timeout.FromMilliseconds(1)
    answer = await stubs.pools.DrainWorker(request)
    assert (answer.state, answer.slots_used) == (pool_service_pb2.Worker.DRAINING, 1)
    assert answer.reservation_id == (await worker.read()).drain.reservation_id
    await asyncio.sleep(0.1)
    await worker.succeed(one, result=b"r")
    assert await worker.acks() == {one.lease.lease_id: True}


async def test_workers_are_paged(dispatcher: Any, stubs: Any) -> None:
    for number in range(5):
        await dispatcher.worker(f"pod-{number}")
    found: list[str] = []
    token = ""
    while True:
        page = await stubs.pools.ListWorkers(
            pool_service_pb2.ListWorkersRequest(parent=POOL, page_size=2, page_token=token)
        )
        assert len(page.workers) <= 2
        found += [each.name for each in page.workers]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"{POOL}/workers/pod-{number}" for number in range(5)]
