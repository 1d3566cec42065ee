"""`submit_many` over grpc.aio: the shell around `_pipeline`.

Three activities share one pipeline and wake each other through `_changed`: the feeder takes
submissions from the caller's iterable while there is room, the courier keeps a stream to the
dispatcher and opens another when it breaks, and the caller's own `async for` takes outcomes. The
first two are tasks of this run; they end with it, however it ends. The window bounds all three.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Final

import grpc
import grpc.aio

from penstock import _aio, _calls, _pipeline, _settings, _submission, errors
from penstock.v1 import task_service_pb2

Source = Iterable[_submission.Submission] | AsyncIterable[_submission.Submission]

FEED_TURN: Final = 256
"""After so many submissions from a plain iterable the event loop gets its turn."""
FAREWELL_SECONDS: Final = 1.0
"""How long a stream that has done its work may take to end by itself."""


class Run:
    """One `submit_many`. `outcomes` can be used once."""

    def __init__(
        self,
        *,
        connect: Callable[[], grpc.aio.Channel],
        token: _settings.Token,
        terms: _pipeline.Terms,
    ) -> None:
        self._connect = connect
        self._token = token
        self._pipeline = _pipeline.Pipeline(terms, draw=random.random)
        self._changed = asyncio.Event()
        self._streams = 0
        self._unsure = False
        self._fed = False
        self._source_failure: Exception | asyncio.CancelledError | None = None

    async def outcomes(self, source: Source) -> AsyncGenerator[_submission.Outcome, None]:
        """Every outcome, in the order of the source. If the source fails, that is raised after the
        outcomes of what it had given before.
        """
        feeder = asyncio.create_task(self._feed(source))
        courier = asyncio.create_task(self._carry())
        try:
            while not (self._fed and self._pipeline.idle):
                taken = self._pipeline.take_outcomes()
                if taken:
                    self._notify()
                for outcome in taken:
                    yield outcome
                if taken:
                    continue
                if courier.done():
                    courier.result()
                self._pipeline.check(time.monotonic())
                await self._change(self._pipeline.patience_ends())
            if self._source_failure is not None:
                raise self._source_failure
            await asyncio.wait({courier}, timeout=FAREWELL_SECONDS)
        finally:
            feeder.cancel()
            courier.cancel()
            await asyncio.gather(feeder, courier, return_exceptions=True)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, until: float | None) -> None:
        """Wait until something has changed, or the monotonic time `until` has come."""
        changed = self._changed
        seconds = None if until is None else max(0.0, until - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await changed.wait()

    async def _feed(self, source: Source) -> None:
        try:
            async for submission in _iterate(source):
                while not self._pipeline.room:
                    await self._change(None)
                self._pipeline.add(submission)
                self._notify()
        except (Exception, asyncio.CancelledError) as failure:
            # Whatever the caller's iterable raises is handed back, and that something it awaits was
            # cancelled. When this run ends it is we who cancel, and nobody asks any more.
            self._source_failure = failure
        self._fed = True
        self._notify()

    async def _carry(self) -> None:
        try:
            while not self._finished:
                if not self._pipeline.open:
                    self._connect()  # a client that was closed ends this run, owed something or not
                    await self._change(None)
                    continue
                now = time.monotonic()
                held = self._pipeline.held_until(now)
                await asyncio.sleep(0 if held is None else held - now)
                broken = await (self._single() if self._unsure else self._stream())
                if broken is not None:
                    self._pipeline.broken(broken, time.monotonic())
        finally:
            self._notify()

    @property
    def _finished(self) -> bool:
        return self._fed and not self._pipeline.open

    async def _stream(self) -> errors.PenstockError | None:
        """Carry batches over one stream until all is done (None), or it ends (why)."""
        method = self._connect().stream_stream(
            _calls.STREAM_SUBMIT,
            request_serializer=task_service_pb2.BatchSubmitTasksRequest.SerializeToString,
            response_deserializer=task_service_pb2.BatchSubmitTasksResponse.FromString,
        )
        self._streams += 1
        call = method(self._batches(self._streams), metadata=self._token.metadata())
        try:
            async for answer in call:
                self._pipeline.answered(answer, time.monotonic())
                self._notify()
        except (grpc.RpcError, asyncio.CancelledError) as failure:
            error = _aio.error_of(failure)
            if not _aio.cause_lost(error):
                return error
            self._unsure = True
        finally:
            # gRPC goes on asking for requests after the other side has ended the call.
            self._streams += 1
            self._notify()
            call.cancel()
        if self._finished:
            return None
        return errors.Unavailable(
            "the dispatcher ended the stream", code=grpc.StatusCode.UNAVAILABLE
        )

    async def _single(self) -> errors.PenstockError | None:
        """Carry one batch by a call of its own: it says plainly why a stream would end."""
        self._unsure = False
        batch = self._pipeline.next_batch(time.monotonic())
        if batch is None:
            return None
        call = _calls.submit_batch(batch)
        try:
            answer = await _aio.once(
                self._connect(), call, token=self._token, seconds=self._pipeline.patience_seconds
            )
        except errors.PenstockError as error:
            return error
        self._pipeline.answered(answer, time.monotonic())
        self._notify()
        return None

    async def _batches(
        self, stream: int
    ) -> AsyncIterator[task_service_pb2.BatchSubmitTasksRequest]:
        while self._streams == stream and not self._finished:
            batch = self._pipeline.next_batch(time.monotonic())
            if batch is not None:
                yield batch
            else:
                await self._change(self._pipeline.held_until(time.monotonic()))


async def _iterate(source: Source) -> AsyncIterator[_submission.Submission]:
    if isinstance(source, AsyncIterable):
        async for submission in source:
            yield submission
        return
    for number, submission in enumerate(source, start=1):
        yield submission
        if number % FEED_TURN == 0:
            await asyncio.sleep(0)
