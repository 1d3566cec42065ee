"""A checkpoint reaches the next attempt, whoever was killed: worker processes of every mode against
a real dispatcher process.
"""

import asyncio
import pathlib
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from penstock.v1 import task_pb2
from rig import wire, worker_processes

HANDLERS = pathlib.Path(__file__).with_name("checkpoint_handlers.py")
SCRIPT = b"""
if [ -e "$PENSTOCK_TASK_CHECKPOINT" ]; then cat "$PENSTOCK_TASK_CHECKPOINT"; exit; fi
for page in 6 7; do
    printf 'page %s' $page >"$PENSTOCK_TASK_CHECKPOINT.new"
    mv "$PENSTOCK_TASK_CHECKPOINT.new" "$PENSTOCK_TASK_CHECKPOINT"
done
echo "0.25 page 7 of 28" >"$PENSTOCK_TASK_PROGRESS"
sleep 60
"""
THREADS = ("handlers:worker",)
PROCESSES = ("--isolation", "process", "handlers:worker")
COMMAND = ("exec", "--", "/bin/sh")
MODES = {
    "function": (THREADS, {"type": "pages"}),
    "coroutine": (THREADS, {"type": "async_pages"}),
    "process": (PROCESSES, {"type": "pages"}),
    "command": (COMMAND, {"payload": SCRIPT}),
}
State = task_pb2.Task


@pytest_asyncio.fixture
async def stubs(dispatcher_process: Any, stubs_for: Any) -> AsyncIterator[wire.Stubs]:
    """Stubs of a dispatcher process with one pool of short leases."""
    config = wire.pool_config(
        lease_duration=3,
        heartbeat_interval=1,
        reconnect_grace=2,
        retry_policy=twice(),
    )
    await asyncio.to_thread(dispatcher_process.configure, config)
    made = stubs_for(dispatcher_process.address)
    yield made
    await made.channel.close()


@pytest.fixture
def start(
    dispatcher_process: Any, tmp_path: pathlib.Path
) -> Iterator[Callable[..., worker_processes.WorkerProcess]]:
    """Start a worker of one slot with these arguments."""
    shutil.copy(HANDLERS, tmp_path / "handlers.py")
    workers = worker_processes.Workers(tmp_path)

    def made(*arguments: str) -> worker_processes.WorkerProcess:
        return workers.start(dispatcher_process.address, *arguments)

    yield made
    workers.close()


def twice() -> Any:
    policy = task_pb2.RetryPolicy(max_attempts=2)
    policy.initial_backoff.FromMilliseconds(10)
    return policy


async def told(stubs: Any, name: str, seconds: float = 20) -> Any:
    """The task, once it shows progress."""
    async with asyncio.timeout(seconds):
        while True:
            seen = await stubs.get(name)
            if seen.HasField("progress"):
                return seen
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("arguments", "task"), MODES.values(), ids=MODES)
async def test_after_kill_9_of_its_worker_another_goes_on_from_there(
    stubs: Any, start: Any, arguments: tuple[str, ...], task: dict[str, Any]
) -> None:
    first = start(*arguments)
    submitted = await stubs.submit(**task)
    seen = await told(stubs, submitted.name)
    assert (seen.state, seen.progress.fraction) == (State.RUNNING, 0.25)
    assert seen.progress.message == "page 7 of 28"
    first.signal(signal.SIGKILL)
    start(*arguments)
    done = await stubs.wait(submitted.name, 30)
    assert (done.state, done.result) == (State.SUCCEEDED, b"page 7"), done.error
    assert (done.attempt, done.worker_losses) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "task"), [MODES["function"], MODES["command"]], ids=["function", "command"]
)
async def test_after_kill_9_of_both_another_goes_on_from_there(
    stubs: Any, start: Any, dispatcher_process: Any, arguments: Any, task: Any
) -> None:
    first = start(*arguments)
    submitted = await stubs.submit(**task)
    await told(stubs, submitted.name)
    # Progress is shown before it is durable; what is accepted later is durable later.
    later = await stubs.submit(**task)
    first.signal(signal.SIGKILL)
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    start(*arguments)
    done = await stubs.wait(submitted.name, 30)
    assert (done.state, done.result) == (State.SUCCEEDED, b"page 7"), done.error
    assert done.name != later.name


async def test_a_dispatcher_that_comes_back_is_told_again(
    stubs: Any, start: Any, dispatcher_process: Any
) -> None:
    worker = start(*THREADS)
    submitted = await stubs.submit(type="pages")
    await told(stubs, submitted.name)
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    await asyncio.to_thread(worker.until, "stream ended")
    seen = await told(stubs, submitted.name)
    assert (seen.state, seen.progress.message) == (State.RUNNING, "page 7 of 28")
    assert len(worker.lines("task started")) == 1


@pytest.mark.parametrize("arguments", [THREADS, PROCESSES], ids=["thread", "process"])
async def test_what_is_saved_right_before_a_failure_is_not_lost(
    stubs: Any, start: Any, arguments: tuple[str, ...]
) -> None:
    start(*arguments)
    submitted = await stubs.submit(type="fails_once")
    done = await stubs.wait(submitted.name, 20)
    assert (done.state, done.result) == (State.SUCCEEDED, b"before it failed"), done.error
    assert (done.attempt, done.worker_losses) == (2, 0)


async def test_a_command_that_is_killed_has_saved_what_it_moved_into_place(
    stubs: Any, start: Any, tmp_path: pathlib.Path
) -> None:
    start(*COMMAND)
    script = SCRIPT.replace(b"sleep 60", b"kill -9 $$")
    submitted = await stubs.submit(payload=script)
    done = await stubs.wait(submitted.name, 20)
    assert (done.state, done.result) == (State.SUCCEEDED, b"page 7"), done.error
    assert done.worker_losses == 1
