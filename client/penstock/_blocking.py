"""Calls over grpc's blocking API, and `submit_many` over it: the shell around `_pipeline`.

The caller's own thread draws from the source, decides and takes outcomes; so the source runs where
the caller expects it. One more thread, which ends with the run, only moves answers from the stream
into `_inbox`; requests go through `_outbox` to the thread that gRPC itself starts for a stream.
Both queues hold no more than the pipeline's batches in flight.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Final, TypeVar

import grpc
from google.protobuf import message

from penstock import _calls, _pipeline, _settings, _status, _submission, errors
from penstock.v1 import task_service_pb2

Answer = TypeVar("Answer", bound=message.Message)
Value = TypeVar("Value")

DRAW_SECONDS_MAX: Final = 0.005
"""A batch is not held up for a source that is slower than this."""
FAREWELL_SECONDS: Final = 1.0


def error_of(failure: Any) -> errors.PenstockError:
    """The error that a call ended with; CANCELLED by the other side says that nobody serves it."""
    if failure.code() is grpc.StatusCode.CANCELLED:
        return errors.Unavailable("the call was cancelled", code=grpc.StatusCode.CANCELLED)
    return _status.from_call(failure)


def once(
    channel: grpc.Channel,
    call: _calls.Call[Answer, Value],
    *,
    token: _settings.Token,
    seconds: float,
) -> Value:
    """One try. Raises PenstockError."""
    method: grpc.UnaryUnaryMultiCallable[message.Message, Answer] = channel.unary_unary(
        call.path,
        request_serializer=type(call.request).SerializeToString,
        response_deserializer=call.answer.FromString,
    )
    try:
        answer = method(call.request, timeout=seconds, metadata=token.metadata())
    except grpc.RpcError as failure:
        raise error_of(failure) from None
    return call.read(answer)


_Answered = task_service_pb2.BatchSubmitTasksResponse | grpc.RpcError | None
"""An answer, or how the stream ended: an error, or None."""


class _Stream:
    """One stream to the dispatcher, with its two queues."""

    def __init__(self, channel: grpc.Channel, token: _settings.Token) -> None:
        self.inbox: queue.SimpleQueue[_Answered] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[task_service_pb2.BatchSubmitTasksRequest | None] = (
            queue.SimpleQueue()
        )
        method = channel.stream_stream(
            _calls.STREAM_SUBMIT,
            request_serializer=task_service_pb2.BatchSubmitTasksRequest.SerializeToString,
            response_deserializer=task_service_pb2.BatchSubmitTasksResponse.FromString,
        )
        self._call = method(iter(self.outbox.get, None), metadata=token.metadata())
        self._reader = threading.Thread(target=self._read, name="penstock-submit-many", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self.inbox.put(answer)
            self.inbox.put(None)
        except grpc.RpcError as failure:
            self.inbox.put(failure)

    def finish(self) -> None:
        """No more requests: let the dispatcher end the stream, for a short while."""
        self.outbox.put(None)
        self._reader.join(FAREWELL_SECONDS)

    def close(self) -> None:
        """End it, and its threads, now."""
        self._call.cancel()
        self.outbox.put(None)
        self._reader.join(FAREWELL_SECONDS)


class Run:
    """One `submit_many`. `outcomes` can be used once."""

    def __init__(
        self,
        *,
        connect: Callable[[], grpc.Channel],
        token: _settings.Token,
        terms: _pipeline.Terms,
    ) -> None:
        self._connect = connect
        self._token = token
        self._pipeline = _pipeline.Pipeline(terms, draw=random.random)
        self._stream: _Stream | None = None
        self._fed = False
        self._source_failure: Exception | None = None

    def outcomes(
        self, source: Iterable[_submission.Submission]
    ) -> Generator[_submission.Outcome, None, None]:
        """Every outcome, in the order of the source. If the source fails, that is raised after the
        outcomes of what it had given before.
        """
        pipeline, drawn = self._pipeline, iter(source)
        try:
            while not (self._fed and pipeline.idle):
                self._feed(drawn)
                self._send()
                self._receive()
                yield from pipeline.take_outcomes()
            if self._source_failure is not None:
                raise self._source_failure
            if self._stream is not None:
                self._stream.finish()
        finally:
            if self._stream is not None:
                self._stream.close()

    def _feed(self, drawn: Iterator[_submission.Submission]) -> None:
        until = time.monotonic() + DRAW_SECONDS_MAX
        for _ in range(_pipeline.BATCH_TASKS_MAX):
            if self._fed or not self._pipeline.room:
                return
            try:
                self._pipeline.add(next(drawn))
            except StopIteration:
                self._fed = True
            except Exception as failure:  # whatever the caller's iterable raises: it is handed back
                self._source_failure, self._fed = failure, True
            if time.monotonic() > until:
                return

    def _send(self) -> None:
        while (batch := self._pipeline.next_batch(time.monotonic())) is not None:
            if self._stream is None:
                self._stream = _Stream(self._connect(), self._token)
            self._stream.outbox.put(batch)

    def _receive(self) -> None:
        """Take the answers that have come; wait for one only if there is nothing else to do."""
        pipeline, now = self._pipeline, time.monotonic()
        moments = [pipeline.held_until(now), pipeline.patience_ends()]
        seconds = min((moment - now for moment in moments if moment is not None), default=0.0)
        if pipeline.room and not self._fed:
            seconds = 0.0
        if self._stream is None:
            # Nothing is on its way: what there may be to wait for is the end of a back-off.
            time.sleep(max(0.0, seconds))
            return
        try:
            self._take(self._stream.inbox.get(timeout=max(0.0, seconds)))
            while self._stream is not None:
                self._take(self._stream.inbox.get_nowait())
        except queue.Empty:
            pipeline.check(time.monotonic())

    def _take(self, answer: _Answered) -> None:
        if isinstance(answer, task_service_pb2.BatchSubmitTasksResponse):
            self._pipeline.answered(answer, time.monotonic())
            return
        assert self._stream is not None, "only a stream answers"
        self._stream.close()
        self._stream = None
        if answer is not None:
            error = error_of(answer)
        else:
            error = errors.Unavailable(
                "the dispatcher ended the stream", code=grpc.StatusCode.UNAVAILABLE
            )
        self._pipeline.broken(error, time.monotonic())
