"""A worker's stream against dispatchers that misbehave: silent, deaf, or never acknowledging."""

import asyncio
import contextlib
import logging
import pathlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest

from penstock.v1 import task_pb2, worker_service_pb2_grpc
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import Task, Worker, executor, readiness, session, settings, stream

worker = Worker()
PATIENCE = stream.Patience(connect=5, welcome=0.5, write=0.5, goodbye=0.2, tick=0.05)


@worker.task
async def doze(_: Any) -> None:
    await asyncio.sleep(60)


@worker.task
def width(task: Task) -> bytes:
    return str(task.slots).encode()


@worker.task
def quick(_: Any) -> bytes:
    return b"done"


class Dispatcher(worker_service_pb2_grpc.WorkerServiceServicer):
    """Welcomes (or not), assigns what it was given once, and never acknowledges anything."""

    def __init__(
        self, *types: str, slots: int = 1, welcomes: bool = True, reads: bool = True
    ) -> None:
        self.frames: list[wire.WorkRequest] = []
        self.tokens: list[str] = []
        self._types, self._slots = list(types), slots
        self._welcomes, self._reads = welcomes, reads

    async def Work(self, frames: Any, context: Any) -> None:  # noqa: N802
        self.tokens.append(dict(context.invocation_metadata()).get("authorization", ""))
        self.frames.append(await context.read())
        if self._welcomes:
            await context.write(wire.WorkResponse(welcome=wire.Welcome(session_id="s")))
        assignments = [
            wire.Assignment(
                task=task_pb2.Task(type=kind, slots=self._slots),
                lease=wire.Lease(task="t", lease_id=kind, fencing_token=1, attempt=1),
            )
            for kind in self._types
        ]
        self._types = []
        if assignments:
            frame = wire.Assignments(assignments=assignments)
            await context.write(wire.WorkResponse(assignments=frame))
        while self._reads:
            frame = await context.read()
            if frame is grpc.aio.EOF:
                return
            self.frames.append(frame)
        await asyncio.sleep(60)

    async def saw(self, kind: str, count: int = 1) -> None:
        async with asyncio.timeout(10):
            while [each.WhichOneof("message") for each in self.frames].count(kind) < count:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def served(dispatcher: Dispatcher) -> AsyncIterator[str]:
    server = grpc.aio.server()
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(dispatcher, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


Talking = tuple[stream.Stream, "asyncio.Task[None]"]
Talk = Callable[..., Talking]


@pytest.fixture
def talk() -> Any:
    """Start a worker for a dispatcher's address, of one slot unless told otherwise; close it with
    the test.
    """
    closing: list[executor.Executor] = []

    def start(address: str, *, asked: str = "", **more: Any) -> Talking:
        config = settings.Settings(pool="namespaces/d/pools/p", address=address, **more)
        identity = session.Identity(
            pool=config.pool,
            pool_uid="",
            pod_name="pod",
            pod_uid="uid",
            slots=config.slots,
            task_types=worker.types,
            revision="",
            sdk_version="",
        )
        made = stream.Stream(
            config,
            identity=identity,
            ready=readiness.Readiness(0),
            draw=lambda: 0.1,
            patience=PATIENCE,
            hand_back_seconds=0.5,
        )
        work = executor.Executor(worker, config.slots, made.ended, made.progressed)
        closing.append(work)
        if asked:
            made.stop(asked)
        return made, asyncio.create_task(made.run(work))

    yield start
    for each in closing:
        each.close()


async def ends(running: "asyncio.Task[None]", seconds: float = 5.0) -> float:
    """Wait until it ends by itself; returns how long that took."""
    began = time.monotonic()
    await asyncio.wait_for(running, seconds)
    return time.monotonic() - began


async def test_a_task_of_several_slots_is_given_them_and_gives_them_back(talk: Talk) -> None:
    dispatcher = Dispatcher("width", slots=3)
    async with served(dispatcher) as address:
        subject, running = talk(address, slots=4)
        await dispatcher.saw("outcomes")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert subject.session.free_slots == 4
    granted = [each.credit.slots for each in dispatcher.frames if each.HasField("credit")]
    (ended,) = [each.outcomes for each in dispatcher.frames if each.HasField("outcomes")]
    assert granted == [4]
    assert ended.outcomes[0].completed.result == b"3"
    assert ended.credit == 3


async def test_told_to_stop_before_it_runs_it_does_not_begin(talk: Talk) -> None:
    _, running = talk("127.0.0.1:1", asked="SIGTERM")
    await ends(running)


async def test_it_leaves_a_stream_on_which_no_welcome_comes(talk: Talk) -> None:
    dispatcher = Dispatcher(welcomes=False)
    async with served(dispatcher) as address:
        subject, running = talk(address)
        await dispatcher.saw("hello")
        subject.stop("SIGTERM")
        await ends(running)


async def test_without_a_welcome_it_tries_another_stream(talk: Talk) -> None:
    dispatcher = Dispatcher(welcomes=False)
    async with served(dispatcher) as address:
        subject, running = talk(address)
        await dispatcher.saw("hello", 3)
        subject.stop("SIGTERM")
        await ends(running)


async def test_it_leaves_a_dispatcher_that_does_not_read(talk: Talk) -> None:
    dispatcher = Dispatcher(reads=False)
    async with served(dispatcher) as address:
        subject, running = talk(address)
        async with asyncio.timeout(5):
            while not subject.session.welcomed:
                await asyncio.sleep(0.01)
        subject.stop("SIGTERM")
        await ends(running)


async def test_an_outcome_nobody_acknowledges_is_waited_for_and_then_named(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Dispatcher("quick")
    async with served(dispatcher) as address:
        subject, running = talk(address, drain_timeout_seconds=1.0)
        await dispatcher.saw("outcomes")
        subject.stop("SIGTERM")
        assert await ends(running) >= 1.4, "the drain time-out, and what is allowed on top"
    assert subject.session.unacknowledged == ["quick"]
    assert "leases=quick" in caplog.text


async def test_it_is_waited_for_without_a_dispatcher_too(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Dispatcher("quick")
    async with served(dispatcher) as address:
        subject, running = talk(address, drain_timeout_seconds=1.0)
        await dispatcher.saw("outcomes")
    subject.stop("SIGTERM")
    assert await ends(running, 8) >= 1.4
    assert "leases=quick" in caplog.text


async def test_what_never_ends_is_handed_back_and_not_waited_for(talk: Talk) -> None:
    dispatcher = Dispatcher("doze")
    async with served(dispatcher) as address:
        subject, running = talk(address, drain_timeout_seconds=0.3)
        async with asyncio.timeout(5):
            while not subject.session.running:
                await asyncio.sleep(0.01)
        subject.stop("SIGTERM")
        await ends(running)
    last = [each for each in dispatcher.frames if each.HasField("outcomes")][-1]
    (ended,) = last.outcomes.outcomes
    assert ended.HasField("released")
    assert ended.execution_time.ToMilliseconds() >= 300, "it had begun"


async def test_a_token_that_cannot_be_read_for_a_while_ends_nothing(
    talk: Talk, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = Dispatcher("doze")
    token = tmp_path / "token"
    async with served(dispatcher) as address:
        with caplog.at_level(logging.WARNING):
            subject, running = talk(address, token_file=str(token), drain_timeout_seconds=0.1)
            async with asyncio.timeout(5):
                while "PENSTOCK_TOKEN_FILE" not in caplog.text:
                    await asyncio.sleep(0.01)
        token.write_text("not\na token")  # gRPC refuses to send it
        await asyncio.sleep(0.5)
        token.write_text("secret\n")
        await dispatcher.saw("hello")
        assert dispatcher.tokens == ["Bearer secret"]
        subject.stop("SIGTERM")
        await ends(running)
