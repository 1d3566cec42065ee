"""Test handlers, and programs that submit, against a real dispatcher on loopback.

    import penstock.testing

    def test_shrink() -> None:
        assert shrink(penstock.testing.task(b"…")) == b"…"        # a handler is a function

    def test_end_to_end() -> None:
        with penstock.testing.dispatcher() as local, local.run(worker):
            with local.client() as client:
                assert client.result(client.submit("shrink", b"…"), timeout=10) == b"…"

The dispatcher is the one that runs in clusters, with its journal in memory, in this process; so is
the worker. `with` runs both on a thread of their own, for blocking code; `async with` runs them in
the caller's event loop, because grpc.aio wants one loop in a process. It needs the extra
`dispatcher`; `task` and `pool` need nothing.

Beside the command line, this is the only module of the client that knows the servers.
"""

import asyncio
import contextlib
import itertools
import os
import pathlib
import threading
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import penstock
import penstock_worker
from penstock import _names, _payload, _times

if TYPE_CHECKING:
    from penstock.v1 import fleet_service_pb2
    from penstock_dispatcher import server

__all__ = ["AsyncLocal", "Local", "PoolSource", "Starting", "dispatcher", "pool", "task"]

DEFAULT_POOL: Final = "test"
CALL_SECONDS: Final = 10.0
"""A client's time-out: nothing on loopback takes longer."""
DRAIN_SECONDS: Final = 10.0
STEP_SECONDS_MAX: Final = 30.0
"""How long the dispatcher may take to start, or to stop, or a worker to leave once it is idle."""

PoolSource = str | os.PathLike[str] | Mapping[str, Any]
_Value = TypeVar("_Value")


def task(
    payload: bytes | str | _payload.Payload = b"",
    /,
    *,
    type: str = "",  # noqa: A002 - the field's name
    labels: Mapping[str, str] | None = None,
    attempt: int = 1,
    name: str = "namespaces/default/pools/test/tasks/test",
    timeout: _times.Seconds | None = None,
    slots: int = 1,
    checkpoint: bytes = b"",
) -> penstock_worker.Task:
    """The task that a handler is given, to call it directly. `payload` as in `Client.submit`;
    `timeout` is the time until its deadline. `task.stop_event.set()` cancels it.
    """
    body = _payload.of(payload)
    seconds = None if timeout is None else _times.to_seconds(timeout, name="timeout")
    return penstock_worker.Task(
        payload=body.data,
        name=name,
        type=type,
        content_type=body.content_type,
        attempt=attempt,
        labels=dict(labels or {}),
        deadline=None if seconds is None else time.time() + seconds,
        slots=slots,
        checkpoint=checkpoint,
    )


def pool(name: str, /, **spec: Any) -> Mapping[str, Any]:
    """The manifest of a pool with these fields of `spec`, such as `queue={"maxPending": 5}`.

    `name`: `pool` (in namespace default), `namespace/pool`, or in full. Raises ValueError.
    """
    namespace, plain, _ = _names.parts(_names.pool(name))
    containers = [{"name": "worker", "image": "localhost/none"}]
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": plain, "namespace": namespace},
        "spec": {"template": {"spec": {"containers": containers}}, **spec},
    }


def dispatcher(*pools: PoolSource) -> "Starting":
    """A dispatcher for a `with` or `async with` block; nothing is left of it afterwards.

    Each of `pools` is the name of a pool with the default settings, a manifest (such as `pool`
    makes), or the path of a file of manifests. Default: one pool called `test`. The first one is
    the default of clients and workers.
    """
    return Starting(pools or (DEFAULT_POOL,))


class Starting:
    """What `dispatcher` returns: use it as `with` or `async with`, once."""

    def __init__(self, pools: Sequence[PoolSource]) -> None:
        self._pools = pools
        self._blocking: Local | None = None
        self._async: AsyncLocal | None = None

    def __enter__(self) -> "Local":
        loop = _Loop()
        try:
            served = loop.run(_Served.start(self._pools))
        except BaseException:
            loop.close()
            raise
        self._blocking = Local(served, loop)
        return self._blocking

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._blocking is not None:
            self._blocking.close()

    async def __aenter__(self) -> "AsyncLocal":
        self._async = AsyncLocal(await _Served.start(self._pools))
        return self._async

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._async is not None:
            await self._async.close()


class Local:
    """A running dispatcher, for blocking code."""

    def __init__(self, served: "_Served", loop: "_Loop") -> None:
        self._served = served
        self._loop = loop
        self._clients = contextlib.ExitStack()

    @property
    def address(self) -> str:
        """host:port."""
        return self._served.address

    @property
    def pools(self) -> tuple[str, ...]:
        """Full names."""
        return self._served.pools

    def client(
        self, pool: str | None = None, *, timeout: _times.Seconds = CALL_SECONDS
    ) -> penstock.SyncClient:
        """A client of it; it is closed with the dispatcher at the latest."""
        named = self._served.pool(pool)
        made = penstock.SyncClient(self.address, token="", pool=named, timeout=timeout)
        return self._clients.enter_context(made)

    @contextlib.contextmanager
    def run(
        self,
        worker: penstock_worker.Worker,
        *,
        pool: str | None = None,
        slots: int = 1,
        drain_timeout: _times.Seconds = DRAIN_SECONDS,
    ) -> Iterator[None]:
        """Serve a pool with these handlers for the length of a block, in this process. At its end
        the tasks that run are finished, for at most `drain_timeout`.
        """
        serving = self._served.worker(worker, pool=pool, slots=slots, drain_timeout=drain_timeout)
        self._loop.run(serving.__aenter__())
        try:
            yield
        finally:
            draining = _times.to_seconds(drain_timeout, name="drain_timeout")
            self._loop.run(serving.__aexit__(None, None, None), more_seconds=draining)

    def close(self) -> None:
        """What the end of the block does."""
        self._clients.close()
        try:
            self._loop.run(self._served.stop())
        finally:
            self._loop.close()


class AsyncLocal:
    """A running dispatcher, for asyncio code. See `Local`."""

    def __init__(self, served: "_Served") -> None:
        self._served = served
        self._clients = contextlib.AsyncExitStack()

    @property
    def address(self) -> str:
        """host:port."""
        return self._served.address

    @property
    def pools(self) -> tuple[str, ...]:
        """Full names."""
        return self._served.pools

    def client(
        self, pool: str | None = None, *, timeout: _times.Seconds = CALL_SECONDS
    ) -> penstock.Client:
        """A client of it; it is closed with the dispatcher at the latest."""
        named = self._served.pool(pool)
        made = penstock.Client(self.address, token="", pool=named, timeout=timeout)
        self._clients.push_async_callback(made.close)
        return made

    @contextlib.asynccontextmanager
    async def run(
        self,
        worker: penstock_worker.Worker,
        *,
        pool: str | None = None,
        slots: int = 1,
        drain_timeout: _times.Seconds = DRAIN_SECONDS,
    ) -> AsyncIterator[None]:
        """Serve a pool with these handlers for the length of a block, in this process. At its end
        the tasks that run are finished, for at most `drain_timeout`.
        """
        async with self._served.worker(worker, pool=pool, slots=slots, drain_timeout=drain_timeout):
            yield

    async def close(self) -> None:
        """What the end of the block does."""
        await self._clients.aclose()
        await self._served.stop()


class _Served:
    """The dispatcher and its workers, in the loop that `start` ran in."""

    def __init__(self, running: "server.Dispatcher", pools: tuple[str, ...]) -> None:
        self.address = running.address
        self.pools = pools
        self._running = running
        self._numbers = itertools.count(1)

    @classmethod
    async def start(cls, sources: Sequence[PoolSource]) -> "_Served":
        configs = _configs(sources)
        try:
            from penstock_dispatcher import server
        except ModuleNotFoundError as error:
            raise _missing(error, extra="dispatcher") from None
        made = server.Dispatcher(server.Settings(listen="127.0.0.1:0"))
        try:
            await made.start(configs)
        except BaseException:
            await made.stop()
            raise
        return cls(made, tuple(config.name for config in configs))

    async def stop(self) -> None:
        await self._running.stop()

    def pool(self, name: str | None) -> str:
        return self.pools[0] if name is None else _names.pool(name)

    def worker(
        self,
        worker: penstock_worker.Worker,
        *,
        pool: str | None,
        slots: int,
        drain_timeout: _times.Seconds,
    ) -> contextlib.AbstractAsyncContextManager[None]:
        from penstock_worker import embedded, settings

        config = settings.Settings(
            pool=self.pool(pool),
            address=self.address,
            slots=slots,
            pod_name=f"local-{next(self._numbers)}",
            pod_uid=str(uuid.uuid4()),
            drain_timeout_seconds=_times.to_seconds(drain_timeout, name="drain_timeout"),
        )
        return embedded.serving(worker, config)


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="penstock-testing", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _Value], *, more_seconds: float = 0.0) -> _Value:
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(STEP_SECONDS_MAX + more_seconds)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STEP_SECONDS_MAX)
        self._loop.close()


def _configs(sources: Sequence[PoolSource]) -> "list[fleet_service_pb2.PoolConfig]":
    # The operator's reader of manifests is pure, and has every default of the resource.
    from penstock_operator import spec

    documents: list[object] = []
    for source in sources:
        if isinstance(source, str):
            documents.append(pool(source))
        elif isinstance(source, Mapping):
            documents.append(source)
        else:
            documents += _read(pathlib.Path(source))
    return [spec.pool_config(spec.parse_manifest(document)) for document in documents]


def _read(path: pathlib.Path) -> list[object]:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise _missing(error, extra="cli") from None
    return [each for each in yaml.safe_load_all(path.read_text()) if each is not None]


def _missing(error: ModuleNotFoundError, *, extra: str) -> ModuleNotFoundError:
    library = (error.name or "").partition(".")[0]
    return ModuleNotFoundError(
        f"penstock.testing needs {library}: pip install 'penstock[{extra}]'", name=error.name
    )
