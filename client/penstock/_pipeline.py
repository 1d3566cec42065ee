"""`submit_many` without I/O: batches out, batches of outcomes in, everything in order.

The shells (one asynchronous, one blocking) move messages and wait; this machine decides what to
send and when. It owns a window of submissions whose outcomes the caller has not taken yet: at most
`WINDOW_TASKS_MAX` of them with `WINDOW_BYTES_MAX` of payload, in the caller's order. Several
batches travel at once, so that the dispatcher never waits for us between two of them.

Nothing is lost or doubled when the stream breaks: what was sent and not answered is sent again on
the next stream, in the same order and with the same `request_id`s. A refusal that may be retried
holds back everything behind it, so that the order of admission stays the caller's as far as it can
(what was already on its way may have been admitted).

The contract with the shell: `add` while `room`; send each `next_batch`; hand in every `answered`,
or `broken`; give the caller `take_outcomes`. Times are monotonic seconds.
"""

import collections
import dataclasses
import uuid
from collections.abc import Callable
from typing import Final

import grpc

from penstock import _payload, _retry, _status, _submission, errors
from penstock.v1 import task_service_pb2

BATCH_TASKS_MAX: Final = 1000
BATCH_BYTES_MAX: Final = 1024 * 1024
"""A larger payload travels alone."""
BATCHES_IN_FLIGHT_MAX: Final = 4
WINDOW_TASKS_MAX: Final = BATCHES_IN_FLIGHT_MAX * BATCH_TASKS_MAX
WINDOW_BYTES_MAX: Final = 8 * BATCH_BYTES_MAX
_OVERHEAD_BYTES: Final = 256
"""What a submission weighs beside what is sent, roughly."""


@dataclasses.dataclass(slots=True, eq=False)
class _Entry:
    submission: _submission.Submission
    request: task_service_pb2.SubmitTaskRequest
    size: int
    failures: int = 0
    first_refusal: float = 0.0
    outcome: _submission.Outcome | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for every submission of one `submit_many`."""

    parent: str
    retry: _retry.Retry | None
    timeout_seconds: float
    """How long without any progress until it gives up."""


class Pipeline:
    """See the module's docstring. `draw` gives a uniform number in [0, 1) for jitter."""

    def __init__(self, terms: Terms, *, draw: Callable[[], float]) -> None:
        self._terms = terms
        self._draw = draw
        self._run_id = str(uuid.uuid4())
        self._added = 0
        self._window: collections.deque[_Entry] = collections.deque()
        self._window_bytes = 0
        self._unsent: collections.deque[_Entry] = collections.deque()
        self._sent: collections.deque[list[_Entry]] = collections.deque()
        self._hold_until = 0.0
        self._broken = 0
        self._stuck_since: float | None = None
        self.patience_seconds: Final = terms.timeout_seconds

    # ------------------------------------------------------------ the caller's side

    @property
    def room(self) -> bool:
        """Another submission may be added."""
        return len(self._window) < WINDOW_TASKS_MAX and self._window_bytes < WINDOW_BYTES_MAX

    @property
    def idle(self) -> bool:
        """Everything added was answered, and its outcome taken."""
        return not self._window

    @property
    def open(self) -> bool:
        """Something is still to be sent or answered."""
        return bool(self._unsent or self._sent)

    def add(self, submission: _submission.Submission) -> None:
        """Take one more; one that no message can carry has its outcome at once. Raises ValueError
        or TypeError for what can never be right.
        """
        request_id = f"{self._run_id}-{self._added}"
        self._added += 1
        try:
            request = _submission.to_wire(
                submission,
                parent="",
                request_id=request_id,
                now=_submission.utc_now,
            )
        except errors.PayloadTooLarge as error:
            request_id = submission.request_id or request_id
            size = len(_payload.of(submission.payload).data) + _OVERHEAD_BYTES
            entry = _Entry(submission, task_service_pb2.SubmitTaskRequest(), size)
            entry.outcome = _submission.Outcome(submission, request_id, error=error)
        else:
            entry = _Entry(submission, request, request.ByteSize() + _OVERHEAD_BYTES)
            self._unsent.append(entry)
        self._window.append(entry)
        self._window_bytes += entry.size

    def take_outcomes(self) -> list[_submission.Outcome]:
        """The outcomes that are next in the caller's order, as far as they are known."""
        taken: list[_submission.Outcome] = []
        while self._window and (outcome := self._window[0].outcome) is not None:
            self._window_bytes -= self._window.popleft().size
            taken.append(outcome)
        return taken

    # ------------------------------------------------------------ the stream's side

    def next_batch(self, now: float) -> task_service_pb2.BatchSubmitTasksRequest | None:
        """What to send now; None = nothing, until `due` or an answer."""
        if not self._unsent or now < self._hold_until or len(self._sent) >= BATCHES_IN_FLIGHT_MAX:
            return None
        batch: list[_Entry] = []
        size = 0
        while self._unsent and len(batch) < BATCH_TASKS_MAX:
            size += self._unsent[0].size
            if batch and size > BATCH_BYTES_MAX:
                break
            batch.append(self._unsent.popleft())
        self._sent.append(batch)
        if self._stuck_since is None:
            self._stuck_since = now
        return task_service_pb2.BatchSubmitTasksRequest(
            parent=self._terms.parent, requests=[entry.request for entry in batch]
        )

    def held_until(self, now: float) -> float | None:
        """When a batch that is held back may go, if that lies ahead."""
        return self._hold_until if self._unsent and self._hold_until > now else None

    def patience_ends(self) -> float | None:
        """When `check` will raise if nothing is answered until then."""
        return None if self._stuck_since is None else self._stuck_since + self.patience_seconds

    def check(self, now: float) -> None:
        """Raises DeadlineExceeded when the dispatcher has owed an answer for too long."""
        if self._stuck_since is not None and now - self._stuck_since >= self.patience_seconds:
            raise errors.DeadlineExceeded(
                f"the dispatcher has not answered for {self.patience_seconds:g} s",
                code=grpc.StatusCode.DEADLINE_EXCEEDED,
            )

    def answered(self, answer: task_service_pb2.BatchSubmitTasksResponse, now: float) -> None:
        """The outcomes of the batch that was sent first. Raises PenstockError if they are not."""
        if not self._sent or len(answer.outcomes) != len(self._sent[0]):
            raise errors.PenstockError(
                "the dispatcher answered with another number of outcomes than it was asked for",
                code=grpc.StatusCode.INTERNAL,
            )
        again: list[_Entry] = []
        for entry, found in zip(self._sent.popleft(), answer.outcomes, strict=True):
            if found.WhichOneof("outcome") == "response":
                entry.outcome = _submission.Outcome(
                    entry.submission,
                    entry.request.request_id,
                    found.response.task.name,
                    found.response.deduplicated,
                    None,
                    found.response.task,
                )
            else:
                error = _status.error_from(found.error)
                delay = self._delay(entry, error, now)
                if delay is None:
                    entry.outcome = _submission.Outcome(
                        entry.submission, entry.request.request_id, error=error
                    )
                else:
                    self._hold_until = max(self._hold_until, now + delay)
                    again.append(entry)
        self._unsent.extendleft(reversed(again))
        self._broken = 0
        self._stuck_since = now if self._sent else None

    def _delay(self, entry: _Entry, error: errors.PenstockError, now: float) -> float | None:
        retry = self._terms.retry
        if not _retry.retryable(error, retry):
            return None
        entry.failures += 1
        entry.first_refusal = entry.first_refusal or now
        delay = _retry.delay_seconds(error, failures=entry.failures, draw=self._draw())
        patience = self._terms.timeout_seconds
        if retry is not None and not isinstance(error, errors.Unavailable):
            patience = retry.max_elapsed_seconds
            if entry.failures >= retry.max_attempts:
                return None
        return delay if now + delay < entry.first_refusal + patience else None

    def broken(self, error: errors.PenstockError, now: float) -> None:
        """The stream has ended: what was not answered is sent again on the next one.

        Raises the error if it is not worth another try, or patience has ended.
        """
        again = [entry for batch in self._sent for entry in batch]
        self._sent.clear()
        self._unsent.extendleft(reversed(again))
        self._broken += 1
        delay = _retry.delay_seconds(error, failures=self._broken, draw=self._draw())
        self._hold_until = max(self._hold_until, now + delay)
        if not self.open:
            return  # nothing was owed: the next submission will find out
        self._stuck_since = now if self._stuck_since is None else self._stuck_since
        too_late = now + delay >= self._stuck_since + self.patience_seconds
        if too_late or not _retry.retryable(error, self._terms.retry):
            raise error
