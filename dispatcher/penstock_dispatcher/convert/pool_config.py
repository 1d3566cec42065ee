"""PoolConfig from the wire into the core's settings.

Unset durations and zero numbers take the default; anything else is taken as it is and checked, so
that a bad value is refused by name and never mended quietly.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf import duration_pb2

from penstock.v1 import fleet_service_pb2, task_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.convert import names, times
from penstock_dispatcher.core import settings

REASONS_MAX: Final = 64
REASON_CHARS_MAX: Final = 256

_DEFAULT = settings.PoolSettings(name="namespaces/default/pools/default", uid="default")


def settings_of(config: fleet_service_pb2.PoolConfig) -> settings.PoolSettings:
    """The checked settings. Raises Refusal naming every bad field."""
    names.check_pool(config.name, "name")
    bad: list[settings.Violation] = []

    def note(field: str, description: str) -> None:
        bad.append(settings.Violation(field, description))

    def span(field: str, default: int) -> int:
        value: duration_pb2.Duration = getattr(config, field)
        times.check_duration(value, field, note)
        return times.duration_ns(value) if config.HasField(field) else default  # type: ignore[arg-type]

    found = settings.PoolSettings(
        name=config.name,
        uid=config.uid,
        generation=config.generation,
        suspended=config.paused,
        max_pending=config.max_pending or _DEFAULT.max_pending,
        max_pending_per_key=config.max_pending_per_key,
        max_pending_bytes=config.max_pending_bytes or _DEFAULT.max_pending_bytes,
        max_payload_bytes=config.max_payload_bytes or _DEFAULT.max_payload_bytes,
        max_waiters=config.max_waiters or _DEFAULT.max_waiters,
        max_wait_ns=span("max_wait", _DEFAULT.max_wait_ns),
        default_priority=config.default_priority,
        priority_aging_ns=span("priority_aging", 0),
        fair=config.fair,
        fairness_weights=dict(config.fairness_weights),
        ttl_ns=span("ttl", 0),
        rate_limit=_rate(config.rate_limit) if config.HasField("rate_limit") else None,
        rate_limit_per_key=_rate(config.rate_limit_per_key)
        if config.HasField("rate_limit_per_key")
        else None,
        max_in_flight=config.max_in_flight,
        max_in_flight_per_key=config.max_in_flight_per_key,
        slots_per_worker=config.slots_per_worker,
        lease_ns=span("lease_duration", _DEFAULT.lease_ns),
        heartbeat_ns=span("heartbeat_interval", _DEFAULT.heartbeat_ns),
        reconnect_grace_ns=span("reconnect_grace", _DEFAULT.reconnect_grace_ns),
        execution_timeout_ns=span("execution_timeout", _DEFAULT.execution_timeout_ns),
        cancel_grace_ns=span("cancel_grace", _DEFAULT.cancel_grace_ns),
        retry=retry_policy(config.retry_policy, settings.RetryPolicy()),
        max_worker_losses=config.max_worker_losses or _DEFAULT.max_worker_losses,
        result_retention_ns=span("result_retention", _DEFAULT.result_retention_ns),
        max_dead_letters=config.max_dead_letters or _DEFAULT.max_dead_letters,
        dead_letter_retention_ns=span("dead_letter_retention", _DEFAULT.dead_letter_retention_ns),
        pool_retention_ns=span("pool_retention", _DEFAULT.pool_retention_ns),
    )
    for field in ("rate_limit", "rate_limit_per_key"):
        times.check_duration(getattr(config, field).period, f"{field}.period", note)
    check_retry_policy(config.retry_policy, "retry_policy", note)
    bad.extend(found.violations())
    if bad:
        raise errors.invalid_fields(bad)
    return found


def _rate(limit: fleet_service_pb2.RateLimit) -> settings.RateLimit:
    return settings.RateLimit(
        tasks=limit.tasks,
        period_ns=times.duration_ns(limit.period) if limit.HasField("period") else 10**9,
        burst=limit.burst or 1,
    )


def retry_policy(
    policy: task_pb2.RetryPolicy, fallback: settings.RetryPolicy
) -> settings.RetryPolicy:
    """The policy with unset fields from `fallback`; unchecked, see `settings.retry_violations`."""
    return settings.RetryPolicy(
        max_attempts=policy.max_attempts
        if policy.HasField("max_attempts")
        else fallback.max_attempts,
        initial_backoff_ns=times.duration_ns(policy.initial_backoff)
        if policy.HasField("initial_backoff")
        else fallback.initial_backoff_ns,
        max_backoff_ns=times.duration_ns(policy.max_backoff)
        if policy.HasField("max_backoff")
        else fallback.max_backoff_ns,
        multiplier=policy.backoff_multiplier
        if policy.HasField("backoff_multiplier")
        else fallback.multiplier,
        jitter=policy.jitter if policy.HasField("jitter") else fallback.jitter,
        non_retryable_reasons=frozenset(policy.non_retryable_reasons)
        or fallback.non_retryable_reasons,
    )


def check_retry_policy(
    policy: task_pb2.RetryPolicy, field: str, bad: Callable[[str, str], None]
) -> None:
    """Tell `bad` (field, description) what is beyond the wire's bounds; the core checks the rest,
    see `settings.retry_violations`.
    """
    times.check_duration(policy.initial_backoff, f"{field}.initial_backoff", bad)
    times.check_duration(policy.max_backoff, f"{field}.max_backoff", bad)
    reasons = policy.non_retryable_reasons
    if len(reasons) > REASONS_MAX or any(len(reason) > REASON_CHARS_MAX for reason in reasons):
        bad(
            f"{field}.non_retryable_reasons",
            f"must be at most {REASONS_MAX}, each of at most {REASON_CHARS_MAX} characters",
        )
