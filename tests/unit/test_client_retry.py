"""When a call is tried again: tables of errors and times."""

import pytest

import penstock
from penstock import _retry, errors

DOWN = errors.Unavailable("nobody there")
FULL = errors.QueueFull("full", retry_after_seconds=2.0)
FULL_FOR_GOOD = errors.QueueFull("full")


def test_unavailable_backs_off_with_jitter_up_to_a_bound() -> None:
    shortest = [_retry.delay_seconds(DOWN, failures=n, draw=0.0) for n in (1, 2, 3, 4, 99)]
    longest = [_retry.delay_seconds(DOWN, failures=n, draw=1.0) for n in (1, 2, 3, 4, 99)]
    assert longest == pytest.approx([0.1, 0.2, 0.4, 0.8, _retry.BACKOFF_SECONDS_MAX])
    assert shortest == pytest.approx([delay / 2 for delay in longest])


def test_the_dispatcher_s_delay_wins_and_is_never_cut_short() -> None:
    assert _retry.delay_seconds(FULL, failures=1, draw=0.0) == 2.0
    assert _retry.delay_seconds(FULL, failures=9, draw=1.0) == pytest.approx(2.4)


def test_a_delay_of_zero_does_not_make_a_hot_loop() -> None:
    starting = errors.Starting("starting", retry_after_seconds=0.0)
    assert _retry.delay_seconds(starting, failures=1, draw=0.0) >= 0.05


def test_unavailable_is_retried_until_the_deadline_and_then_told() -> None:
    attempts = _retry.Attempts(now=100.0, seconds=1.0)
    assert attempts.failed(DOWN, now=100.0, draw=1.0) == pytest.approx(0.1)
    assert attempts.failed(DOWN, now=100.2, draw=1.0) == pytest.approx(0.2)
    assert attempts.remaining(100.5) == pytest.approx(0.5)
    with pytest.raises(errors.Unavailable):
        attempts.failed(DOWN, now=100.9, draw=1.0)
    assert attempts.remaining(200.0) == 0.0


def test_time_that_runs_out_while_nobody_answers_is_told_as_unavailable() -> None:
    attempts = _retry.Attempts(now=0.0, seconds=10.0)
    attempts.failed(DOWN, now=0.0, draw=0.0)
    with pytest.raises(errors.Unavailable):
        attempts.failed(errors.DeadlineExceeded("late"), now=10.0, draw=0.0)


def test_a_deadline_alone_is_told_as_such() -> None:
    attempts = _retry.Attempts(now=0.0, seconds=10.0)
    with pytest.raises(errors.DeadlineExceeded):
        attempts.failed(errors.DeadlineExceeded("late"), now=10.0, draw=0.0)


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        FULL_FOR_GOOD,
        errors.TaskNotFound("no"),
        errors.InvalidField("no"),
        errors.Unauthenticated("no"),
        errors.PenstockError("no"),
    ],
)
def test_everything_else_is_raised_at_once(error: errors.PenstockError) -> None:
    attempts = _retry.Attempts(now=0.0, seconds=60.0)
    with pytest.raises(type(error)):
        attempts.failed(error, now=0.0, draw=0.0)


def test_retry_comes_back_to_a_full_pool_when_it_says() -> None:
    attempts = _retry.Attempts(
        now=0.0, seconds=1.0, retry=penstock.Retry(max_elapsed_seconds=5.0, max_attempts=10)
    )
    assert attempts.failed(FULL, now=0.0, draw=0.0) == 2.0
    assert attempts.failed(FULL, now=2.0, draw=0.0) == 2.0
    with pytest.raises(penstock.QueueFull):
        attempts.failed(FULL, now=4.0, draw=0.0)


def test_retry_is_bounded_in_attempts() -> None:
    attempts = _retry.Attempts(now=0.0, seconds=1.0, retry=penstock.Retry(max_attempts=2))
    attempts.failed(FULL, now=0.0, draw=0.0)
    with pytest.raises(penstock.QueueFull):
        attempts.failed(FULL, now=2.0, draw=0.0)


def test_retry_leaves_a_refusal_without_a_delay_alone() -> None:
    attempts = _retry.Attempts(now=0.0, seconds=1.0, retry=penstock.Retry())
    with pytest.raises(penstock.QueueFull):
        attempts.failed(FULL_FOR_GOOD, now=0.0, draw=0.0)


@pytest.mark.parametrize(
    "arguments",
    [{"max_attempts": 0}, {"max_elapsed_seconds": -1.0}, {"max_elapsed_seconds": float("nan")}],
)
def test_a_retry_that_makes_no_sense_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        penstock.Retry(**arguments)  # type: ignore[arg-type]


def test_a_call_that_waits_for_room_has_that_time_on_top() -> None:
    attempts = _retry.Attempts(now=100.0, seconds=10.0, hold_seconds=3600.0)
    assert attempts.begin(100.0) == 0.0
    assert attempts.remaining(100.0) == 3610.0


def test_who_is_away_is_not_tried_for_as_long_as_a_call_may_be_held() -> None:
    attempts = _retry.Attempts(now=0.0, seconds=10.0, hold_seconds=3600.0)
    attempts.begin(0.0)
    attempts.failed(DOWN, now=0.0, draw=0.0)
    attempts.begin(9.0)
    attempts.failed(DOWN, now=9.0, draw=0.0)
    attempts.begin(9.9)
    with pytest.raises(errors.Unavailable):
        attempts.failed(DOWN, now=9.9, draw=1.0)


def test_a_dispatcher_that_held_the_call_and_goes_away_is_tried_anew() -> None:
    attempts = _retry.Attempts(now=0.0, seconds=10.0, hold_seconds=3600.0)
    attempts.begin(0.0)
    attempts.failed(DOWN, now=500.0, draw=0.0)
    attempts.begin(501.0)
    attempts.failed(DOWN, now=1000.0, draw=0.0)
    attempts.begin(1009.0)
    with pytest.raises(errors.Unavailable):
        attempts.failed(DOWN, now=1009.9, draw=1.0)


def test_one_that_restarts_again_and_again_is_tried_as_long_as_the_call_may_wait() -> None:
    attempts = _retry.Attempts(now=0.0, seconds=30.0, hold_seconds=600.0)
    now = 0.0
    for _ in range(20):
        attempts.begin(now)
        now += 17.0  # held, and then broken off
        attempts.failed(DOWN, now=now, draw=0.0)
        now += 1.0


def test_what_was_waited_counts_until_a_dispatcher_has_refused() -> None:
    attempts = _retry.Attempts(now=0.0, seconds=10.0, retry=penstock.Retry(), hold_seconds=15.0)
    assert attempts.begin(0.1) == 0.0
    attempts.failed(DOWN, now=6.0, draw=0.0)
    assert attempts.begin(7.0) == 7.0
    attempts.failed(FULL, now=15.0, draw=0.0)
    assert attempts.begin(17.0) == 0.0
    assert attempts.begin(18.0) == 1.0
