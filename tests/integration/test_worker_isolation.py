"""Handlers in processes of their own, against a real dispatcher process."""

import asyncio
import pathlib
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from penstock.v1 import task_pb2, task_service_pb2
from rig import wire, worker_processes

HANDLERS = pathlib.Path(__file__).with_name("isolated_handlers.py")
CANCEL_GRACE_SECONDS = 2
State = task_pb2.Task


@pytest_asyncio.fixture
async def stubs(dispatcher_process: Any, stubs_for: Any) -> AsyncIterator[wire.Stubs]:
    """Stubs of a dispatcher process with one pool."""
    await asyncio.to_thread(
        dispatcher_process.configure,
        wire.pool_config(cancel_grace=CANCEL_GRACE_SECONDS, max_worker_losses=2),
    )
    made = stubs_for(dispatcher_process.address)
    yield made
    await made.channel.close()


@pytest.fixture
def start(
    dispatcher_process: Any, tmp_path: pathlib.Path
) -> Iterator[Callable[..., worker_processes.WorkerProcess]]:
    """Start a worker of the handlers, isolated."""
    shutil.copy(HANDLERS, tmp_path / "handlers.py")
    workers = worker_processes.Workers(tmp_path)

    def made(slots: int = 1, **environment: str) -> worker_processes.WorkerProcess:
        arguments = ("--isolation", "process", "handlers:worker")
        return workers.start(dispatcher_process.address, *arguments, slots=slots, **environment)

    yield made
    workers.close()


async def run(stubs: Any, type_: str, payload: bytes = b"", **fields: Any) -> Any:
    task = await stubs.submit(type=type_, payload=payload, **fields)
    return await stubs.wait(task.name, 20)


async def test_handlers_do_what_they_do_without(stubs: Any, start: Any, rich: Any) -> None:
    worker = start()
    payload = bytes(range(256)) * 4096
    assert (await run(stubs, "echo", payload)).result == payload
    counted = [(await run(stubs, "count")) for _ in range(3)]
    assert [each.result for each in counted] == [b"1", b"2", b"3"], "one process, used again"
    assert counted[0].result_content_type == "application/json"
    done = await run(stubs, "hopeless")
    assert (done.state, done.error.message) == (State.DEAD_LETTERED, "never")
    assert rich((await run(stubs, "grow", b"5000000")).error).reason == "RESULT_TOO_LARGE"
    assert worker.lines("outcome=completed")
    assert len(worker.lines("task started")) == len(worker.lines("task ended")) == 6


@pytest.mark.parametrize(
    ("kind", "payload", "reason", "cause"),
    [
        ("leave", b"7", "PROCESS_DIED", "exited with status 7 while the handler ran"),
        ("leave", b"0", "PROCESS_DIED", "exited with status 0 while the handler ran"),
        ("crash", b"", "PROCESS_DIED", "was ended by SIGSEGV while the handler ran"),
        ("killed", b"", "PROCESS_KILLED", "which the worker did not send"),
    ],
)
async def test_a_crash_is_the_loss_of_one_attempt(
    kind: str, payload: bytes, reason: str, cause: str, stubs: Any, start: Any, rich: Any
) -> None:
    worker = start(slots=2)
    beside = await stubs.submit(type="doze", payload=b"4")
    await asyncio.to_thread(worker.until, "task started")
    done = await run(stubs, kind, payload)
    assert (done.state, done.attempt, done.worker_losses) == (State.DEAD_LETTERED, 0, 2)
    assert rich(done.error).reason == reason
    assert cause in done.error.message
    assert (await run(stubs, "echo", b"next")).result == b"next"
    done = await stubs.wait(beside.name)
    assert (done.state, done.attempt, done.worker_losses) == (State.SUCCEEDED, 1, 0)


@pytest.mark.parametrize("kind", ["deaf", "patient"])
async def test_cancel_ends_a_handler_whether_it_looks_or_not(
    kind: str, stubs: Any, start: Any
) -> None:
    worker = start()
    task = await stubs.submit(type=kind)
    await asyncio.to_thread(worker.until, f"{kind} ")
    pid = int(worker.lines(f"{kind} ")[-1].split()[1])
    began = time.monotonic()
    request = task_service_pb2.CancelTaskRequest(name=task.name)
    await stubs.tasks.CancelTask(request, timeout=5)
    assert (await stubs.wait(task.name)).state == State.CANCELLED
    await asyncio.to_thread(worker.until, "outcome=cancelled", 5)
    assert time.monotonic() - began < CANCEL_GRACE_SECONDS + 0.5
    after = int((await run(stubs, "process_id")).result)
    assert (after == pid) == (kind == "patient"), "only what did not stop was killed"


async def test_a_time_out_ends_a_handler_that_never_looks(stubs: Any, start: Any) -> None:
    worker = start()
    once = task_pb2.RetryPolicy(max_attempts=1)
    done = await run(stubs, "deaf", retry_policy=once, execution_timeout={"seconds": 1})
    assert (done.state, done.error.code) == (State.FAILED, 4)
    assert (await run(stubs, "echo", b"free")).result == b"free"
    assert len(worker.lines("outcome=failed")) == 1


async def test_sigterm_finishes_what_runs(stubs: Any, start: Any) -> None:
    worker = start()
    task = await stubs.submit(type="doze", payload=b"1.5")
    await asyncio.to_thread(worker.until, "task started")
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.exit_status) == 0
    assert (await stubs.get(task.name)).state == State.SUCCEEDED


async def test_no_handler_outlives_its_worker(stubs: Any, start: Any) -> None:
    worker = start(slots=2)
    for _ in range(2):
        await stubs.submit(type="deaf")
    async with asyncio.timeout(20):
        while len(worker.lines("deaf ")) < 2:
            await asyncio.sleep(0.05)
    below = worker_processes.below(worker.process.pid)
    assert len(below) == 3
    worker.signal(signal.SIGKILL)
    await asyncio.to_thread(worker.exit_status)
    async with asyncio.timeout(10):
        while [each for each in below if worker_processes.state(each) not in ("", "Z")]:
            await asyncio.sleep(0.05)
