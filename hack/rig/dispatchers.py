"""Dispatchers on loopback, without a cluster: one in this process, one in a process of its own."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from penstock.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from penstock_dispatcher import server
from rig import figures, processes, wire

CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)


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
        made = grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS)
        self._channels.append(made)
        return made

    def stubs(self) -> wire.Stubs:
        """Stubs over a channel of their own."""
        return wire.Stubs(self.channel())

    async def worker(self, pod: str, **fields: Any) -> wire.RawWorker:
        """A connected raw worker."""
        slots = fields.pop("slots", 1)
        pool = fields.pop("pool", wire.POOL)
        return await wire.RawWorker(self.stubs(), pod=pod, slots=slots, pool=pool).connect(**fields)

    async def close(self) -> None:
        """Close channels, stop."""
        for channel in self._channels:
            await channel.close()
        await self.stop()


class DispatcherProcess:
    """A dispatcher in a process of its own, that can be killed and started again."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{processes.free_port()}"
        self.http_address = f"127.0.0.1:{processes.free_port()}"
        self.log = folder / "dispatcher.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.program = ["-m", "penstock_dispatcher"]
        self.arguments: list[str] = []

    def start(self, *, wait: bool = True) -> None:
        """Start; returns when it serves. Raises RuntimeError if it ends instead."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *(*self.program, "--listen", self.address),
                    *("--http", self.http_address, "--data", str(self.folder / "data")),
                    *self.arguments,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        if wait:
            self.wait_until_serving()

    def wait_until_serving(self, seconds: float = 60.0) -> None:
        """Return when health says SERVING."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        options = (("grpc.use_local_subchannel_pool", 1),)
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended: {self.log.read_text()[-2000:]}")
            # A new channel each time: one that was refused would wait a second and more.
            with (
                contextlib.suppress(grpc.RpcError),
                grpc.insecure_channel(self.address, options=options) as channel,
            ):
                stub = health_pb2_grpc.HealthStub(channel)
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"it does not serve: {self.log.read_text()[-2000:]}")

    @property
    def journal_pid(self) -> int:
        """The process of its journal."""
        assert self.process is not None
        _, journal = figures.tree(self.process.pid)
        return journal

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def kill_journal(self, seconds: float = 15.0) -> None:
        """kill -9 for the journal's process; returns when the dispatcher has followed it."""
        assert self.process is not None
        os.kill(self.journal_pid, signal.SIGKILL)
        self.process.wait(seconds)

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
                for config in configs or (wire.pool_config(),)
            ]
            requests.append(
                fleet_service_pb2.SyncPoolsRequest(sync_end=fleet_service_pb2.SyncEnd(), epoch=1)
            )
            synced = threading.Event()

            def stay() -> Iterator[Any]:
                yield from requests
                # An operator that says no more is gone, and hears no more either.
                synced.wait(wire.READ_SECONDS)

            call = fleet_service_pb2_grpc.FleetServiceStub(channel).SyncPools(stay())
            # With many pools the first demand may go out before all are in force.
            assert any(answer.synced for answer in call)
            synced.set()
            call.cancel()


@contextlib.contextmanager
def process_in(folder: pathlib.Path, *arguments: str) -> Iterator[DispatcherProcess]:
    """A running dispatcher process without pools, for the length of a block."""
    made = DispatcherProcess(folder)
    made.arguments = list(arguments)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.kill()
