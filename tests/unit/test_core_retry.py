"""What follows a failure or a loss, and how long after."""

import dataclasses

import pytest

from penstock_dispatcher.core import retry, settings, units

S = units.SECOND
POLICY = settings.RetryPolicy(
    max_attempts=4,
    initial_backoff_ns=S,
    max_backoff_ns=5 * S,
    multiplier=2.0,
    jitter=0.5,
    non_retryable_reasons=frozenset({"ValueError"}),
)
Action = retry.RetryAction


def after(attempt: int, **changes: object) -> retry.RetryDecision:
    given: dict[str, object] = {
        "attempt": attempt,
        "reason": "OSError",
        "retryable": True,
        "wanted_delay_ns": None,
        "draw": 0.0,
    }
    return retry.after_failure(POLICY, **{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4)])
def test_back_off_doubles(attempt: int, seconds: int) -> None:
    assert after(attempt).action is Action.REQUEUE
    assert after(attempt).delay_ns == seconds * S


def test_back_off_is_capped_and_spread_downwards() -> None:
    assert retry.backoff_ns(POLICY, 4, 0.0) == 5 * S
    assert retry.backoff_ns(POLICY, 10_000, 0.0) == 5 * S
    assert retry.backoff_ns(POLICY, 4, 0.999) == pytest.approx(2.5 * S, rel=1e-3)


@pytest.mark.parametrize("multiplier", [1.0, 1.5, 1e200, float("inf"), float("nan")])
@pytest.mark.parametrize("attempt", [1, 2, 3, 10**9])
@pytest.mark.parametrize("initial", [0, 1, S, 5 * S])
def test_no_policy_of_any_version_makes_the_arithmetic_fail(
    multiplier: float, attempt: int, initial: int
) -> None:
    policy = dataclasses.replace(POLICY, multiplier=multiplier, initial_backoff_ns=initial)
    assert 0 <= retry.backoff_ns(policy, attempt, 0.5) <= 5 * S


def test_no_delay_is_beyond_what_a_journal_can_hold() -> None:
    policy = dataclasses.replace(POLICY, initial_backoff_ns=2**70, max_backoff_ns=2**70)
    assert retry.backoff_ns(policy, 1, 0.0) == retry.DELAY_NS_MAX
    decision = retry.after_failure(
        policy, attempt=1, reason="", retryable=True, wanted_delay_ns=2**70, draw=0.0
    )
    assert decision.delay_ns == retry.DELAY_NS_MAX


@pytest.mark.parametrize("multiplier", [0.99, 100.1, 1e200, float("inf"), float("nan")])
def test_a_multiplier_that_no_back_off_can_use_is_refused(multiplier: float) -> None:
    (bad,) = settings.retry_violations(dataclasses.replace(POLICY, multiplier=multiplier))
    assert bad.field == "retry_policy.backoff_multiplier"
    assert "must be 1 to 100" in bad.description
    assert not settings.retry_violations(dataclasses.replace(POLICY, multiplier=100.0))


def test_attempts_are_used_up() -> None:
    decision = after(4)
    assert (decision.action, decision.reason) == (Action.DEAD_LETTER, "all 4 attempts failed")


def test_a_single_attempt_that_failed_is_a_failure() -> None:
    policy = settings.RetryPolicy(max_attempts=1)
    decision = retry.after_failure(
        policy, attempt=1, reason="", retryable=True, wanted_delay_ns=None, draw=0
    )
    assert decision.action is Action.FAIL


def test_some_failures_are_not_tried_again() -> None:
    assert after(1, retryable=False).action is Action.DEAD_LETTER
    named = after(1, reason="ValueError")
    assert named.action is Action.DEAD_LETTER
    assert "ValueError" in named.reason


def test_a_handlers_wish_wins_up_to_the_maximum() -> None:
    assert after(1, wanted_delay_ns=0).delay_ns == 0
    assert after(1, wanted_delay_ns=3 * S).delay_ns == 3 * S
    assert after(1, wanted_delay_ns=3600 * S).delay_ns == 5 * S
    assert after(4, wanted_delay_ns=0).action is Action.DEAD_LETTER


def test_losses_are_capped_apart() -> None:
    assert retry.after_loss(losses=2, max_losses=3).action is Action.REQUEUE
    assert retry.after_loss(losses=2, max_losses=3).delay_ns == 0
    assert retry.after_loss(losses=3, max_losses=3).action is Action.DEAD_LETTER
