"""Whose stream is it: sessions of different pools never meet, and nobody is told another's id; of
several whose pods have one name, the one that is there is meant.
"""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2

OURS = "namespaces/y/pools/b"
THEIRS = "namespaces/x/pools/a"


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [make_pool(OURS, "uid-y"), make_pool(THEIRS, "uid-x")]


async def test_a_session_id_of_another_pool_opens_nothing(dispatcher: Any, stubs: Any) -> None:
    ours = await dispatcher.worker("pod-y", pool=OURS)
    thief = await dispatcher.worker("pod-x", pool=THEIRS, session_id=ours.session_id)
    assert thief.session_id == ours.session_id
    task = await stubs.submit(parent=OURS, payload=b"secret")
    (one,) = await ours.assigned()
    assert one.task.payload == b"secret"
    await thief.nothing()
    # The thief's end is not our end either.
    thief.vanish()
    await ours.succeed(one, result=b"done")
    assert await ours.acks() == {one.lease.lease_id: True}
    assert (await stubs.wait(task.name)).state == task_pb2.Task.SUCCEEDED


async def test_a_session_of_before_a_restart_waits_for_its_own_pod(
    dispatcher: Any, rich: Any
) -> None:
    ours = await dispatcher.worker("pod-y", pool=OURS)
    await dispatcher.restart()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await dispatcher.worker("pod-z", pool=OURS, session_id=ours.session_id)
    assert rich(error.value).reason == "STALE_SESSION"
    again = await dispatcher.worker("pod-y", pool=OURS, session_id=ours.session_id)
    assert again.session_id == ours.session_id


async def test_lists_and_drains_tell_no_session_id(dispatcher: Any, stubs: Any) -> None:
    workers = [await dispatcher.worker(f"pod-{number}", pool=OURS) for number in range(5)]
    secrets = {worker.session_id for worker in workers}
    found: list[str] = []
    token = ""
    while True:
        answer = await stubs.pools.ListWorkers(
            pool_service_pb2.ListWorkersRequest(parent=OURS, page_size=2, page_token=token)
        )
        found.extend(worker.name.rpartition("/")[2] for worker in answer.workers)
        assert not any(secret in str(answer) for secret in secrets)
        token = answer.next_page_token
        if not token:
            break
    assert sorted(found) == [f"pod-{number}" for number in range(5)]
    drained = await stubs.pools.DrainWorker(
        pool_service_pb2.DrainWorkerRequest(name=f"{OURS}/workers/pod-3")
    )
    assert drained.reservation_id
    assert not any(secret in str(drained) for secret in secrets)


async def test_a_drained_worker_is_the_one_that_is_there(dispatcher: Any, stubs: Any) -> None:
    gone = await dispatcher.worker("pod-1", pool=OURS, pod_uid="uid-1")
    gone.vanish()
    await dispatcher.worker("pod-1", pool=OURS, pod_uid="uid-2")
    last = await dispatcher.worker("pod-1", pool=OURS, pod_uid="uid-3")
    name = f"{OURS}/workers/pod-1"
    request = pool_service_pb2.DrainWorkerRequest(name=name)
    assert (await stubs.pools.DrainWorker(request)).pod_uid == "uid-3"
    assert (await last.read()).drain.reservation_id
    back = pool_service_pb2.UndrainWorkerRequest(name=name)
    assert (await stubs.pools.UndrainWorker(back)).pod_uid == "uid-3"
    assert (await last.read()).undrain.reservation_id
    last.vanish()
    workers = dispatcher.dispatcher.pump.registry.by_name[OURS].fleet.workers
    async with asyncio.timeout(10):
        while workers.of_pod("uid-3").connected:
            await asyncio.sleep(0.01)
    assert (await stubs.pools.DrainWorker(request)).pod_uid == "uid-2"
