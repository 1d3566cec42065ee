"""What integration tests share: a dispatcher in this process, one in a process of its own, and a
worker and a client made of raw stubs.

Nothing here talks to anything but loopback.
"""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock.v1 import (
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    pool_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from penstock_dispatcher import server

POOL = "namespaces/default/pools/demo"
READ_SECONDS = 10.0


def pool_config(name: str = POOL, uid: str = "uid-demo", **fields: Any) -> Any:
    """A PoolConfig; durations may be given in seconds."""
    config = fleet_service_pb2.PoolConfig(name=name, uid=uid, generation=1)
    for field, value in fields.items():
        if field == "rate_limit":
            config.rate_limit.tasks, config.rate_limit.burst = value[0], value[2]
            config.rate_limit.period.FromMilliseconds(int(value[1] * 1000))
        elif field == "retry_policy":
            config.retry_policy.CopyFrom(value)
        elif isinstance(getattr(config, field), int | bool | str):
            setattr(config, field, value)
        else:
            getattr(config, field).FromMilliseconds(int(value * 1000))
    return config


class Stubs:
    """The four services over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.tasks: Any = task_service_pb2_grpc.TaskServiceStub(channel)
        self.pools: Any = pool_service_pb2_grpc.PoolServiceStub(channel)
        self.work: Any = worker_service_pb2_grpc.WorkerServiceStub(channel)
        self.fleet: Any = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def submit(self, *, parent: str = POOL, **fields: Any) -> Any:
        """Submit one task: fields of the request by name, all others are the task's."""
        outer = {
            key: fields.pop(key)
            for key in ("task_id", "request_id", "validate_only", "admission")
            if key in fields
        }
        fields.setdefault("type", "noop")
        request = task_service_pb2.SubmitTaskRequest(
            parent=parent, task=task_pb2.Task(**fields), **outer
        )
        return (await self.tasks.SubmitTask(request, timeout=READ_SECONDS)).task

    async def get(self, name: str) -> Any:
        """GetTask."""
        request = task_service_pb2.GetTaskRequest(name=name)
        return await self.tasks.GetTask(request, timeout=READ_SECONDS)

    async def wait(self, name: str, seconds: float = READ_SECONDS) -> Any:
        """WaitTask."""
        request = task_service_pb2.WaitTaskRequest(name=name)
        request.timeout.FromMilliseconds(int(seconds * 1000))
        return await self.tasks.WaitTask(request, timeout=seconds + 5)

    async def sync(self, *configs: Any, epoch: int = 1) -> Any:
        """An operator's first full list; returns the open stream, synced."""
        call = self.fleet.SyncPools()
        for config in configs:
            await call.write(fleet_service_pb2.SyncPoolsRequest(upsert=config, epoch=epoch))
        await call.write(
            fleet_service_pb2.SyncPoolsRequest(sync_end=fleet_service_pb2.SyncEnd(), epoch=epoch)
        )
        async with asyncio.timeout(READ_SECONDS):
            first = await call.read()
        assert first is not grpc.aio.EOF, await call.details()
        assert first.synced
        return call


class RawWorker:
    """A worker made of the raw stream; every step is the test's own."""

    def __init__(self, stubs: Stubs, *, pod: str, pool: str = POOL, slots: int = 1) -> None:
        self.stubs, self.pod, self.pool, self.slots = stubs, pod, pool, slots
        self.session_id = ""
        self.welcome: Any = None
        self.call: Any = None

    async def connect(
        self, *, running: Iterable[Any] = (), credit: int | None = None, **fields: Any
    ) -> "RawWorker":
        """Hello, Welcome, Credit (all slots unless given)."""
        self.call = self.stubs.work.Work()
        hello = worker_service_pb2.Hello(
            pool=self.pool,
            pod_name=self.pod,
            pod_uid=f"uid-{self.pod}",
            session_id=self.session_id,
            slots=self.slots,
            protocol_version=1,
            running=running,
        )
        hello.MergeFrom(worker_service_pb2.Hello(**fields))
        await self.send(hello=hello)
        frame = await self.read()
        assert frame.WhichOneof("message") == "welcome", frame
        self.welcome = frame.welcome
        self.session_id = self.welcome.session_id
        free = self.slots if credit is None else credit
        if free:
            await self.send(credit=worker_service_pb2.Credit(slots=free))
        return self

    async def send(self, **frame: Any) -> None:
        """Send one frame."""
        await self.call.write(worker_service_pb2.WorkRequest(**frame))

    async def read(self, seconds: float = READ_SECONDS) -> Any:
        """The next frame. Raises TimeoutError, EOFError."""
        async with asyncio.timeout(seconds):
            frame = await self.call.read()
        if frame is grpc.aio.EOF:
            raise EOFError(f"{await self.call.code()}: {await self.call.details()}")
        return frame

    async def assigned(self, count: int = 1, seconds: float = READ_SECONDS) -> list[Any]:
        """The next `count` assignments; acknowledgements in between are passed over."""
        found: list[Any] = []
        while len(found) < count:
            frame = await self.read(seconds)
            if frame.WhichOneof("message") == "assignments":
                found.extend(frame.assignments.assignments)
            else:
                assert frame.WhichOneof("message") == "outcome_acks", frame
        assert len(found) == count
        return found

    async def nothing(self, seconds: float = 0.2) -> None:
        """Assert that nothing but acknowledgements comes for a while. The stream cannot be used
        afterwards.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    frame = await self.read()
                    assert frame.WhichOneof("message") == "outcome_acks", frame

    async def succeed(self, *assignments: Any, result: bytes = b"", credit: int = -1) -> None:
        """Report success; credit for as many slots unless given."""
        outcomes = [
            worker_service_pb2.TaskOutcome(
                lease_id=one.lease.lease_id,
                fencing_token=one.lease.fencing_token,
                completed=worker_service_pb2.TaskOutcome.Completed(result=result),
            )
            for one in assignments
        ]
        await self.outcomes(outcomes, credit=len(outcomes) if credit < 0 else credit)

    async def fail(self, one: Any, *, reason: str = "ValueError", retryable: bool = True) -> None:
        """Report a failure."""
        status = status_pb2.Status(code=2, message="no good")
        info = error_details_pb2.ErrorInfo(reason=reason, domain="worker.penstock.dev")
        status.details.add().Pack(info)
        failed = worker_service_pb2.TaskOutcome.Failed(error=status, retryable=retryable)
        outcome = worker_service_pb2.TaskOutcome(
            lease_id=one.lease.lease_id, fencing_token=one.lease.fencing_token, failed=failed
        )
        await self.outcomes([outcome], credit=1)

    async def outcomes(self, outcomes: list[Any], *, credit: int) -> None:
        """Report outcomes."""
        await self.send(outcomes=worker_service_pb2.TaskOutcomes(outcomes=outcomes, credit=credit))

    async def acks(self, count: int = 1) -> dict[str, bool]:
        """The next `count` acknowledgements, by lease id."""
        found: dict[str, bool] = {}
        while len(found) < count:
            frame = await self.read()
            assert frame.WhichOneof("message") == "outcome_acks", frame
            found.update({ack.lease_id: ack.accepted for ack in frame.outcome_acks.acks})
        return found

    def vanish(self) -> None:
        """The stream breaks."""
        if self.call is not None:
            self.call.cancel()


class Served:
    """A dispatcher in this process, with what tests need around it."""

    def __init__(self, settings: server.Settings, pools: list[Any]) -> None:
        self.settings = settings
        self.pools = pools
        self.dispatcher: server.Dispatcher = None  # type: ignore[assignment]
        self._channels: list[grpc.aio.Channel] = []

    @property
    def address(self) -> str:
        """host:port; stays the same over `restart`."""
        return self.dispatcher.address

    async def start(self) -> None:
        """Start, with the seed pools."""
        self.dispatcher = server.Dispatcher(self.settings)
        await self.dispatcher.start(self.pools)
        self.settings = dataclasses.replace(self.settings, listen=self.address)

    async def stop(self) -> None:
        """Stop in order."""
        await self.dispatcher.stop()

    async def restart(self) -> None:
        """Stop, and start again on the same data and port."""
        await self.stop()
        await self.start()

    def channel(self) -> grpc.aio.Channel:
        """A channel of its own; closed with the fixture."""
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
        )
        made = grpc.aio.insecure_channel(self.address, options=options)
        self._channels.append(made)
        return made

    def stubs(self) -> Stubs:
        """Stubs over a channel of their own."""
        return Stubs(self.channel())

    async def worker(self, pod: str, **fields: Any) -> RawWorker:
        """A connected raw worker."""
        slots = fields.pop("slots", 1)
        pool = fields.pop("pool", POOL)
        return await RawWorker(self.stubs(), pod=pod, slots=slots, pool=pool).connect(**fields)

    async def close(self) -> None:
        """Close channels, stop."""
        for channel in self._channels:
            await channel.close()
        await self.stop()


@pytest.fixture
def pools() -> list[Any]:
    """The seed pools of `dispatcher`; override it in a module or a class."""
    return [pool_config()]


@pytest.fixture
def make_pool() -> Callable[..., Any]:
    """`pool_config`."""
    return pool_config


@pytest_asyncio.fixture
async def dispatcher(tmp_path: pathlib.Path, pools: list[Any]) -> AsyncIterator[Served]:
    """A real dispatcher on a free loopback port with its journal in `tmp_path`."""
    served = Served(
        server.Settings(
            listen="127.0.0.1:0",
            http="127.0.0.1:0",
            data=tmp_path / "data",
            journal_reserve_bytes=1024 * 1024,
        ),
        pools,
    )
    await served.start()
    try:
        yield served
    finally:
        await served.close()


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Callable[..., Any]:
    """`async with serve(pools=…, **settings) as served`, for tests that need settings of their
    own.
    """

    @contextlib.asynccontextmanager
    async def make(*, pools: Iterable[Any] = (), **settings: Any) -> AsyncIterator[Served]:
        settings.setdefault("listen", "127.0.0.1:0")
        settings.setdefault("data", tmp_path / "data")
        settings.setdefault("journal_reserve_bytes", 1024 * 1024)
        served = Served(server.Settings(**settings), list(pools) or [pool_config()])
        await served.start()
        try:
            yield served
        finally:
            await served.close()

    return make


@pytest_asyncio.fixture
async def stubs(dispatcher: Served) -> Stubs:
    """Stubs of `dispatcher`."""
    return dispatcher.stubs()


class DispatcherProcess:
    """A dispatcher in a process of its own, that can be killed and started again."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{_free_port()}"
        self.http_address = f"127.0.0.1:{_free_port()}"
        self.log = folder / "dispatcher.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.arguments: list[str] = []

    def start(self, *, wait: bool = True) -> None:
        """Start; returns when it serves. Raises RuntimeError if it ends instead."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "penstock_dispatcher", "--listen", self.address),
                    *("--http", self.http_address, "--data", str(self.folder / "data")),
                    *self.arguments,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        if wait:
            self.wait_until_serving()

    def wait_until_serving(self, seconds: float = 20.0) -> None:
        """Return when health says SERVING."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        with grpc.insecure_channel(
            self.address, options=(("grpc.use_local_subchannel_pool", 1),)
        ) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise RuntimeError(f"it ended: {self.log.read_text()[-2000:]}")
                with contextlib.suppress(grpc.RpcError):
                    answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                time.sleep(0.05)
        raise RuntimeError(f"it does not serve: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds: float = 15.0) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def configure(self, *configs: Any) -> None:
        """Put pools in force, as an operator does (blocking)."""
        with grpc.insecure_channel(
            self.address, options=(("grpc.use_local_subchannel_pool", 1),)
        ) as channel:
            requests = [
                fleet_service_pb2.SyncPoolsRequest(upsert=config, epoch=1)
                for config in configs or (pool_config(),)
            ]
            requests.append(
                fleet_service_pb2.SyncPoolsRequest(sync_end=fleet_service_pb2.SyncEnd(), epoch=1)
            )
            synced = threading.Event()

            def stay() -> Iterator[Any]:
                yield from requests
                # An operator that says no more is gone, and hears no more either.
                synced.wait(READ_SECONDS)

            call = fleet_service_pb2_grpc.FleetServiceStub(channel).SyncPools(stay())
            assert next(iter(call)).synced
            synced.set()
            call.cancel()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def dispatcher_process(tmp_path: pathlib.Path) -> Iterator[DispatcherProcess]:
    """A running dispatcher process without pools; see `DispatcherProcess.configure`."""
    made = DispatcherProcess(tmp_path)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()


@pytest.fixture
def stubs_for() -> Callable[[str], Stubs]:
    """Stubs for an address, each over a channel of its own."""

    def make(address: str) -> Stubs:
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
        )
        return Stubs(grpc.aio.insecure_channel(address, options=options))

    return make


@pytest.fixture
def raw_worker() -> type[RawWorker]:
    """The class `RawWorker`, for tests that bring their own stubs."""
    return RawWorker


@dataclasses.dataclass(frozen=True)
class RichError:
    """What a refusal carries."""

    code: grpc.StatusCode
    reason: str
    message: str
    details: dict[str, Any]
    pushback_ms: str | None


@pytest.fixture
def rich() -> Callable[[Any], RichError]:
    """Take the details out of a grpc.aio error, or out of a google.rpc.Status."""

    def take(error: Any) -> RichError:
        kinds = {
            kind.DESCRIPTOR.full_name: kind
            for kind in (
                error_details_pb2.ErrorInfo,
                error_details_pb2.RetryInfo,
                error_details_pb2.QuotaFailure,
                error_details_pb2.BadRequest,
                error_details_pb2.ResourceInfo,
                error_details_pb2.PreconditionFailure,
            )
        }
        pushback = None
        if isinstance(error, status_pb2.Status):
            status = error
            code = next(c for c in grpc.StatusCode if c.value[0] == status.code)
        else:
            trailers = dict(error.trailing_metadata())
            status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
            code, pushback = error.code(), trailers.get("grpc-retry-pushback-ms")
        details = {}
        for packed in status.details:
            name = packed.type_url.rpartition("/")[2]
            found = kinds[name]()
            assert packed.Unpack(found)
            details[name.rpartition(".")[2]] = found
        return RichError(code, details["ErrorInfo"].reason, status.message, details, pushback)

    return take
