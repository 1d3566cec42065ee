"""Progress and checkpoints on the wire: what people see of them, and the next attempt."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from penstock.v1 import task_pb2, task_service_pb2, worker_service_pb2
from rig import wire

POOL = wire.POOL
State = task_pb2.Task


async def tell(worker: Any, one: Any, **progress: Any) -> None:
    """One progress frame of an assignment."""
    await worker.send(
        progress=worker_service_pb2.TaskProgress(
            lease_id=one.lease.lease_id, progress=task_pb2.Progress(**progress)
        )
    )


@pytest_asyncio.fixture
async def events(stubs: Any) -> AsyncIterator[Any]:
    """Everything that changes in the pool, as a watcher sees it."""
    call = stubs.tasks.WatchTasks(task_service_pb2.WatchTasksRequest(parent=POOL))

    async def following() -> AsyncIterator[task_pb2.Task]:
        async for event in call:
            if event.HasField("task"):
                yield event.task

    yield following()
    call.cancel()


async def test_progress_is_shown_and_another_attempt_begins_anew(
    dispatcher: Any, stubs: Any, events: Any
) -> None:
    task = await stubs.submit()
    worker = await dispatcher.worker("pod")
    (first,) = await worker.assigned()
    await tell(worker, first, fraction=0.25, message="page 7 of 28", checkpoint=b"7")
    async with asyncio.timeout(10):
        async for seen in events:
            if seen.HasField("progress"):
                break
    assert (seen.state, seen.progress.fraction) == (State.RUNNING, 0.25)
    shown = (await stubs.get(task.name)).progress
    assert (shown.fraction, shown.message) == (0.25, "page 7 of 28")
    assert shown.checkpoint == b"", "it is the worker's own"
    assert shown.update_time.seconds > 1_600_000_000
    # A checkpoint alone says nothing of how far it is.
    await tell(worker, first, checkpoint=b"8")
    await worker.fail(first)
    (second,) = await worker.assigned()
    assert second.checkpoint == b"8"
    assert not (await stubs.get(task.name)).HasField("progress")
    await tell(worker, second, fraction=1.0)
    await worker.succeed(second)
    done = await stubs.wait(task.name)
    assert (done.state, done.progress.fraction) == (State.SUCCEEDED, 1.0)


@pytest.mark.parametrize(
    ("progress", "field"),
    [
        ({"checkpoint": b"x" * 65_537}, "progress.progress.checkpoint"),
        ({"message": "ä" * 513}, "progress.progress.message"),
        ({"fraction": 1.5}, "progress.progress.fraction"),
        ({"fraction": float("nan")}, "progress.progress.fraction"),
    ],
)
async def test_what_is_beyond_its_bound_ends_the_stream(
    dispatcher: Any, stubs: Any, rich: Any, progress: dict[str, Any], field: str
) -> None:
    await stubs.submit()
    worker = await dispatcher.worker("pod")
    (one,) = await worker.assigned()
    await tell(worker, one, checkpoint=b"x" * 65_536, message="ä" * 512)
    await tell(worker, one, **progress)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await worker.read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (refused.value.details() or "")
    seen = (await stubs.get(one.task.name)).progress
    assert seen.message == "ä" * 512, "what was good is kept"
