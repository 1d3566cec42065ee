"""Every attempt ends once, whatever its handler does."""

import asyncio
import contextlib
import gc
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from google.rpc import error_details_pb2

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import Task, Worker, executor

worker = Worker()


@worker.task
def echo(task: Task) -> bytes:
    return task.payload


@worker.task
async def async_echo(task: Task) -> bytes:
    return task.payload


@worker.task
def leaves(_: Task) -> None:
    sys.exit(3)


@worker.task
async def async_leaves(_: Task) -> None:
    sys.exit(3)


@worker.task
async def async_child_leaves(_: Task) -> str:
    async def child() -> None:
        sys.exit(3)

    started = asyncio.create_task(child())
    await asyncio.wait([started])
    with contextlib.suppress(SystemExit):
        await started
    return "outlived it"


@worker.task
async def async_stops_its_loop(_: Task) -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return "went on"


@worker.task
async def async_cancels_itself(_: Task) -> None:
    raise asyncio.CancelledError


class Odd(BaseException):
    """Neither an Exception nor one of those that asyncio lets through."""


@worker.task
async def async_odd(_: Task) -> None:
    raise Odd


@worker.task
async def doze(_: Task) -> None:
    await asyncio.sleep(60)


@worker.task
def patient(task: Task) -> None:
    task.sleep(60)


@worker.task
async def blocks_the_loop(task: Task) -> None:
    time.sleep(float(task.payload))  # noqa: ASYNC251 - the offence that is tried here


def steps(task: Task) -> str:
    for step in range(100):
        task.progress(step / 100, f"step {step}")
        task.save_checkpoint(f"{task.checkpoint.decode()}{step}".encode())
    return "done"


@worker.task
def tells(task: Task) -> str:
    return steps(task)


@worker.task
async def async_tells(task: Task) -> str:
    return steps(task)


@worker.task
def tells_too_much(task: Task) -> None:
    task.save_checkpoint(b"x" * 65_537)


@worker.task
def unsayable(_: Task) -> object:
    return object()


class Rig:
    """Starts attempts, and takes their ends."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, wire.TaskOutcome]] = []
        self.told: list[task_pb2.Progress] = []
        self._changed = asyncio.Event()
        self.executor = executor.Executor(worker, 4, self._ended, self._progressed)

    def _ended(self, lease_id: str, outcome: wire.TaskOutcome) -> None:
        self.ends.append((lease_id, outcome))
        self._changed.set()

    def _progressed(self, _: str, progress: task_pb2.Progress) -> None:
        self.told.append(progress)
        self._changed.set()

    def start(self, type_: str, lease_id: str = "1", *, payload: bytes = b"", **more: Any) -> None:
        self.executor.start(
            wire.Assignment(
                task=task_pb2.Task(type=type_, payload=payload),
                lease=wire.Lease(task="t", lease_id=lease_id, attempt=1),
                **more,
            )
        )

    async def outcome(self, lease_id: str = "1") -> wire.TaskOutcome:
        async with asyncio.timeout(10):
            while True:
                found = [outcome for ended, outcome in self.ends if ended == lease_id]
                if found:
                    return found[0]
                await self._changed.wait()
                self._changed.clear()

    async def run(self, type_: str, **more: Any) -> wire.TaskOutcome:
        """The outcome of one attempt, after which both kinds of handler still work."""
        self.start(type_, **more)
        outcome = await self.outcome()
        for number, kind in enumerate(("echo", "async_echo"), start=100):
            self.start(kind, str(number), payload=b"on")
            after = await self.outcome(str(number))
            assert after.completed.result == b"on", after
        assert len(self.ends) == 3, "each ended once"
        return outcome


@pytest_asyncio.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    made.executor.close()


def reason(outcome: wire.TaskOutcome) -> str:
    info = error_details_pb2.ErrorInfo()
    assert outcome.failed.error.details[0].Unpack(info)
    return str(info.reason)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("leaves", "SystemExit"),
        ("async_leaves", "SystemExit"),
        ("async_cancels_itself", "CancelledError"),
        ("async_odd", "Odd"),
        ("unsayable", "TypeError"),
    ],
)
async def test_a_failure_comes_of_whatever_is_raised(rig: Rig, kind: str, why: str) -> None:
    outcome = await rig.run(kind)
    assert reason(outcome) == why
    assert outcome.failed.retryable


@pytest.mark.parametrize("kind", ["async_child_leaves", "async_stops_its_loop"])
async def test_the_handlers_loop_goes_on_whatever_is_done_to_it(rig: Rig, kind: str) -> None:
    assert (await rig.run(kind)).HasField("completed")


@pytest.mark.parametrize("kind", ["doze", "patient"])
@pytest.mark.parametrize("pause", [0, 0.2])
async def test_a_cancelled_attempt_ends_even_before_its_first_step(
    rig: Rig, kind: str, pause: float
) -> None:
    rig.start(kind)
    if pause:
        await asyncio.sleep(pause)
    rig.executor.stop("1", "cancelled")
    assert (await rig.outcome()).HasField("cancelled")
    rig.executor.stop("1", "too late")


async def test_a_deadline_that_is_over_ends_it_before_its_first_step(rig: Rig) -> None:
    rig.start("doze", deadline={"seconds": 1})
    assert reason(await rig.outcome()) == "EXECUTION_TIMEOUT"


async def test_an_unknown_type_is_told(rig: Rig) -> None:
    outcome = await rig.run("nobody knows")
    assert reason(outcome) == "UNKNOWN_TASK_TYPE"
    assert "async_echo" in outcome.failed.error.message


async def test_a_blocked_handlers_loop_holds_up_no_plain_function(rig: Rig) -> None:
    """Neither their starts and ends, nor their time-outs and cancels."""
    rig.start("blocks_the_loop", "blocked", payload=b"3")
    await asyncio.sleep(0.1)
    began = time.monotonic()
    rig.start("echo", "echo", payload=b"through")
    rig.start("patient", "cancelled")
    late = wire.Assignment()
    late.deadline.FromMilliseconds(int(time.time() * 1000) + 200)
    rig.start("patient", "late", deadline=late.deadline)
    assert (await rig.outcome("echo")).completed.result == b"through"
    rig.executor.stop("cancelled", "enough")
    assert (await rig.outcome("cancelled")).HasField("cancelled")
    assert reason(await rig.outcome("late")) == "EXECUTION_TIMEOUT"
    assert time.monotonic() - began < 2, "while the loop stood still"
    assert (await rig.outcome("blocked")).HasField("completed")


async def test_no_thread_to_be_had_is_a_failure(rig: Rig) -> None:
    rig.executor.close()  # its threads take nothing more
    rig.start("echo")
    assert reason(await rig.outcome()) == "RuntimeError"


@pytest.mark.parametrize("kind", ["tells", "async_tells"])
async def test_the_newest_that_a_handler_tells_comes_before_its_end(rig: Rig, kind: str) -> None:
    rig.start(kind, checkpoint=b"from ")
    outcome = await rig.outcome()
    assert outcome.completed.result == b"done"
    assert (rig.told[-1].fraction, rig.told[-1].message) == (0.99, "step 99")
    assert [each.checkpoint for each in rig.told if each.checkpoint][-1] == b"from 99"


@pytest.mark.parametrize("kind", ["echo", "async_echo", "tells", "async_tells"])
async def test_no_task_outlives_its_attempt(rig: Rig, kind: str) -> None:
    """Not even until the cyclic collector runs: payloads may be large, and tasks many."""

    def alive() -> list[Task]:
        return [each for each in gc.get_objects() if type(each) is Task and each.payload == b"big"]

    gc.collect()
    gc.disable()
    try:
        rig.start(kind, payload=b"big", deadline={"seconds": int(time.time()) + 600})
        assert (await rig.outcome()).HasField("completed")
        until = time.monotonic() + 10  # its thread lets go of it a moment after its end
        while alive() and time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert not alive()
    finally:
        gc.enable()


async def test_too_large_a_checkpoint_is_the_handlers_own_error(rig: Rig) -> None:
    rig.start("tells_too_much")
    outcome = await rig.outcome()
    assert reason(outcome) == "ValueError"
    assert "65536 bytes" in outcome.failed.error.message
    assert rig.told == []


async def test_ends_are_told_in_the_callers_loop(rig: Rig) -> None:
    here = threading.get_ident()
    told: list[int] = []
    on_end: Callable[[str, wire.TaskOutcome], None] = lambda *_: told.append(threading.get_ident())  # noqa: E731
    subject = executor.Executor(worker, 1, on_end, lambda *_: None)
    subject.start(wire.Assignment(task=task_pb2.Task(type="echo"), lease=wire.Lease(lease_id="1")))
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.01)
    assert told == [here]
    subject.close()
