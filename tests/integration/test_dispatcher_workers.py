"""Leases, fencing, re-attachment, drain: what workers see on their streams."""

import asyncio
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
from rig import polling

POOL = "namespaces/default/pools/demo"
_State = task_pb2.Task


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    # Leases long enough for a busy machine, short enough to be waited for.
    return [
        make_pool(
            lease_duration=0.9,
            heartbeat_interval=0.3,
            reconnect_grace=5.0,
            cancel_grace=0.3,
            max_worker_losses=2,
        )
    ]


async def heartbeats(worker: Any, *assignments: Any) -> None:
    """Heartbeats naming these leases, until cancelled."""
    while True:
        await worker.send(
            heartbeat=worker_service_pb2.Heartbeat(
                lease_ids=[one.lease.lease_id for one in assignments]
            )
        )
        await asyncio.sleep(0.2)


async def test_heartbeats_keep_a_lease_and_silence_loses_it(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    silent = await dispatcher.worker("silent")
    (lost,) = await silent.assigned()
    beating = asyncio.ensure_future(heartbeats(silent, lost))
    await asyncio.sleep(1.5)
    assert (await stubs.get(task.name)).state == _State.RUNNING
    beating.cancel()
    frame = await silent.read()
    assert frame.lease_state.lost_lease_ids == [lost.lease.lease_id]
    other = await dispatcher.worker("other")
    (again,) = await other.assigned()
    assert again.task.name == task.name
    assert again.lease.attempt == 1  # losses are not attempts
    assert again.lease.fencing_token > lost.lease.fencing_token
    assert (await stubs.get(task.name)).worker_losses == 1
    # The late outcome of the lost lease is refused, and changes nothing.
    await silent.succeed(lost, result=b"late", credit=0)
    assert await silent.acks() == {lost.lease.lease_id: False}
    await other.succeed(again, result=b"good")
    assert await other.acks() == {again.lease.lease_id: True}
    assert (await stubs.wait(task.name)).result == b"good"


async def test_a_silent_worker_gets_nothing_more_until_it_speaks(
    dispatcher: Any, stubs: Any
) -> None:
    silent = await dispatcher.worker("silent", slots=2)
    task = await stubs.submit()
    (lost,) = await silent.assigned()
    healthy = await dispatcher.worker("healthy")
    (again,) = await healthy.assigned(seconds=5)
    assert again.task.name == task.name
    beating = asyncio.ensure_future(heartbeats(healthy, again))
    frame = await silent.read()
    assert frame.lease_state.lost_lease_ids == [lost.lease.lease_id]
    listed = await stubs.pools.ListWorkers(pool_service_pb2.ListWorkersRequest(parent=POOL))
    states = {each.name.rpartition("/")[2]: each.state for each in listed.workers}
    kinds = pool_service_pb2.Worker
    assert states == {"silent": kinds.LOST, "healthy": kinds.BUSY}
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert pool.stats.slots_total == 1
    more = await stubs.submit()
    await asyncio.sleep(0.3)
    assert (await stubs.get(more.name)).state == _State.PENDING
    await silent.send(heartbeat=worker_service_pb2.Heartbeat())
    (one,) = await silent.assigned()
    assert one.task.name == more.name
    beating.cancel()


async def test_a_heartbeat_that_names_what_is_not_the_workers_is_answered(dispatcher: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    await asyncio.sleep(0.1)  # nothing else is under way that would give the pool a turn
    await worker.send(heartbeat=worker_service_pb2.Heartbeat(lease_ids=["never-was"]))
    frame = await worker.read()
    assert frame.lease_state.lost_lease_ids == ["never-was"]


async def test_a_heartbeat_that_changes_nothing_gives_the_pool_no_turn(dispatcher: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    await asyncio.sleep(0.1)
    pump, turns = dispatcher.dispatcher.pump, list[Any]()
    known = pump.registry.by_name[POOL].fleet.workers.get(worker.session_id)
    before, pump.changed = known.last_heartbeat, turns.append
    await worker.send(heartbeat=worker_service_pb2.Heartbeat())
    await polling.until(lambda: known.last_heartbeat > before)
    await asyncio.sleep(0.1)
    assert turns == []


async def test_a_worker_may_tell_of_a_loss_and_live(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    worker = await dispatcher.worker("pod")
    for _ in range(2):
        (one,) = await worker.assigned()
        assert one.lease.attempt == 1
        await worker.fail(one, reason="OUT_OF_MEMORY", worker_loss=True)
    done = await stubs.wait(task.name)
    assert (done.state, done.attempt, done.worker_losses) == (_State.DEAD_LETTERED, 0, 2)
    assert done.error.message == "no good"


async def test_a_task_that_loses_its_workers_is_dead_lettered(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    for number in range(2):
        worker = await dispatcher.worker(f"pod-{number}")
        await worker.assigned()
        gone = fleet_service_pb2.SyncPoolsRequest(
            epoch=1,
            worker_gone=fleet_service_pb2.WorkerGone(
                pool=POOL, pod_name=worker.pod, pod_uid=f"uid-{worker.pod}", reason="OOMKilled"
            ),
        )
        call = stubs.fleet.SyncPools()
        await call.write(gone)
        with pytest.raises(grpc.aio.AioRpcError):
            await worker.read()
        call.cancel()
    done = await stubs.wait(task.name)
    assert done.state == _State.DEAD_LETTERED
    assert done.worker_losses == 2
    assert "OOMKilled" in done.error.message


async def test_a_repeated_outcome_is_acknowledged_again(dispatcher: Any, stubs: Any) -> None:
    await stubs.submit()
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    await worker.succeed(one)
    assert await worker.acks() == {one.lease.lease_id: True}
    await worker.succeed(one, credit=0)
    assert await worker.acks() == {one.lease.lease_id: True}


async def test_a_worker_that_reconnects_keeps_what_it_runs(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=2)
    (one,) = await worker.assigned()
    worker.vanish()
    await worker.connect(running=[one.lease], credit=1)
    assert not worker.welcome.revoked_lease_ids
    await worker.succeed(one, result=b"kept", credit=0)
    await worker.acks()
    done = await stubs.wait(task.name)
    assert (done.result, done.attempt, done.worker_losses) == (b"kept", 1, 0)


async def test_an_assignment_that_never_arrived_is_given_out_again(
    dispatcher: Any, stubs: Any
) -> None:
    task = await stubs.submit()
    worker = await dispatcher.worker("pod-1")
    await worker.assigned()
    worker.vanish()
    await worker.connect(running=[])
    (again,) = await worker.assigned()
    assert (again.task.name, again.lease.attempt) == (task.name, 1)


async def test_what_was_given_to_another_is_revoked(dispatcher: Any, stubs: Any) -> None:
    await stubs.submit()
    first = await dispatcher.worker("first")
    (lost,) = await first.assigned()
    first.vanish()
    other = await dispatcher.worker("other")
    (again,) = await other.assigned(seconds=5)
    beating = asyncio.ensure_future(heartbeats(other, again))
    await first.connect(running=[lost.lease], credit=0)
    assert list(first.welcome.revoked_lease_ids) == [lost.lease.lease_id]
    beating.cancel()


async def test_the_newest_stream_of_a_session_counts(
    dispatcher: Any, stubs: Any, rich: Any
) -> None:
    worker = await dispatcher.worker("pod-1")
    old = worker.call
    await worker.connect()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await old.read()
    assert rich(error.value).reason == "STALE_SESSION"
    task = await stubs.submit()
    (one,) = await worker.assigned()
    assert one.task.name == task.name


async def test_a_new_process_in_a_pod_replaces_the_old_one(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    old = await dispatcher.worker("pod-1")
    await old.assigned()
    new = await dispatcher.worker("pod-1")
    assert new.session_id != old.session_id
    (again,) = await new.assigned()
    assert again.task.name == task.name
    assert (await stubs.get(task.name)).worker_losses == 1


async def test_a_cancel_that_is_not_heeded_ends_with_its_grace(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    beating = asyncio.ensure_future(heartbeats(worker, one))
    await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=task.name))
    assert (await stubs.wait(task.name)).state == _State.CANCELLED
    beating.cancel()


async def test_an_execution_time_out_is_an_attempt(dispatcher: Any, stubs: Any) -> None:
    policy = task_pb2.RetryPolicy(max_attempts=1)
    task = await stubs.submit(execution_timeout={"nanos": 200_000_000}, retry_policy=policy)
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    beating = asyncio.ensure_future(heartbeats(worker, one))
    done = await stubs.wait(task.name)
    assert (done.state, done.attempt) == (_State.FAILED, 1)
    assert done.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    beating.cancel()


@pytest.mark.parametrize("pod", ["pod-1", "Host_1-4711", "Büro 2.local-1", "x" * 249])
async def test_drain_by_hand_and_back(dispatcher: Any, stubs: Any, pod: str) -> None:
    worker = await dispatcher.worker(pod)
    name = f"{POOL}/workers/{pod}"
    shown = await stubs.pools.DrainWorker(pool_service_pb2.DrainWorkerRequest(name=name))
    assert shown.state == pool_service_pb2.Worker.DRAINING
    frame = await worker.read()
    assert frame.drain.reservation_id == shown.reservation_id
    task = await stubs.submit()
    shown = await stubs.pools.UndrainWorker(pool_service_pb2.UndrainWorkerRequest(name=name))
    assert shown.state == pool_service_pb2.Worker.READY
    assert (await worker.read()).undrain.reservation_id == frame.drain.reservation_id
    await worker.send(credit=worker_service_pb2.Credit(slots=1))
    (one,) = await worker.assigned()
    assert one.task.name == task.name


async def test_a_worker_that_stops_finishes_and_leaves(dispatcher: Any, stubs: Any) -> None:
    await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=2)
    (one,) = await worker.assigned()
    await worker.send(drain_started=worker_service_pb2.DrainStarted(reason="SIGTERM"))
    table = dispatcher.dispatcher.pump.registry.named(POOL).fleet.workers
    await polling.until(lambda: [w.state.name for w in table.all()] == ["DRAINING"])
    await stubs.submit()
    await worker.succeed(one)
    await worker.acks()
    await worker.send(goodbye=worker_service_pb2.Goodbye(reason="drained"))
    await polling.until(lambda: len(table) == 0)
    listed = await stubs.pools.ListWorkers(pool_service_pb2.ListWorkersRequest(parent=POOL))
    assert not listed.workers
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert (pool.stats.pending, pool.stats.in_flight) == (1, 0)


async def test_a_frame_that_makes_no_sense_ends_the_stream(dispatcher: Any, rich: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    await worker.outcomes([worker_service_pb2.TaskOutcome(lease_id="x")], credit=0)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await worker.read()
    assert rich(error.value).reason == "INVALID_FIELD"


async def test_open_calls_return_to_nothing_when_clients_vanish(
    dispatcher: Any, stubs_for: Any, raw_worker: Any
) -> None:
    calls = dispatcher.dispatcher.calls
    clients = [stubs_for(dispatcher.address) for _ in range(20)]
    waits = []
    for number, client in enumerate(clients):
        await raw_worker(client, pod=f"pod-{number}").connect(credit=0)
        task = await client.submit()
        waits.append(asyncio.ensure_future(client.wait(task.name, 60)))
        stream = client.tasks.StreamSubmitTasks()
        await stream.write(small_batch())
        await stream.read()
    await client.sync(*dispatcher.pools)
    await polling.until(lambda: calls.open.total() == 61)
    for wait in waits:
        wait.cancel()
    for client in clients:
        await client.channel.close()
    await polling.until(lambda: calls.open.total() == 0)
    pump = dispatcher.dispatcher.pump
    assert not pump.outboxes
    assert not pump.on_replaced
    assert not pump.waiters
    await asyncio.gather(*waits, return_exceptions=True)


def small_batch() -> Any:
    return task_service_pb2.BatchSubmitTasksRequest(
        parent=POOL,
        requests=[task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"))],
    )
