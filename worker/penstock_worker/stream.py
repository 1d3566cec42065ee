"""The stream to the dispatcher: the shell around `session`.

Everything here runs in one event loop on a thread of its own, so that heartbeats go out whatever
the handlers do. One stream at a time: a reader hands frames to the session and carries out its
commands; a writer asks the session for the next frame whenever the last write is done, and sleeps
when there is none. Whatever ends a stream, the call is cancelled explicitly (an abandoned one is
never freed).

Reconnecting never ends, whatever ended a stream: the first try follows at random within a second,
later ones within two, four, eight, and then ten: a new pool's workers, which may be there before
the operator has told the dispatcher of it, need not wait long, and a thousand of them do not come
at once. Nothing is waited for without a bound: neither the connection, the Welcome, a write, nor
the end of a stream on which nothing moves. When a worker that is stopping may exit is for `leaving`
to say.
"""

import asyncio
import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from penstock.v1 import task_pb2, worker_service_pb2_grpc
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import attempts, leaving, outcomes, readiness, session, settings

logger = logging.getLogger("penstock.worker")

CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Otherwise there are two pings, and then one a minute until something else is sent.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
)
FIRST_RECONNECT_SECONDS_MAX: Final = 1.0
RECONNECT_SECONDS_MAX: Final = 10.0

_REMEDIES: Final = {
    grpc.StatusCode.UNAUTHENTICATED: "check PENSTOCK_TOKEN_FILE and the Secret behind it",
    grpc.StatusCode.PERMISSION_DENIED: "check that the token is one for workers of this namespace",
    grpc.StatusCode.NOT_FOUND: "check PENSTOCK_POOL, and that the pool exists at the dispatcher",
    grpc.StatusCode.UNAVAILABLE: "check PENSTOCK_ADDRESS, and that the dispatcher runs",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each thing may take, in seconds."""

    connect: float = 10.0
    welcome: float = 20.0
    """From the Hello on."""
    write: float = 20.0
    """Of one frame, while the dispatcher does not read."""
    goodbye: float = 2.0
    """Until the dispatcher closes the stream."""
    tick: float = 1.0
    """Between two looks at what else may be over."""


class Stream:
    """See the module's docstring. `run` serves until the worker may exit."""

    def __init__(
        self,
        config: settings.Settings,
        *,
        identity: session.Identity,
        ready: readiness.Readiness,
        draw: Callable[[], float] = random.random,
        patience: Patience = Patience(),
        hand_back_seconds: float = leaving.HAND_BACK_SECONDS_MAX,
    ) -> None:
        self.session = session.Session(identity)
        self._config = config
        self._patience = patience
        self._ready = ready
        self._draw = draw
        self._work: attempts.Attempts[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._asked_to_stop = ""
        self._leaving = leaving.Leaving(
            drain_timeout_seconds=config.drain_timeout_seconds, hand_back_seconds=hand_back_seconds
        )
        self._reconnect_after = 0.0

    # ------------------------------------------------------------ from other threads

    def stop(self, reason: str) -> None:
        """Begin to leave, because of a signal; if `run` has not begun yet, as soon as it does."""
        self._asked_to_stop = reason
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed: the process is ending
                self._loop.call_soon_threadsafe(self._stop, reason)

    # ------------------------------------------------------------ the loop

    async def run(self, work: attempts.Attempts[Any]) -> None:
        """Serve until the worker may exit."""
        self._loop, self._work = asyncio.get_running_loop(), work
        if self._asked_to_stop:
            self._stop(self._asked_to_stop)
        ticking = asyncio.create_task(self._tick())
        failures = 0
        try:
            while not self._may_exit():
                welcomed = await self._one_stream()
                if self._may_exit():
                    break
                failures = 1 if welcomed else failures + 1
                limit = _reconnect_seconds_max(failures)
                delay = self._reconnect_after or self._draw() * limit
                self._reconnect_after = 0.0
                await self._pause(delay)
        finally:
            ticking.cancel()
        if self.session.unacknowledged:
            logger.error(
                "nobody has acknowledged the outcomes of leases=%s: these tasks will run again",
                ",".join(self.session.unacknowledged),
            )

    def _may_exit(self) -> bool:
        return self._leaving.may_exit(self.session, time.monotonic())

    async def _pause(self, seconds: float) -> None:
        """Wait before the next try; shortly while stopping, and no longer once a signal comes."""
        if self._leaving.begun:
            await asyncio.sleep(min(seconds, self._patience.tick))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _tick(self) -> None:
        """Now and then: show that this thread lives, and look at the drain's end."""
        while True:
            self._ready.tick()
            if self._leaving.hand_back(time.monotonic()):
                self._hand_back()
            self._wake.set()
            await asyncio.sleep(self._patience.tick)

    def _stop(self, reason: str) -> None:
        if self._leaving.begun:
            return
        running = self.session.running
        logger.info("%s received running=%d leases=%s", reason, len(running), ",".join(running))
        self._leaving.begin(time.monotonic())
        self.session.stop(reason, self._leaving.drain_timeout_seconds)
        self._stopping.set()
        self._wake.set()

    def _hand_back(self) -> None:
        """The drain's time is over: what still runs is handed back, and the process will exit."""
        running = self.session.running
        if running:
            logger.warning("drain timed out, handed back leases=%s", ",".join(running))
        for lease_id in running:
            released = outcomes.released("the worker's drain timed out")
            if self._work is not None:
                released.execution_time.CopyFrom(outcomes.duration(self._work.seconds(lease_id)))
                self._work.stop(lease_id, "the worker stops", self.session.grace_seconds)
            self._carry_out(self.session.ended(lease_id, released))
        self._wake.set()

    def ended(self, lease_id: str, outcome: wire.TaskOutcome) -> None:
        """An attempt ended. In the loop of `run` only."""
        self._carry_out(self.session.ended(lease_id, outcome))
        self._wake.set()

    def progressed(self, lease_id: str, progress: task_pb2.Progress) -> None:
        """An attempt tells how far it is. In the loop of `run` only."""
        self.session.progressed(lease_id, progress)
        self._wake.set()

    # ------------------------------------------------------------ one stream

    async def _one_stream(self) -> bool:
        """Connect, and serve until the stream ends; True if we were welcomed."""
        welcomed = False
        try:
            async with grpc.aio.insecure_channel(
                self._config.address, options=CHANNEL_OPTIONS
            ) as channel:
                if not await self._connected(channel):
                    return False
                stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
                call = stub.Work(metadata=self._metadata())
                try:
                    await self._converse(call)
                finally:
                    welcomed = self.session.welcomed
                    call.cancel()
        except TimeoutError:
            logger.warning(
                "dispatcher unreachable address=%s: %s",
                self._config.address,
                _REMEDIES[grpc.StatusCode.UNAVAILABLE],
            )
        except grpc.aio.AioRpcError as error:
            self._explain(error)
        except Exception:
            # Whatever it is, attempts run: they must be answered for on the next stream.
            logger.exception("the stream failed; another will be opened")
        finally:
            self.session.broke()
        return welcomed

    async def _connected(self, channel: grpc.aio.Channel) -> bool:
        """Wait for the connection; False = there is no need for one any more. Raises TimeoutError.

        A worker with nothing to tell leaves at once when it is told to: whoever deletes its
        namespace waits for it.
        """
        waits = {
            asyncio.create_task(channel.channel_ready()),
            asyncio.create_task(self._stopping.wait()),
        }
        try:
            async with asyncio.timeout(self._patience.connect):
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if self._may_exit():
                    return False
                await channel.channel_ready()
            return True
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _converse(self, call: Any) -> None:
        self.session.opened()
        self._wake.set()
        reading = asyncio.create_task(self._read(call))
        writing = asyncio.create_task(self._write(call))
        parts = (reading, writing, asyncio.create_task(self._watch()))
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if writing in done and not writing.cancelled() and writing.exception() is None:
                # The goodbye is sent: let the dispatcher close the stream.
                await asyncio.wait((reading,), timeout=self._patience.goodbye)
            for part in parts:
                if part.done() and not part.cancelled():
                    part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _watch(self) -> None:
        """Return when a stream on which nothing moves is of no more use to a worker that leaves.

        Raises AioRpcError when no Welcome comes.
        """
        opened = time.monotonic()
        while True:
            await asyncio.sleep(self._patience.tick)
            if not self.session.welcomed and time.monotonic() - opened >= self._patience.welcome:
                raise _as_error(grpc.StatusCode.DEADLINE_EXCEEDED, "no Welcome came")
            goodbye_under_way = self.session.welcomed and self.session.finished
            if self._may_exit() and not goodbye_under_way:
                return

    async def _read(self, call: Any) -> None:
        while True:
            frame = await call.read()
            if frame is grpc.aio.EOF:
                code = await call.code()
                if code is not grpc.StatusCode.OK:
                    raise _as_error(code, await call.details())
                return
            if frame is None:  # how grpc.aio hands over what it could not decode
                raise _as_error(grpc.StatusCode.INTERNAL, "a frame could not be decoded")
            kind = frame.WhichOneof("message")
            if kind == "welcome":
                logger.info(
                    "connected address=%s session=%s pool=%s",
                    self._config.address,
                    frame.welcome.session_id,
                    self._config.pool,
                )
            elif kind in ("drain", "undrain"):
                logger.info("%s requested by the dispatcher", kind)
            if self._carry_out(self.session.received(frame, time.monotonic())):
                return
            self._wake.set()

    async def _write(self, call: Any) -> None:
        while True:
            self._wake.clear()
            frame = self.session.next_frame(time.monotonic())
            if frame is None:
                await self._sleep_until_due()
                continue
            try:
                async with asyncio.timeout(self._patience.write):
                    await call.write(frame)
            except TimeoutError:
                raise _as_error(
                    grpc.StatusCode.DEADLINE_EXCEEDED, "the dispatcher does not read"
                ) from None
            if frame.WhichOneof("message") == "goodbye":
                await call.done_writing()
                return

    async def _sleep_until_due(self) -> None:
        due = self.session.next_due()
        seconds = None if due is None else max(0.0, due - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _carry_out(self, commands: list[session.Command]) -> bool:
        """Act on the session's commands; True = close this stream."""
        close = False
        assert self._work is not None, "run has begun"
        for command in commands:
            match command:
                case session.Start(assignment):
                    self._work.start(assignment, grace_seconds=self.session.grace_seconds)
                case session.Stop(lease_id, reason):
                    logger.info("stop lease=%s reason=%s", lease_id, reason)
                    self._work.stop(lease_id, reason, self.session.grace_seconds)
                case session.BecomeUnready():
                    self._ready.ready = False
                    logger.info("drained: not ready from now on")
                    self.session.unready()
                case session.Reconnect(after_seconds, reason):
                    logger.info("dispatcher goes away: %s", reason)
                    self._reconnect_after = after_seconds * (0.5 + self._draw())
                    close = True
        return close

    # ------------------------------------------------------------ words

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        if not self._config.token_file:
            return ()
        # Read anew each time: a projected token is replaced while we run.
        try:
            token = Path(self._config.token_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise _as_error(grpc.StatusCode.UNAUTHENTICATED, f"no token: {error}") from None
        return (("authorization", f"Bearer {token}"),)

    def _explain(self, error: grpc.aio.AioRpcError) -> None:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            self.session.forget_session()
        remedy = _REMEDIES.get(code, "")
        logger.warning(
            "stream ended code=%s details=%r%s", code.name, details, f": {remedy}" if remedy else ""
        )


def _reconnect_seconds_max(failures: int) -> float:
    """A second at most after the first failure, doubled with each one more, up to ten."""
    return min(FIRST_RECONNECT_SECONDS_MAX * 2.0 ** min(failures - 1, 8), RECONNECT_SECONDS_MAX)


def _as_error(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
