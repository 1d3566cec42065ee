"""One dispatcher: puts the parts together, runs them, and stops them in order.

Start: ports first (calls are answered STARTING, health says NOT_SERVING), then the journal is
loaded, then everything is served. Stop: admission closes (also
for those who wait for room), what was decided is committed, workers
are told to come back, calls that wait end with UNAVAILABLE, and the ports close; workers keep
running and find the next process. A journal that fails ends `run` with its exception.
"""

import asyncio
import contextlib
import dataclasses
import logging
import pathlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from penstock.v1 import (
    fleet_service_pb2,
    pool_service_pb2,
    task_service_pb2,
    worker_service_pb2,
)
from penstock_dispatcher import auth, clock, errors, http, loading, pump, registry
from penstock_dispatcher.core import budget, records
from penstock_dispatcher.journal import interface, memory, process, sqlite
from penstock_dispatcher.services import (
    answering,
    fleet_service,
    pool_service,
    task_service,
    worker_service,
)

_log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Also what workers and the Python client send and take. A task is read whole: a payload, a result
and an error of the largest size that is kept fit in; every other answer has a bound of its own."""
STREAMS_PER_CONNECTION_MAX: Final = 10_000
STOP_SECONDS: Final = 3.0
"""How long calls may take to end once they were told to."""
COMMIT_SECONDS: Final = 10.0
"""How long the last commit may take."""

OPTIONS: Final = (
    # A second server on the same port must fail, not share it silently.
    ("grpc.so_reuseport", 0),
    # A reader that stands still lets 5 MB gather with the defaults, 0.1 MB with these.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    # Callers ping every 20 s, also while nothing is said. Without this that is abuse, and ends the
    # connection. The argument has another name than its macro, …_MIN_RECV_PING_INTERVAL_….
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
)
_SERVICES: Final = (
    task_service_pb2.DESCRIPTOR.services_by_name["TaskService"].full_name,
    pool_service_pb2.DESCRIPTOR.services_by_name["PoolService"].full_name,
    worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name,
    fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name,
)
_HEALTH: Final = "grpc.health.v1.Health"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a dispatcher runs. Addresses are host:port, port 0 = any free one; `data` None = keep
    nothing; `http` "" = none; `auth_file` None = everything is open.
    """

    listen: str = "127.0.0.1:50051"
    http: str = ""
    data: pathlib.Path | None = None
    auth_file: pathlib.Path | None = None
    journal_pages_max: int = 0
    """Bound of the journal's file in pages of 4 KiB, 0 = the disk is the bound."""
    journal_reserve_bytes: int = sqlite.RESERVE_BYTES
    journal_salvage: bool = False
    """Use a damaged journal without what is damaged in it."""
    task_memory_bytes: int = budget.UNLIMITED
    """What the tasks of all pools may take together; see `core.budget` and `memory_limit`."""


class Dispatcher:
    """A running dispatcher. `address` is where it really listens."""

    def __init__(self, settings: Settings) -> None:
        clock_ = clock.Clock()
        log = records.RecordLog()
        self.settings = settings
        self.address = settings.listen
        self.http_address = settings.http
        self.calls = answering.Calls()
        self.journal = _journal(settings, failed=lambda error: self.pump.commits.fail(error))
        self.pump = pump.Pump(
            clock=clock_,
            log=log,
            journal=self.journal,
            pool_registry=registry.Registry(
                log=log, clock=clock_, memory=budget.Budget(settings.task_memory_bytes)
            ),
            dispatcher_id=secrets.token_hex(8),
        )
        self._workers = worker_service.WorkerService(self.pump, self.calls)
        self._fleet = fleet_service.FleetService(self.pump, self.calls)
        self._health = HealthServicer()
        interceptors = []
        if settings.auth_file is not None:
            interceptors.append(auth.Interceptor(auth.PolicyFile(settings.auth_file)))
        self._grpc = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
        self._register()
        self._http: http.HttpServer | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def _register(self) -> None:
        task = task_service_pb2.DESCRIPTOR.services_by_name["TaskService"]
        pool = pool_service_pb2.DESCRIPTOR.services_by_name["PoolService"]
        fleet = fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"]
        self._grpc.add_generic_rpc_handlers(
            (
                answering.handlers(task_service.TaskService(self.pump, self.calls), task),
                answering.handlers(pool_service.PoolService(self.pump, self.calls), pool),
                answering.handlers(self._fleet, fleet),
                self._workers.handlers(),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        names = (*_SERVICES, _HEALTH, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._grpc)

    async def start(self, pools: Sequence[fleet_service_pb2.PoolConfig] = ()) -> None:
        """Listen, load, serve; `pools` are put in force like an operator's. Raises JournalFailed,
        Refusal (a seed pool), OSError (a port).
        """
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        host, _, _ = self.settings.listen.rpartition(":")
        try:
            port = self._grpc.add_insecure_port(self.settings.listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.settings.listen}: {error}") from error
        self.address = f"{host}:{port}"
        if self.settings.http:
            http_host, _, http_port = self.settings.http.rpartition(":")
            self._http = http.HttpServer(
                self.pump, self.calls, host=http_host.strip("[]"), port=int(http_port)
            )
            await self._http.start()
            self.http_address = f"{http_host}:{self._http.port}"
        await self._grpc.start()
        self._tasks = [asyncio.create_task(self.pump.commits.run(), name="commits")]
        await loading.load(self.journal, self.pump)
        self._tasks += [
            asyncio.create_task(self.pump.beat(), name="beat"),
            asyncio.create_task(self.pump.compact(), name="compact"),
        ]
        for config in pools:
            self.pump.mark(self.pump.registry.configure(config))
        await self.pump.commits.idle()
        self.pump.serving = True
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving on %s", self.address)

    async def _set_health(self, status: Any) -> None:
        for service in ("", *_SERVICES):
            await self._health.set(service, status)

    async def failed(self) -> None:
        """Return never; raises JournalFailed when the journal does."""
        await asyncio.shield(self.pump.commits.failed)

    async def stop(self) -> None:
        """See the module's docstring. Idempotent."""
        self.pump.stopping = True
        self.pump.turn_away(errors.stopping())
        await self._health.enter_graceful_shutdown()
        if not self.pump.commits.failed.done() and self._tasks:
            with contextlib.suppress(interface.JournalFailed, TimeoutError):
                async with asyncio.timeout(COMMIT_SECONDS):
                    await self.pump.commits.idle()
        await self._workers.go_away()
        self._fleet.end()
        self.pump.waiters.wake_all(errors.stopping())
        self.pump.drains.wake_all(errors.stopping())
        self.pump.watches.end(errors.stopping())
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.journal.close)
            stack.push_async_callback(self._end_tasks)
            if self._http is not None:
                stack.push_async_callback(self._http.stop)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self.calls.none_open()
            await self._grpc.stop(0.2)
        _log.info("stopped")

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _journal(
    settings: Settings, *, failed: Callable[[interface.JournalFailed], None]
) -> interface.Journal:
    if settings.data is None:
        return memory.MemoryJournal(now=time.time_ns())
    return process.ProcessJournal(
        settings.data,
        pages_max=settings.journal_pages_max,
        reserve_bytes=settings.journal_reserve_bytes,
        salvage=settings.journal_salvage,
        failed=failed,
    )


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, *, pools: Sequence[fleet_service_pb2.PoolConfig] = ()
) -> AsyncIterator[Dispatcher]:
    """A dispatcher for the length of a block: for tests, and for programs that bring their own."""
    dispatcher = Dispatcher(settings)
    try:
        await dispatcher.start(pools)
        yield dispatcher
    finally:
        await dispatcher.stop()


async def run(
    settings: Settings,
    *,
    pools: Sequence[fleet_service_pb2.PoolConfig] = (),
    stop: asyncio.Event | None = None,
    started: Callable[[Dispatcher], None] = lambda _: None,
) -> None:
    """Serve until `stop` is set. Raises JournalFailed when the journal does."""
    asked = stop or asyncio.Event()
    async with serving(settings, pools=pools) as dispatcher:
        started(dispatcher)
        stopped = asyncio.ensure_future(asked.wait())
        failed = asyncio.ensure_future(dispatcher.failed())
        try:
            await asyncio.wait((stopped, failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            failed.cancel()
        if failed.done() and not failed.cancelled():
            failed.result()
