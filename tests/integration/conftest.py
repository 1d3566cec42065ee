"""What integration tests share: a dispatcher in this process, one in a process of its own, and a
worker and a client made of raw stubs (`rig.dispatchers`, `rig.wire`).

Nothing here talks to anything but loopback.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2

from penstock_dispatcher import server
from rig import dispatchers, wire


@pytest.fixture
def pools() -> list[Any]:
    """The seed pools of `dispatcher`; override it in a module or a class."""
    return [wire.pool_config()]


@pytest.fixture
def make_pool() -> Callable[..., Any]:
    """`rig.wire.pool_config`."""
    return wire.pool_config


@pytest_asyncio.fixture
async def dispatcher(tmp_path: pathlib.Path, pools: list[Any]) -> AsyncIterator[dispatchers.Served]:
    """A real dispatcher on a free loopback port with its journal in `tmp_path`."""
    served = dispatchers.Served(
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
    async def make(
        *, pools: Iterable[Any] = (), **settings: Any
    ) -> AsyncIterator[dispatchers.Served]:
        settings.setdefault("listen", "127.0.0.1:0")
        settings.setdefault("data", tmp_path / "data")
        settings.setdefault("journal_reserve_bytes", 1024 * 1024)
        served = dispatchers.Served(
            server.Settings(**settings), list(pools) or [wire.pool_config()]
        )
        await served.start()
        try:
            yield served
        finally:
            await served.close()

    return make


@pytest_asyncio.fixture
async def stubs(dispatcher: dispatchers.Served) -> wire.Stubs:
    """Stubs of `dispatcher`."""
    return dispatcher.stubs()


@pytest.fixture
def dispatcher_process(tmp_path: pathlib.Path) -> Iterator[dispatchers.DispatcherProcess]:
    """A running dispatcher process without pools; see `DispatcherProcess.configure`."""
    with dispatchers.process_in(tmp_path) as made:
        yield made


@pytest.fixture
def stubs_for() -> Callable[[str], wire.Stubs]:
    """Stubs for an address, each over a channel of its own."""

    def make(address: str) -> wire.Stubs:
        return wire.Stubs(grpc.aio.insecure_channel(address, options=dispatchers.CHANNEL_OPTIONS))

    return make


@pytest.fixture
def raw_worker() -> type[wire.RawWorker]:
    """The class `rig.wire.RawWorker`, for tests that bring their own stubs."""
    return wire.RawWorker


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
