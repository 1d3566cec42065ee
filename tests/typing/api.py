"""How people use the public surface, for mypy --strict: it is read, never run."""

import contextlib
import datetime as dt
import pathlib
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import penstock
import penstock.testing
import penstock_worker
from penstock import errors


def submissions() -> Iterator[penstock.Submission]:
    yield penstock.Submission("resize", b"bytes")
    yield penstock.Submission("resize", "text", priority=5, labels={"team": "a"}, delay=1.5)
    yield penstock.Submission("resize", penstock.json_payload({"a": 1}), request_id="r-1")
    yield penstock.Submission(
        "resize",
        execution_timeout=dt.timedelta(minutes=1),
        retry_policy=penstock.RetryPolicy(max_attempts=1),
        fairness_key="tenant",
        concurrency_key="repository",
        slots=2,
        max_queue_time=dt.timedelta(seconds=30),
        expire_time=dt.datetime.now(dt.UTC),
    )


async def incoming() -> AsyncIterator[penstock.Submission]:
    for submission in submissions():
        yield submission


async def asynchronous() -> None:
    async with penstock.Client("127.0.0.1:50051", pool="thumbnails", timeout=10) as client:
        task = await client.submit(
            "resize",
            b"x",
            pool="team-a/thumbnails",
            priority=3,
            admission=penstock.Admission.WAIT,
            max_wait=dt.timedelta(seconds=5),
            retry=penstock.Retry(max_elapsed_seconds=60),
        )
        assert_type(task, penstock.Task)
        assert_type(await client.get(task), penstock.Task)
        assert_type(await client.get("t-1", pool="thumbnails"), penstock.Task)
        assert_type(await client.wait(task, timeout=5), penstock.Task)
        assert_type(await client.result(task), bytes)
        assert_type(await client.cancel(task.name, reason="not needed"), penstock.Task)
        assert_type(await client.retry(task), penstock.Task)
        assert_type(await client.update(task, priority=None, expire_time=None), penstock.Task)
        assert_type(await client.cancel_many([task, "t-2"], reason="enough"), penstock.Bulk)
        assert_type((await client.retry_many(query="*", preview=True)).sample, tuple[str, ...])
        assert_type((await client.purge(labels={"a": "b"}, force=True)).count, int)
        assert_type(await client.restore(from_uid="u", dry_run=True), penstock.Restore)
        await client.delete("t-1", pool="thumbnails", etag=task.etag)
        assert_type(await client.pool(), penstock.PoolInfo)
        assert_type(await client.pause(reason="a look"), penstock.PoolInfo)
        assert_type(await client.resume("thumbnails"), penstock.PoolInfo)
        assert_type(await client.drain(max_wait=None), penstock.PoolInfo)
        assert_type(await client.undrain("thumbnails"), penstock.PoolInfo)
        async for pool in client.pools("team-a"):
            assert_type(pool, penstock.PoolInfo)
        async for worker in client.workers():
            assert_type(worker.state, penstock.WorkerState)
        async for change in client.watch(tasks=[task]):
            assert_type(change.task, penstock.Task)
            assert_type(change.previous, penstock.TaskState | None)
        async for found in client.list(state=penstock.TaskState.PENDING, labels={"a": "b"}):
            assert_type(found, penstock.Task)
        async with contextlib.aclosing(client.submit_many(incoming())) as outcomes:
            async for outcome in outcomes:
                assert_type(outcome, penstock.Outcome)
                assert_type(outcome.error, penstock.PenstockError | None)
        async for outcome in client.submit_many(submissions()):
            assert_type(outcome.task, penstock.Task)


def blocking() -> None:
    with penstock.SyncClient(token_file="token") as client:
        try:
            task = client.submit("resize", "text", task_id="t-1")
        except penstock.QueueFull as full:
            assert_type(full.retry_after_seconds, float | None)
            return
        except (penstock.AdmissionTimeout, penstock.TooManyWaiters) as late:
            assert_type(late.retry_after_seconds, float | None)
            return
        except errors.PayloadTooLarge as error:
            assert_type(error.violations, tuple[errors.Violation, ...])
            return
        try:
            assert_type(client.result(task, timeout=5), bytes)
        except penstock.TaskFailed as failed:
            assert_type(failed.task, penstock.Task | None)
        except penstock.WaitTimeout as not_over:
            assert_type(not_over.task, penstock.Task | None)
        assert_type([outcome.name for outcome in client.submit_many(submissions())], list[str])
        assert_type(client.drain("thumbnails", max_wait=5).drained, bool)
        assert_type(client.update("t-1", schedule_time=dt.datetime.now(dt.UTC)), penstock.Task)
        assert_type(client.cancel_many(state=penstock.TaskState.PENDING).count, int)
        assert_type(client.retry_many(task_type="resize").done, bool)
        assert_type(list(client.list()), list[penstock.Task])
        assert_type(next(client.watch(resume_token="t")).resume_token, str)
        assert_type(list(client.pools()), list[penstock.PoolInfo])
        assert_type(client.pause("thumbnails", timeout=5), penstock.PoolInfo)
        assert_type(client.resume(), penstock.PoolInfo)
        assert_type(list(client.workers("thumbnails")), list[penstock.WorkerInfo])
        assert_type(task.start_time, dt.datetime | None)
        assert_type(task.error, penstock.TaskFailure | None)


def tested(worker: penstock_worker.Worker, path: pathlib.Path) -> None:
    @worker.task("resize")
    def resize(task: penstock_worker.Task) -> bytes:
        task.progress(0.5, "half")
        task.save_checkpoint(task.checkpoint or b"1")
        assert_type(task.told.checkpoint, bytes)
        assert_type(task.slots, int)
        return task.payload

    assert_type(resize(penstock.testing.task(b"x", labels={"a": "b"}, timeout=5)), bytes)
    with penstock.testing.dispatcher("thumbnails", path) as local:
        assert_type(local, penstock.testing.Local)
        with local.run(worker, pool="thumbnails", slots=2):
            assert_type(local.client(), penstock.SyncClient)
            assert_type(local.pools, tuple[str, ...])


async def tested_asynchronously(worker: penstock_worker.Worker) -> None:
    small = penstock.testing.pool("small", queue={"maxPending": 5})
    async with penstock.testing.dispatcher(small) as local, local.run(worker):
        assert_type(local.client(), penstock.Client)
        assert_type(local.address, str)


def mistakes(client: penstock.SyncClient, task: penstock.Task) -> None:
    """Each line must be refused: an ignore that is not needed is an error too."""
    client.submit("resize", {"not": "bytes"})  # type: ignore[arg-type]
    client.submit_many([], max_wait=3)  # type: ignore[call-arg]
    client.submit("resize", b"", urgency=3)  # type: ignore[call-arg]
    client.submit("resize", b"", priority="high")  # type: ignore[arg-type]
    client.list(state="PENDING")  # type: ignore[arg-type]
    task.priority = 3  # type: ignore[misc]
    penstock.testing.task({"not": "bytes"})  # type: ignore[arg-type]
    penstock.testing.dispatcher(5)  # type: ignore[arg-type]
