"""A worker that runs a command for each task, against a real dispatcher process."""

import asyncio
import json
import os
import pathlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio

from penstock.v1 import task_pb2, task_service_pb2
from rig import wire, worker_processes

State = task_pb2.Task
CANCEL_GRACE_SECONDS = 3
BINARY = bytes(range(256)) * 4096

# The payload is the script: each test says what its command does.
SHELL = ("exec", "--", "/bin/sh")


@pytest.fixture
def workers(tmp_path: pathlib.Path) -> Iterator[worker_processes.Workers]:
    """Starts workers; whatever is left of them ends with the test."""
    made = worker_processes.Workers(tmp_path)
    yield made
    made.close()


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
def start(dispatcher_process: Any, workers: Any) -> Callable[..., worker_processes.WorkerProcess]:
    """Start a worker with these arguments."""

    def made(*arguments: str, **more: Any) -> worker_processes.WorkerProcess:
        return workers.start(dispatcher_process.address, *arguments, **more)

    return made


def twice() -> Any:
    policy = task_pb2.RetryPolicy(max_attempts=2)
    policy.initial_backoff.FromMilliseconds(10)
    return policy


async def run(stubs: Any, script: str, seconds: float = 20, **fields: Any) -> Any:
    """Submit a shell script; the task when it is over."""
    task = await stubs.submit(type="sh", payload=script.encode(), **fields)
    return await stubs.wait(task.name, seconds)


async def cancel(stubs: Any, name: str) -> None:
    await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=name), timeout=5)


async def file_text(path: pathlib.Path, seconds: float = 10) -> str:
    """What a command writes into a file, once it has."""

    def wait() -> str:
        deadline = time.monotonic() + seconds
        while not (path.exists() and path.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return path.read_text().strip()

    return await asyncio.to_thread(wait)


async def test_bytes_go_through_unchanged(stubs: Any, start: Any) -> None:
    start("exec", "--content-type", "image/png", "--", "cat")
    for payload in (BINARY, b"", b"\0"):
        task = await stubs.submit(payload=payload)
        done = await stubs.wait(task.name)
        assert (done.state, done.result) == (State.SUCCEEDED, payload)
        assert done.result_content_type == ("image/png" if payload else "")


async def test_a_command_may_leave_its_input_unread(stubs: Any, start: Any) -> None:
    start("exec", "--", "echo", "not interested")
    task = await stubs.submit(payload=BINARY)
    done = await stubs.wait(task.name)
    assert (done.state, done.result) == (State.SUCCEEDED, b"not interested\n")


async def test_the_exit_status_decides(stubs: Any, start: Any, rich: Any) -> None:
    worker = start("exec", "--no-retry", "3", "--no-retry", "65", *SHELL[1:])
    done = await run(
        stubs, "echo one >&2; printf 'two\\377\\nthree' >&2; exit 4", retry_policy=twice()
    )
    assert (done.state, done.attempt) == (State.DEAD_LETTERED, 2)
    assert rich(done.error).reason == "EXIT_4"
    assert "exited with status 4" in done.error.message
    assert done.error.message.endswith("one\ntwo\\xff\nthree")
    for text in ("one", "two\\xff", "three"):
        assert len(worker.lines(f"task stderr task={done.name} {text}")) == 2
    for status in (3, 65):
        done = await run(stubs, f"exit {status}", retry_policy=twice())
        assert (done.state, done.attempt) == (State.DEAD_LETTERED, 1)
        assert rich(done.error).reason == f"EXIT_{status}"
    done = await run(stubs, "kill -SEGV $$", retry_policy=twice())
    assert (done.state, done.attempt, rich(done.error).reason) == (
        State.DEAD_LETTERED,
        2,
        "SIGSEGV",
    )


async def test_what_the_system_does_not_start_is_a_failure(
    stubs: Any, start: Any, rich: Any, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "work").write_text("no first line that says how\n")
    (tmp_path / "work").chmod(0o755)
    start("exec", "--", "./work")
    done = await run(stubs, "", retry_policy=twice())
    assert (done.state, done.attempt) == (State.DEAD_LETTERED, 2)
    assert rich(done.error).reason == "COMMAND_NOT_STARTED"
    assert done.error.message == "cannot start './work': Exec format error"


async def test_status_75_asks_to_be_tried_later(stubs: Any, start: Any) -> None:
    start("exec", "--retry-later-seconds", "1", *SHELL[1:])
    began = time.monotonic()
    done = await run(stubs, '[ "$PENSTOCK_TASK_ATTEMPT" = 2 ] || exit 75; echo now')
    assert (done.state, done.attempt, done.result) == (State.SUCCEEDED, 2, b"now\n")
    assert time.monotonic() - began >= 1


async def test_what_a_command_is_told(stubs: Any, start: Any) -> None:
    start(
        "exec",
        "--type",
        "sh",
        "--",
        sys.executable,
        "-c",
        "import json, os; print(json.dumps(dict(os.environ)))",
        PENSTOCK_TASK_LABELS="an older one",
        TRACESTATE="not this task's",
    )
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    other = await stubs.submit(type="other")
    task = await stubs.submit(
        type="sh",
        content_type="text/plain",
        priority=-7,
        labels={"a-b": "ü", "x": "1\n2"},
        trace_context={"traceparent": parent},
        execution_timeout={"seconds": 90},
    )
    done = await stubs.wait(task.name)
    told = json.loads(done.result)
    assert told["PENSTOCK_TASK_NAME"] == task.name
    assert task.name.endswith("/" + told["PENSTOCK_TASK_ID"])
    assert (told["PENSTOCK_TASK_TYPE"], told["PENSTOCK_TASK_ATTEMPT"]) == ("sh", "1")
    assert told["PENSTOCK_TASK_CONTENT_TYPE"] == "text/plain"
    assert told["PENSTOCK_TASK_PRIORITY"] == "-7"
    assert json.loads(told["PENSTOCK_TASK_LABELS"]) == {"a-b": "ü", "x": "1\n2"}
    assert (told["PENSTOCK_TASK_LABEL_A_B"], told["PENSTOCK_TASK_LABEL_X"]) == ("ü", "1\n2")
    assert 80 < float(told["PENSTOCK_TASK_DEADLINE"]) - time.time() <= 90
    assert 80 < int(told["PENSTOCK_TASK_REMAINING_SECONDS"]) <= 90
    assert told["TRACEPARENT"] == parent
    assert "TRACESTATE" not in told
    assert told["PENSTOCK_POOL"] == "demo"
    assert (await stubs.get(other.name)).state == State.PENDING, "of another type"


async def test_too_large_a_result_is_refused_without_being_held(
    stubs: Any, start: Any, rich: Any
) -> None:
    worker = start(*SHELL)
    warm = await run(stubs, "head -c 4000000 /dev/zero")
    assert warm.state == State.SUCCEEDED
    before = memory_kib(worker.process.pid)
    for size in (4194305, 10485760, 1 << 30):
        done = await run(stubs, f"head -c {size} /dev/zero", retry_policy=twice())
        assert (done.state, done.attempt) == (State.DEAD_LETTERED, 1)
        assert rich(done.error).reason == "RESULT_TOO_LARGE"
        assert "more than 4194304 bytes" in done.error.message
    done = await run(stubs, "yes", retry_policy=twice())
    assert rich(done.error).reason == "RESULT_TOO_LARGE", "one that never ends"
    assert memory_kib(worker.process.pid) < before + 32 * 1024


def command_line(pid: int) -> bytes:
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()


def memory_kib(pid: int) -> int:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


async def test_cancel_is_sigterm_and_then_sigkill_within_the_grace(
    stubs: Any, start: Any, tmp_path: pathlib.Path
) -> None:
    worker = start(*SHELL, slots=2)
    polite = await stubs.submit(
        type="sh", payload=b"trap 'echo bye >&2; exit 0' TERM; echo $$ >p; sleep 60 & wait"
    )
    deaf = await stubs.submit(type="sh", payload=b"trap '' TERM; echo $$ >d; sleep 60; sleep 60")
    pids = [int(await file_text(tmp_path / name)) for name in ("p", "d")]
    began = time.monotonic()
    await cancel(stubs, polite.name)
    assert (await stubs.wait(polite.name)).state == State.CANCELLED
    assert time.monotonic() - began < CANCEL_GRACE_SECONDS / 2
    assert worker.lines("bye")
    began = time.monotonic()
    await cancel(stubs, deaf.name)
    assert (await stubs.wait(deaf.name)).state == State.CANCELLED
    await asyncio.to_thread(worker.until, "outcome=cancelled", 10)
    assert time.monotonic() - began < CANCEL_GRACE_SECONDS + 0.5
    assert [worker_processes.state(pid) for pid in pids] == ["", ""]
    assert (await run(stubs, "echo free")).result == b"free\n"
    (keeper,) = worker_processes.below(worker.process.pid)
    assert worker_processes.below(keeper) == [], "the sleeps went with their groups"


async def test_a_time_out_is_a_failed_attempt_with_what_was_said(stubs: Any, start: Any) -> None:
    worker = start(*SHELL)
    done = await run(
        stubs,
        "echo getting there >&2; sleep 60",
        retry_policy=task_pb2.RetryPolicy(max_attempts=1),
        execution_timeout={"seconds": 1},
    )
    assert (done.state, done.error.code) == (State.FAILED, 4)
    assert done.error.message.endswith("getting there")
    assert len(worker.lines("outcome=failed")) == 1


async def test_a_command_killed_from_outside_is_a_worker_loss(
    stubs: Any, start: Any, rich: Any
) -> None:
    worker = start(*SHELL)
    done = await run(stubs, "echo last words >&2; kill -KILL $$")
    assert (done.state, done.attempt, done.worker_losses) == (State.DEAD_LETTERED, 0, 2)
    assert rich(done.error).reason == "PROCESS_KILLED"
    assert "which the worker did not send" in done.error.message
    assert done.error.message.endswith("last words")
    assert len(worker.lines("outcome=lost")) == 2
    assert (await run(stubs, "echo next")).state == State.SUCCEEDED


async def test_sigterm_waits_for_the_command(
    stubs: Any, start: Any, tmp_path: pathlib.Path
) -> None:
    worker = start(*SHELL)
    task = await stubs.submit(type="sh", payload=b"echo $$ >pid; sleep 1.5; echo done")
    await file_text(tmp_path / "pid")
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.exit_status) == 0
    done = await stubs.get(task.name)
    assert (done.state, done.result) == (State.SUCCEEDED, b"done\n")


async def test_a_drain_time_out_ends_the_command_and_hands_the_task_back(
    stubs: Any, start: Any, tmp_path: pathlib.Path
) -> None:
    worker = start(*SHELL, PENSTOCK_DRAIN_TIMEOUT_SECONDS="1")
    task = await stubs.submit(type="sh", payload=b"trap '' TERM; echo $$ >pid; sleep 60; sleep 60")
    pid = int(await file_text(tmp_path / "pid"))
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.exit_status) == 0
    assert worker_processes.state(pid) == ""
    after = await stubs.get(task.name)
    assert (after.state, after.attempt, after.worker_losses) == (State.PENDING, 0, 0)


@pytest.mark.parametrize("how", ["worker", "keeper", "interrupts"])
async def test_no_command_outlives_its_worker(
    how: str, stubs: Any, start: Any, tmp_path: pathlib.Path
) -> None:
    worker = start(*SHELL)
    script = "trap '' TERM; setsid sleep 1002 & sleep 1000 & echo $$ >pid; sleep 1001; sleep 1003"
    task = await stubs.submit(type="sh", payload=script.encode())
    pid = int(await file_text(tmp_path / "pid"))
    await asyncio.sleep(0.3)
    keeper = next(each for each in worker_processes.below(worker.process.pid) if each < pid)
    everything = [keeper, *worker_processes.below(keeper)]
    assert len(everything) == 5
    apart = next(each for each in everything if b"1002" in command_line(each))
    if how == "worker":
        worker.signal(signal.SIGKILL)
    elif how == "keeper":
        os.kill(keeper, signal.SIGKILL)
        # Whoever has left the group as well is out of everybody's reach.
        everything.remove(apart)
    else:
        worker.signal(signal.SIGINT)
        await asyncio.to_thread(worker.until, "SIGINT received")
        worker.signal(signal.SIGINT)
    status = await asyncio.to_thread(worker.exit_status)
    assert status == {"worker": -signal.SIGKILL, "keeper": 1, "interrupts": 130}[how]
    async with asyncio.timeout(10):
        while [each for each in everything if worker_processes.state(each) not in ("", "Z")]:
            await asyncio.sleep(0.05)
    if how == "keeper":
        os.kill(apart, signal.SIGKILL)
        assert (await stubs.get(task.name)).worker_losses == 1
        assert worker.lines("the worker leaves")


async def test_nothing_is_left_after_two_hundred_runs(stubs: Any, start: Any) -> None:
    worker = start(*SHELL, slots=4)
    assert (await run(stubs, "echo warm")).state == State.SUCCEEDED
    (keeper,) = worker_processes.below(worker.process.pid)

    def held() -> list[int]:
        return [
            len(list(pathlib.Path(f"/proc/{pid}/{kind}").iterdir()))
            for pid in (worker.process.pid, keeper)
            for kind in ("fd", "task")
        ]

    before = held()
    scripts = (
        "cat; echo out",
        "sleep 30 >&- 2>&- & exit 3",
        "setsid true & :",
        "exec 0<&- 1>&- 2>&-",
    )
    once = task_pb2.RetryPolicy(max_attempts=1)
    tasks = [
        await stubs.submit(type="sh", payload=scripts[number % 4].encode(), retry_policy=once)
        for number in range(200)
    ]
    ends = [(await stubs.wait(task.name, 60)).state for task in tasks]
    assert ends == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED, State.SUCCEEDED] * 50
    assert held() == before
    assert worker_processes.below(worker.process.pid) == [keeper], "no child, and no zombie"


async def test_the_result_ends_when_its_last_writer_does(stubs: Any, start: Any) -> None:
    """A shell does not wait for the programs behind its redirections."""
    worker = start(*SHELL)
    done = await run(stubs, "(sleep 0.5; echo late) & echo soon")
    assert (done.state, done.result) == (State.SUCCEEDED, b"soon\nlate\n")
    assert not worker.lines("not waited for")
    began = time.monotonic()
    done = await run(stubs, "sleep 60 & echo soon")
    assert (done.state, done.result) == (State.SUCCEEDED, b"soon\n")
    assert time.monotonic() - began < 5
    assert len(worker.lines(f"not waited for task={done.name}")) == 1
    async with asyncio.timeout(5):
        while len(worker_processes.below(worker.process.pid)) > 1:
            await asyncio.sleep(0.05)


async def test_a_command_starts_with_a_clean_slate(stubs: Any, start: Any) -> None:
    """No signal is ignored, none blocked; three descriptors; a group of its own, no terminal."""
    start(*SHELL)
    script = "grep -E 'Sig(Ign|Blk)' /proc/self/status; ls /proc/$$/fd; ps -o sid= -p $$; echo $$"
    done = await run(stubs, script)
    lines = done.result.split()
    # Of the C library's own (32 and 33), which no program can set, make leaves some ignored.
    settable = (1 << 31) - 1
    assert [int(mask, 16) & settable for mask in (lines[1], lines[3])] == [0, 0]
    assert lines[4:7] == [b"0", b"1", b"2"]
    assert lines[-2] == lines[-1], "it leads its session"
    assert len(lines) == 9
