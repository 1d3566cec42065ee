"""What follows a failed attempt or a lost worker: a decision, with its reason."""

import dataclasses
import enum
from typing import Final

from penstock_dispatcher.core import settings, units

DELAY_NS_MAX: Final = 10 * 365 * 86_400 * units.SECOND
"""Whatever a policy says: a time that is further away fits no journal."""
STEPS_MAX: Final = 1_000
"""Attempts after which the back-off grows no more, if a tiny multiplier has not brought it to the
maximum by then.
"""


class RetryAction(enum.Enum):
    """What the pool does with the task."""

    REQUEUE = "requeue"
    FAIL = "fail"
    DEAD_LETTER = "dead-letter"


@dataclasses.dataclass(frozen=True, slots=True)
class RetryDecision:
    """`delay_ns` counts from the failure; `reason` is for people."""

    action: RetryAction
    delay_ns: int
    reason: str


def backoff_ns(policy: settings.RetryPolicy, attempt: int, draw: float) -> int:
    """The delay after the `attempt`-th attempt (1-based) failed. `draw` is uniform in [0, 1): the
    jitter's share is multiplied by it.

    min(initial * multiplier^(attempt-1), max) * (1 - jitter * draw): never longer than max, spread
    downwards.
    """
    longest = float(min(policy.max_backoff_ns, DELAY_NS_MAX))
    delay = min(longest, float(policy.initial_backoff_ns))
    # Step by step, and never beyond the longest: a power may be no float at all.
    for _ in range(min(attempt - 1, STEPS_MAX)):
        if delay in (0.0, longest):
            break
        delay = min(longest, delay * policy.multiplier)
    return int(delay * (1.0 - policy.jitter * draw))


def after_failure(
    policy: settings.RetryPolicy,
    *,
    attempt: int,
    reason: str,
    retryable: bool,
    wanted_delay_ns: int | None,
    draw: float,
) -> RetryDecision:
    """Decide after attempt number `attempt` (1-based) failed for `reason` (an ErrorInfo reason).

    A handler's own wish for a delay (`wanted_delay_ns`) wins over the back-off, up to the policy's
    maximum.
    """
    if not retryable:
        return RetryDecision(
            RetryAction.DEAD_LETTER, 0, "the handler said that it must not be retried"
        )
    if reason in policy.non_retryable_reasons:
        return RetryDecision(RetryAction.DEAD_LETTER, 0, f"{reason} is not retried in this pool")
    if attempt >= policy.max_attempts:
        if policy.max_attempts == 1:
            return RetryDecision(RetryAction.FAIL, 0, "its only attempt failed")
        return RetryDecision(
            RetryAction.DEAD_LETTER, 0, f"all {policy.max_attempts} attempts failed"
        )
    if wanted_delay_ns is not None:
        return RetryDecision(
            RetryAction.REQUEUE,
            min(wanted_delay_ns, policy.max_backoff_ns, DELAY_NS_MAX),
            "the handler asked for this delay",
        )
    return RetryDecision(
        RetryAction.REQUEUE,
        backoff_ns(policy, attempt, draw),
        f"attempt {attempt} of {policy.max_attempts} failed",
    )


def after_loss(*, losses: int, max_losses: int) -> RetryDecision:
    """Decide after the worker was lost for the `losses`-th time: no attempt is charged, but losses
    are capped (a task that kills its worker must not do so for ever).
    """
    if losses >= max_losses:
        return RetryDecision(RetryAction.DEAD_LETTER, 0, f"its worker was lost {losses} times")
    return RetryDecision(RetryAction.REQUEUE, 0, f"its worker was lost ({losses} of {max_losses})")
