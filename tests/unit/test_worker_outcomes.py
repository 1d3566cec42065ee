"""An outcome comes of whatever a handler returns or raises, and it fits a frame."""

import asyncio
import math
from typing import Any

import pytest
from google.rpc import error_details_pb2

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import errors, outcomes, session

FRAME_BYTES_MAX = 16 * 1024 * 1024
"""What the dispatcher takes."""


def told(error: BaseException, *, stopped_for: str = "") -> wire.TaskOutcome:
    return outcomes.of_error(error, stopped_for=stopped_for, seconds=1.5)


def reason(outcome: wire.TaskOutcome) -> str:
    info = error_details_pb2.ErrorInfo()
    assert outcome.failed.error.details[0].Unpack(info)
    return str(info.reason)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def test_what_an_error_means() -> None:
    plain = told(ValueError("no good"))
    assert (reason(plain), plain.failed.error.message) == ("ValueError", "no good")
    assert plain.failed.retryable
    assert not told(errors.PermanentError("never")).failed.retryable
    assert told(errors.Release("not here")).released.reason == "not here"
    later = told(errors.RetryLater(2.5)).failed
    assert (later.retryable, later.retry_delay.ToMilliseconds()) == (True, 2500)
    assert told(errors.RetryLater(-1)).failed.retry_delay.ToMilliseconds() == 0


@pytest.mark.parametrize("error", [asyncio.CancelledError(), errors.Cancelled()])
def test_a_stop_that_was_asked_for_and_one_that_was_not(error: BaseException) -> None:
    assert told(error, stopped_for="somebody did").HasField("cancelled")
    late = told(error, stopped_for=outcomes.TIMEOUT_REASON)
    assert (reason(late), late.failed.error.code) == (outcomes.TIMEOUT_REASON, 4)
    unasked = told(error)
    assert unasked.failed.retryable, "an attempt is charged, or it would go round for ever"
    assert reason(unasked) == type(error).__name__


@pytest.mark.parametrize(
    "error",
    [
        UnprintableError(),
        ValueError("a file called \udcff"),
        errors.Release("\ud800"),
        SystemExit(3),
        errors.RetryLater(1e300),
    ],
    ids=lambda error: ascii(type(error).__name__),
)
def test_an_outcome_comes_of_anything(error: BaseException) -> None:
    outcome = told(error)
    assert outcome.WhichOneof("outcome") in ("failed", "released")
    assert wire.TaskOutcome.FromString(outcome.SerializeToString()) == outcome


def test_a_delay_that_was_changed_afterwards_still_fails_the_attempt() -> None:
    error = errors.RetryLater(1, "later")
    error.delay_seconds = "soon"  # type: ignore[assignment]
    assert told(error).failed.retryable


@pytest.mark.parametrize("delay", [math.inf, math.nan, "soon", None])
def test_a_delay_that_is_no_number_is_refused_where_it_is_given(delay: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        errors.RetryLater(delay, "later")
    assert errors.RetryLater("5").delay_seconds == 5.0  # type: ignore[arg-type] # a header's text


def test_a_result_has_a_bound_and_says_what_to_do() -> None:
    most = outcomes.completed(b"x" * outcomes.RESULT_BYTES_MAX)
    assert most.HasField("completed")
    more = outcomes.completed("x" * (outcomes.RESULT_BYTES_MAX + 1))
    assert reason(more) == "RESULT_TOO_LARGE"
    assert not more.failed.retryable
    assert "reference" in more.failed.error.message


def test_frames_of_outcomes_fit_whatever_is_in_them() -> None:
    subject = session.Session(
        session.Identity(
            pool="namespaces/d/pools/p",
            pool_uid="",
            pod_name="pod",
            pod_uid="uid",
            slots=1000,
            task_types=(),
            revision="",
            sdk_version="",
        )
    )
    subject.opened()
    subject.next_frame(0.0)
    subject.received(wire.WorkResponse(welcome=wire.Welcome(session_id="s")), 0.0)
    subject.next_frame(0.0)
    leases = [wire.Lease(lease_id=f"{number:032x}", fencing_token=9) for number in range(1000)]
    assignments = [wire.Assignment(lease=lease) for lease in leases]
    subject.received(wire.WorkResponse(assignments=wire.Assignments(assignments=assignments)), 0.0)
    for number, lease in enumerate(leases):
        outcome = told(ValueError("\N{SNOWMAN}" * 10_000_000))
        if number % 100 == 0:
            outcome = outcomes.completed(b"x" * outcomes.RESULT_BYTES_MAX)
        subject.ended(lease.lease_id, outcome)
    sent = 0
    while (frame := subject.next_frame(0.0)) is not None:
        assert frame.ByteSize() < FRAME_BYTES_MAX / 2
        sent += len(frame.outcomes.outcomes)
    assert sent == 1000
