"""WorkerService.Work: one stream a worker.

A stream has a reader (frames into the core's verbs, in order), a writer (its outbox), and a word
that ends it from our side: replaced by a newer stream of the same session, pod gone, or the
dispatcher stopping. Whatever ends it, the session is told in `finally`; a stream that was replaced
says nothing any more.
"""

import asyncio
import contextlib
import secrets
from typing import Any, Final

import grpc
import grpc.aio

from penstock.v1 import worker_service_pb2
from penstock_dispatcher import auth, errors, outbox, pump
from penstock_dispatcher.convert import names, plain, times, worker_side
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import units
from penstock_dispatcher.services import answering

SERVICE: Final = "penstock.v1.WorkerService"
HELLO_SECONDS_MAX: Final = 10.0
GOODBYE_SECONDS_MAX: Final = 2.0
"""How long a stream that we end may take to write what waits for it."""
RECONNECT_AFTER_NS: Final = 500 * units.MILLISECOND

_Frame = worker_service_pb2.WorkRequest


class WorkerService:
    """See the module's docstring."""

    def __init__(self, pump_: pump.Pump, calls: answering.Calls) -> None:
        self.calls = calls
        self._pump = pump_
        self._streams: set[_Stream] = set()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service for a server. Answers are serialized already (see `convert.frames`), which is
        why the generated registration is not used.
        """
        work = grpc.stream_stream_rpc_method_handler(self.Work, _read_frame, lambda frame: frame)
        return grpc.method_handlers_generic_handler(SERVICE, {"Work": work})

    @answering.answered
    async def Work(self, _: Any, context: Any) -> None:  # noqa: N802
        """One worker's stream."""
        self._pump.check_open()
        hello = await _first_frame(context)
        worker_side.check_hello(hello)
        auth.check_namespace(names.namespace_of(hello.pool))
        pool = self._pump.registry.for_worker(hello.pool, hello.pool_uid)
        session_id = hello.session_id or secrets.token_hex(12)
        known = pool.fleet.workers.get(session_id)
        # Sessions of before a restart that have not come back yet belong to somebody, too.
        owner = pool.fleet.expected.get(session_id) if known is None else known.pod_uid
        if owner is not None and owner != hello.pod_uid:
            raise errors.Refusal(
                errors.Reason.STALE_SESSION, f"session {session_id} belongs to another pod"
            )
        stream = _Stream(self._pump, pool, session_id)
        self._streams.add(stream)
        try:
            await stream.run(hello, context)
        finally:
            self._streams.discard(stream)

    async def go_away(self) -> None:
        """The dispatcher stops: tell every worker to come back, and end the streams."""
        frame = worker_service_pb2.WorkResponse(
            go_away=worker_service_pb2.GoAway(
                reconnect_after=times.duration(RECONNECT_AFTER_NS), reason="the dispatcher stops"
            )
        )
        for stream in self._streams:
            stream.box.send(frame)
            stream.end(errors.stopping())


def _read_frame(message: bytes) -> _Frame | plain.Ended:
    return plain.ended(message) or _Frame.FromString(message)


async def _first_frame(context: Any) -> worker_service_pb2.Hello:
    try:
        async with asyncio.timeout(HELLO_SECONDS_MAX):
            first = await context.read()
    except TimeoutError:
        raise errors.invalid("hello", "must come at once") from None
    # None is how grpc.aio hands over what it could not decode.
    if not isinstance(first, _Frame) or first.WhichOneof("message") != "hello":
        raise errors.invalid("hello", "must be the first frame of a stream")
    return first.hello


class _Stream:
    """One stream of one session."""

    def __init__(self, pump_: pump.Pump, pool: pools.Pool, session_id: str) -> None:
        self.box = outbox.Outbox(pool.name)
        self._pump = pump_
        self._pool = pool
        self._session_id = session_id
        self._key = (pool.config.uid, session_id)
        self._ended: asyncio.Future[errors.Refusal] = asyncio.get_running_loop().create_future()

    def end(self, refusal: errors.Refusal) -> None:
        """End the stream from our side, after what waits in the outbox."""
        if not self._ended.done():
            self._ended.set_result(refusal)

    def _replaced(self) -> None:
        self.end(
            errors.Refusal(
                errors.Reason.STALE_SESSION,
                "another stream speaks for this pod now, or the pod is known to be gone",
            )
        )

    async def run(self, hello: worker_service_pb2.Hello, context: Any) -> None:
        """From Hello to the end."""
        pump_ = self._pump
        earlier = pump_.on_replaced.pop(self._key, None)
        if earlier is not None:
            earlier()
        pump_.outboxes[self._key] = self.box
        pump_.on_replaced[self._key] = self._replaced
        work: list[asyncio.Future[Any]] = []
        try:
            introduction = worker_side.introduction(hello, self._session_id)
            if not self._pool.fleet.hello(introduction, pump_.now()):
                raise errors.Refusal(
                    errors.Reason.TOO_MANY_STREAMS,
                    f"pool {self._pool.name} has too many workers",
                    errors.Details(retry_after_ns=errors.RETRY_AFTER_START_NS),
                )
            pump_.mark(self._pool)
            reading = asyncio.ensure_future(self._read(context))
            writing = asyncio.ensure_future(self.box.drain(context.write))
            work = [reading, writing]
            await asyncio.wait((*work, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                reading.cancel()
                self.box.close()
                await asyncio.wait((writing,), timeout=GOODBYE_SECONDS_MAX)
                raise self._ended.result()
            if reading.done() and not reading.cancelled():
                reading.result()
        finally:
            for part in work:
                part.cancel()
            self._gone()
            for part in work:
                # The client may be gone in the middle of a write: there is nobody to tell.
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await part

    def _gone(self) -> None:
        pump_ = self._pump
        if pump_.outboxes.get(self._key) is not self.box:
            return
        del pump_.outboxes[self._key]
        pump_.on_replaced.pop(self._key, None)
        self._pool.fleet.disconnected(self._session_id, pump_.now())
        pump_.mark(self._pool)

    async def _read(self, context: Any) -> None:
        while True:
            await self.box.room()
            frame = await context.read()
            if frame is grpc.aio.EOF or self._ended.done():
                return
            if frame is None:
                raise errors.invalid("message", "must be a WorkRequest that can be decoded")
            if self._handle(frame):
                self._pump.mark(self._pool)

    def _handle(self, frame: _Frame | plain.Ended) -> bool:
        """One frame into the core's verb. Returns whether the pool needs a turn: thousands of idle
        workers' heartbeats change nothing.
        """
        pool, fleet, session_id = self._pool, self._pool.fleet, self._session_id
        now = self._pump.now()
        if isinstance(frame, plain.Ended):
            fleet.outcomes(session_id, frame.outcomes, now)
            fleet.credit(session_id, frame.credit)
            return True
        match frame.WhichOneof("message"):
            case "outcomes":
                ended = [worker_side.outcome_of(each) for each in frame.outcomes.outcomes]
                fleet.outcomes(session_id, ended, now)
                fleet.credit(session_id, frame.outcomes.credit)
            case "credit":
                fleet.credit(session_id, frame.credit.slots)
            case "heartbeat":
                return fleet.heartbeat(session_id, frame.heartbeat.lease_ids, now)
            case "drain_started":
                fleet.stopping(session_id)
            case "drained":
                pool.reservations.confirm(session_id)
            case "goodbye":
                fleet.goodbye(session_id, now)
            case "progress":
                told, checkpoint = worker_side.progress_of(frame.progress, now)
                fleet.progress(session_id, frame.progress.lease_id, told, checkpoint)
            case _:
                raise errors.invalid("message", "must be one that is allowed after hello")
        return True
