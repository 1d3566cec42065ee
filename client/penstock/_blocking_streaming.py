"""`submit_many` over grpc's blocking API: the shell around `_pipeline`.

The caller's own thread draws from the source and takes outcomes, so the source runs where the
caller expects it. It may stand still there for as long as it likes: one more thread, the courier,
keeps a stream to the dispatcher, takes its answers, and opens another when it breaks; and gRPC's
thread for requests takes batches as fast as they can be written. Whoever touches the pipeline holds
`_changed`. The threads end with the run, however it ends.
"""

import random
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Final

import grpc

from penstock import _calls, _pipeline, _settings, _status, _submission, errors
from penstock.v1 import task_service_pb2

FAREWELL_SECONDS: Final = 1.0
"""How long a stream that has done its work may take to end by itself."""


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
        self._changed = threading.Condition()
        self._courier: threading.Thread | None = None
        self._call: Any = None
        self._fed = False
        self._over = False
        self._failure: Exception | None = None
        self._source_failure: Exception | None = None

    def outcomes(
        self, source: Iterable[_submission.Submission]
    ) -> Generator[_submission.Outcome, None, None]:
        """Every outcome, in the order of the source. If the source fails, that is raised after the
        outcomes of what it had given before.
        """
        drawn = iter(source)
        try:
            while not (self._fed and self._pipeline.idle):
                with self._changed:
                    taken = self._pipeline.take_outcomes()
                    if not taken and self._failure is not None:
                        raise self._failure
                    full = self._fed or not self._pipeline.room
                    if not taken and full:
                        self._pipeline.check(time.monotonic())
                        self._change(self._pipeline.patience_ends())
                yield from taken
                if not taken and not full:
                    self._draw(drawn)
            if self._source_failure is not None:
                raise self._source_failure
            if self._courier is not None:
                self._courier.join(FAREWELL_SECONDS)
        finally:
            self._end()

    def _change(self, until: float | None) -> None:
        """Wait until something has changed, or the monotonic time `until` has come."""
        self._changed.wait(None if until is None else max(0.0, until - time.monotonic()))

    def _draw(self, drawn: Iterator[_submission.Submission]) -> None:
        """Take one submission from the source, or find that there are no more."""
        fed, failure = False, None
        try:
            submission = next(drawn)
            with self._changed:
                self._pipeline.add(submission)
        except StopIteration:
            fed = True
        except Exception as raised:  # whatever the caller's iterable raises: it is handed back
            fed, failure = True, raised
        with self._changed:
            self._fed, self._source_failure = fed, failure
            self._changed.notify_all()
        if self._courier is None and self._pipeline.open:
            self._courier = threading.Thread(
                target=self._carry, name="penstock-submit-many", daemon=True
            )
            self._courier.start()

    def _end(self) -> None:
        with self._changed:
            self._over = True
            call = self._call
            self._changed.notify_all()
        if call is not None:
            call.cancel()
        if self._courier is not None:
            self._courier.join(FAREWELL_SECONDS)

    @property
    def _finished(self) -> bool:
        return self._over or (self._fed and not self._pipeline.open)

    # ------------------------------------------------------------ the courier's thread

    def _carry(self) -> None:
        try:
            while self._wait_for_work():
                broken = self._stream()
                with self._changed:
                    if broken is not None and not self._over:
                        self._pipeline.broken(broken, time.monotonic())
        except Exception as failure:  # it is raised in the caller's thread
            self._failure = failure
        with self._changed:
            self._changed.notify_all()

    def _wait_for_work(self) -> bool:
        """Whether there is something to carry, once that may start; else all is done."""
        with self._changed:
            while not self._finished:
                held = self._pipeline.held_until(time.monotonic())
                if self._pipeline.open and held is None:
                    return True
                self._change(held)
            return False

    def _stream(self) -> errors.PenstockError | None:
        """Carry batches over one stream until all is done (None), or it ends (why)."""
        method = self._connect().stream_stream(
            _calls.STREAM_SUBMIT,
            request_serializer=task_service_pb2.BatchSubmitTasksRequest.SerializeToString,
            response_deserializer=task_service_pb2.BatchSubmitTasksResponse.FromString,
        )
        mine = threading.Event()
        with self._changed:
            if self._over:
                return None
            call = self._call = method(self._batches(mine), metadata=self._token.metadata())
        try:
            for answer in call:
                with self._changed:
                    self._pipeline.answered(answer, time.monotonic())
                    self._changed.notify_all()
        except grpc.RpcError as failure:
            return _status.from_call(failure)
        finally:
            with self._changed:
                mine.set()
                self._changed.notify_all()
            call.cancel()
        if self._finished:
            return None
        return errors.Unavailable(
            "the dispatcher ended the stream", code=grpc.StatusCode.UNAVAILABLE
        )

    # ------------------------------------------------------------ gRPC's thread

    def _batches(self, over: threading.Event) -> Iterator[task_service_pb2.BatchSubmitTasksRequest]:
        while True:
            with self._changed:
                batch = None
                while batch is None:
                    if over.is_set() or self._finished:
                        return
                    now = time.monotonic()
                    batch = self._pipeline.next_batch(now)
                    if batch is None:
                        self._change(self._pipeline.held_until(now))
            yield batch
