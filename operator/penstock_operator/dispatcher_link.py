"""The operator's stream to the dispatcher: configuration out, demand in, both pushed.

One `SyncPools` stream at a time. A new stream begins with every pool's configuration and
`sync_end`; after that only changes travel, the newest of each pool (what was not sent yet is
replaced, never queued twice). What is not named before `sync_end` is closed by the dispatcher; so
pools that exist but cannot be read are named too (`keep`), and namespaces that may not be listed
(`keep_namespace`). Demand is merged as it arrives and the pool's reconcile is woken in the same
turn of the loop. While there is no stream that has confirmed the sync, or a pool's whole table of
workers has not come yet, demand is unknown (`demand` answers None) and whoever decides must hold.

The stream is replaced for ever: at first within a second, then with full jitter. A stream that
brings nothing for `SILENCE_SECONDS_MAX` is dead, whatever TCP says: the dispatcher sends every
pool's demand each five seconds.

`run` ends only by an exception: `Deposed` when the dispatcher has seen a newer leader than us.
"""

import asyncio
import contextlib
import dataclasses
import logging
import pathlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from penstock.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from penstock_operator import conditions, demand

RECONNECT_SECONDS_MAX: Final = 2.0
"""There is one operator, not a herd of them: the fleet waits for nobody else."""
SILENCE_SECONDS_MAX: Final = 15.0
CALL_SECONDS_MAX: Final = 5.0
GONE_MAX: Final = 10_000
"""Reports of ended pods kept for the next stream. Beyond that the oldest go: leases run out anyway.
"""
GONE_KEPT_SECONDS: Final = 30.0
"""How long a stream must have lasted after a report, or the next one repeats it."""
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""What the dispatcher sends at most; gRPC's own default is 4 MiB."""
CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Otherwise there are two pings, and then one a minute until something else is sent.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65536),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
)

_Stub: TypeAlias = "fleet_service_pb2_grpc.FleetServiceAsyncStub"
_Call: TypeAlias = (
    "grpc.aio.StreamStreamCall[fleet_service_pb2.SyncPoolsRequest, "
    "fleet_service_pb2.SyncPoolsResponse]"
)

logger = logging.getLogger(__name__)


class Deposed(Exception):  # noqa: N818  it says what happened
    """The dispatcher has seen a newer epoch: this operator leads no more."""


class LinkDown(Exception):  # noqa: N818  it says what happened
    """There is no stream to the dispatcher, or a call on it failed."""


@dataclasses.dataclass(slots=True)
class _Pool:
    config: fleet_service_pb2.PoolConfig
    load: demand.Demand | None = None
    received_at: float = 0.0
    known_since: float = 0.0
    """Since when the table of its workers is whole, while it is in `_seen`."""


class DispatcherLink:
    """Configuration, demand and reservations of all pools. `clock` is monotonic, in seconds.

    `wake(pool_name)` is called when a pool's demand changed, `wake_all()` when the link came or
    went.
    """

    def __init__(
        self,
        *,
        address: str,
        token_file: str,
        operator_id: str,
        epoch: Callable[[], int],
        wake: Callable[[str], None],
        wake_all: Callable[[], None],
        clock: Callable[[], float],
        reconnect_seconds_max: float = RECONNECT_SECONDS_MAX,
    ) -> None:
        self._reconnect_seconds_max = reconnect_seconds_max
        self._address = address
        self._token_file = token_file
        self._operator_id = operator_id
        self._epoch = epoch
        self._wake = wake
        self._wake_all = wake_all
        self._clock = clock
        self._pools: dict[str, _Pool] = {}
        self._kept: dict[str, str] = {}
        """Name → uid of pools that exist and were never read."""
        self._kept_namespaces: set[str] = set()
        self._dirty: dict[str, None] = {}
        self._deleted: dict[str, None] = {}
        self._gone: dict[int, fleet_service_pb2.WorkerGone] = {}
        """Reports by number, oldest first."""
        self._gone_count = 0
        self._outgoing = asyncio.Event()
        self._stub: _Stub | None = None
        self._seen: set[str] = set()
        self._synced_at: float | None = None
        self._down_since = clock()
        self._problem = ""
        self._silence: asyncio.Timeout | None = None

    # ------------------------------------------------------------ what others say

    def upsert(self, config: fleet_service_pb2.PoolConfig) -> None:
        """A pool's configuration as it is now."""
        self._kept.pop(config.name, None)
        known = self._pools.get(config.name)
        if known is not None and known.config == config:
            return
        if known is None or known.config.uid != config.uid:
            self._pools[config.name] = _Pool(config)
            self._seen.discard(config.name)
        else:
            known.config = config
        self._dirty[config.name] = None
        if len(self._pools) == 1:
            self._listen_out()
        self._outgoing.set()

    def keep(self, *, name: str, uid: str) -> None:
        """A pool exists, and its manifest cannot be used: the dispatcher goes on with what it
        knows of it.
        """
        known = self._pools.get(name)
        if known is not None and known.config.uid == uid:
            return  # its last good configuration is what is told
        if known is not None:
            self.delete(name=name, uid=known.config.uid)
        self._kept[name] = uid

    def keep_namespace(self, namespace: str) -> None:
        """A served namespace cannot be read: nothing is known of its pools, so none is closed."""
        self._kept_namespaces.add(namespace)

    def delete(self, *, name: str, uid: str) -> None:
        """A pool is gone."""
        if self._kept.get(name) == uid:
            del self._kept[name]
        known = self._pools.get(name)
        if known is not None and known.config.uid == uid:
            del self._pools[name]
            self._dirty.pop(name, None)
            self._seen.discard(name)
        self._deleted[uid] = None
        self._outgoing.set()

    def worker_gone(
        self, *, pool: str, pod_name: str, pod_uid: str, reason: str, exit_code: int
    ) -> None:
        """A worker has ended: nothing of it runs any more."""
        self._gone_count += 1
        self._gone[self._gone_count] = fleet_service_pb2.WorkerGone(
            pool=pool, pod_name=pod_name, pod_uid=pod_uid, reason=reason, exit_code=exit_code
        )
        if len(self._gone) > GONE_MAX:
            del self._gone[next(iter(self._gone))]
        self._outgoing.set()

    # ------------------------------------------------------------ what others ask

    def demand(self, name: str, *, uid: str) -> demand.Demand | None:
        """The pool's demand; None = it is unknown."""
        known = self._pools.get(name)
        if self._synced_at is None or known is None or known.config.uid != uid:
            return None
        return known.load if name in self._seen else None

    def demand_age(self, name: str) -> float:
        """Seconds since the pool's last demand arrived."""
        known = self._pools.get(name)
        return self._clock() - known.received_at if known is not None else 0.0

    def known_for(self, name: str) -> float:
        """Seconds for which the pool's demand has been known without a gap; 0 = it is not."""
        if self._synced_at is None or name not in self._seen:
            return 0.0
        return self._clock() - max(self._pools[name].known_since, self._synced_at)

    def synced_for(self) -> float:
        """Seconds since demand is complete; 0 = it is not."""
        return self._clock() - self._synced_at if self._synced_at is not None else 0.0

    def status(self) -> conditions.Link:
        """The link as conditions speak of it."""
        if self._synced_at is not None:
            return conditions.Link(address=self._address)
        down = max(1e-3, self._clock() - self._down_since)
        return conditions.Link(address=self._address, down_seconds=down, problem=self._problem)

    async def reserve(
        self, request: fleet_service_pb2.ReserveWorkersRequest
    ) -> fleet_service_pb2.ReserveWorkersResponse:
        """Have workers chosen to leave. Raises LinkDown."""
        request.epoch, request.operator_id = self._epoch(), self._operator_id
        async with self._call("reserve workers") as stub:
            return await stub.ReserveWorkers(
                request, timeout=CALL_SECONDS_MAX, metadata=self._metadata()
            )

    async def release(self, request: fleet_service_pb2.ReleaseWorkersRequest) -> None:
        """Take workers back. Raises LinkDown."""
        request.epoch = self._epoch()
        async with self._call("release workers") as stub:
            await stub.ReleaseWorkers(request, timeout=CALL_SECONDS_MAX, metadata=self._metadata())

    @contextlib.asynccontextmanager
    async def _call(self, what: str) -> AsyncIterator[_Stub]:
        if self._stub is None or self._synced_at is None:
            raise LinkDown(f"cannot {what}: no stream to the dispatcher")
        try:
            yield self._stub
        except grpc.aio.AioRpcError as error:
            raise LinkDown(f"cannot {what}: {_words(error)}") from error

    # ------------------------------------------------------------ the stream

    async def run(self) -> None:
        """Keep a stream for ever. Raises Deposed."""
        failures = 0
        while True:
            try:
                await self._stream()
            except grpc.aio.AioRpcError as error:
                self._problem = _words(error)
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    raise Deposed(self._problem) from error
            except TimeoutError:
                self._problem = f"nothing was heard for {SILENCE_SECONDS_MAX:.0f} s"
            except OSError as error:
                self._problem = f"the token cannot be read: {error}"
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Not ours: grpc.aio says so when the call was cancelled on this side.
                self._problem = "the stream was cancelled"
            else:
                self._problem = "the stream was closed"
            failures = 0 if self._synced_at is not None else failures + 1
            self._lost()
            longest = self._reconnect_seconds_max / (2 if failures <= 1 else 1)
            await asyncio.sleep(random.uniform(0, longest))

    def _lost(self) -> None:
        was_up = self._synced_at is not None
        self._stub, self._synced_at = None, None
        self._seen.clear()
        if was_up:
            self._down_since = self._clock()
            logger.warning("lost the dispatcher at %s: %s", self._address, self._problem)
            self._wake_all()

    async def _stream(self) -> None:
        async with grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS) as channel:
            stub = fleet_service_pb2_grpc.FleetServiceStub(channel)
            call = stub.SyncPools(metadata=self._metadata())
            writer = asyncio.create_task(self._write(call), name="dispatcher-link-writer")
            # A stream that only listens would leave the dispatcher with old configuration.
            writer.add_done_callback(lambda _: call.cancel())
            try:
                async with asyncio.timeout(None) as self._silence:
                    self._listen_out()
                    async for answer in call:
                        self._listen_out()
                        self._receive(answer, stub)
            finally:
                self._silence = None
                # An abandoned call would stay open at the server.
                writer.cancel()
                call.cancel()
                await asyncio.wait([writer])
                if not writer.cancelled():
                    logger.debug("the writer ended: %s", writer.exception())

    def _listen_out(self) -> None:
        """It was heard, or has something to say from now on: with pools it always has."""
        if self._silence is not None:
            now = asyncio.get_running_loop().time()
            self._silence.reschedule(now + SILENCE_SECONDS_MAX if self._pools else None)

    def _receive(
        self,
        answer: fleet_service_pb2.SyncPoolsResponse,
        stub: _Stub,
    ) -> None:
        now = self._clock()
        for message in answer.demands:
            pool = self._pools.get(message.pool)
            if pool is None or (message.uid and message.uid != pool.config.uid):
                continue
            # Until the stream is in sync every message has its pool's whole table.
            whole = message.complete or self._synced_at is None
            if not whole and message.pool not in self._seen:
                continue  # sent before the dispatcher had our word of the pool: the table follows
            pool.load = demand.merge(pool.load, message, first=whole)
            pool.received_at = now
            if message.pool not in self._seen:
                pool.known_since = now
                self._seen.add(message.pool)
        if answer.synced and self._synced_at is None:
            self._stub, self._synced_at, self._problem = stub, now, ""
            logger.info("connected to the dispatcher at %s", self._address)
            self._wake_all()
            return
        for message in answer.demands:
            self._wake(message.pool)

    async def _write(self, call: _Call) -> None:
        self._dirty.clear()
        self._deleted.clear()
        for pool in list(self._pools.values()):
            await call.write(self._request(upsert=pool.config))
        for namespace in sorted(self._kept_namespaces):
            await call.write(self._request(kept_namespace=namespace))
        for uid in list(self._kept.values()):
            await call.write(self._request(kept_uid=uid))
        await call.write(self._request(sync_end=fleet_service_pb2.SyncEnd()))
        told: dict[int, float] = {}
        try:
            while True:
                # Cleared before the queues are looked at: what comes meanwhile sets it again.
                self._outgoing.clear()
                while self._dirty:
                    name = next(iter(self._dirty))
                    del self._dirty[name]
                    if name in self._pools:
                        await call.write(self._request(upsert=self._pools[name].config))
                while self._deleted:
                    uid = next(iter(self._deleted))
                    del self._deleted[uid]
                    await call.write(self._request(deleted_uid=uid))
                for number in [each for each in self._gone if each not in told]:
                    if number in self._gone:
                        await call.write(self._request(worker_gone=self._gone[number]))
                        told[number] = self._clock()
                self._forget_reports(told)
                await self._outgoing.wait()
        finally:
            self._forget_reports(told)

    def _forget_reports(self, told: dict[int, float]) -> None:
        """Those that this stream has outlived. What was written and not read (a dispatcher that
        starts refuses the stream) or not yet durable goes onto the next one; it is idempotent.
        """
        before = self._clock() - GONE_KEPT_SECONDS
        for number in [number for number, at in told.items() if at <= before]:
            del told[number]
            self._gone.pop(number, None)

    def _request(self, **message: Any) -> fleet_service_pb2.SyncPoolsRequest:
        """`message` is the one member of the oneof."""
        return fleet_service_pb2.SyncPoolsRequest(
            operator_id=self._operator_id, epoch=self._epoch(), **message
        )

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        if not self._token_file:
            return ()
        token = pathlib.Path(self._token_file).read_text().strip()
        return (("authorization", f"Bearer {token}"),)


def _words(error: grpc.aio.AioRpcError) -> str:
    details = " ".join((error.details() or "").split())
    return f"{error.code().name}: {details[:200]}" if details else error.code().name
