"""Durations and times that come in are bounded: 64 bits of nanoseconds always hold them."""

from typing import Any

import pytest

from penstock.v1 import fleet_service_pb2, worker_service_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.convert import pool_config, times, worker_side

INT64_MAX = 2**63 - 1
POOL_DURATIONS = [
    field.name
    for field in fleet_service_pb2.PoolConfig.DESCRIPTOR.fields
    if field.message_type is not None
    and field.message_type.full_name == "google.protobuf.Duration"
    and field.name != "priority_aging"  # no part of the settings yet
]


def config(**fields: Any) -> fleet_service_pb2.PoolConfig:
    return fleet_service_pb2.PoolConfig(name="namespaces/a/pools/b", uid="u", **fields)


def bad_fields(**fields: Any) -> set[str]:
    with pytest.raises(errors.Refusal) as caught:
        pool_config.settings_of(config(**fields))
    assert caught.value.reason is errors.Reason.INVALID_FIELD
    return {bad.field for bad in caught.value.details.fields}


def test_there_are_durations_to_look_at() -> None:
    assert "ttl" in POOL_DURATIONS
    assert len(POOL_DURATIONS) >= 8


@pytest.mark.parametrize("field", POOL_DURATIONS)
@pytest.mark.parametrize("seconds", [INT64_MAX, times.DURATION_SECONDS_MAX + 1, -INT64_MAX])
def test_every_duration_of_a_pool_is_bounded(field: str, seconds: int) -> None:
    assert field in bad_fields(**{field: {"seconds": seconds}}) or (
        field == "heartbeat_interval" and seconds > 0
    )


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"initial_backoff": {"seconds": INT64_MAX}}, "retry_policy.initial_backoff"),
        ({"max_backoff": {"seconds": INT64_MAX}}, "retry_policy.max_backoff"),
        ({"max_backoff": {"seconds": -INT64_MAX}}, "retry_policy.max_backoff"),
        ({"backoff_multiplier": float("nan")}, "retry_policy.backoff_multiplier"),
        ({"backoff_multiplier": float("inf")}, "retry_policy.backoff_multiplier"),
        ({"backoff_multiplier": -float("inf")}, "retry_policy.backoff_multiplier"),
        ({"backoff_multiplier": 1e300}, "retry_policy.backoff_multiplier"),
        ({"jitter": float("nan")}, "retry_policy.jitter"),
        ({"non_retryable_reasons": ["x"] * 65}, "retry_policy.non_retryable_reasons"),
    ],
)
def test_the_retry_policy_of_a_pool_is_bounded(policy: dict[str, Any], named: str) -> None:
    assert named in bad_fields(retry_policy=policy)


def test_the_period_of_a_rate_is_bounded() -> None:
    limit = {"tasks": 1, "burst": 1, "period": {"seconds": INT64_MAX}}
    assert "rate_limit.period" in bad_fields(rate_limit=limit)


@pytest.mark.parametrize("waiters", [-1, 10_001])
def test_the_waiters_of_a_pool_are_bounded(waiters: int) -> None:
    assert bad_fields(max_waiters=waiters) == {"max_waiters"}


def test_nobody_waits_longer_than_an_hour() -> None:
    assert bad_fields(max_wait={"seconds": 3601}) == {"max_wait"}
    assert bad_fields(max_wait={"seconds": 0}) == {"max_wait"}
    unset, half = config(), config(max_waiters=7, max_wait={"nanos": 500_000_000})
    assert pool_config.settings_of(unset).max_wait_ns == 30 * 10**9
    assert pool_config.settings_of(unset).max_waiters == 1_000
    assert pool_config.settings_of(half).max_wait_ns == 500_000_000
    assert pool_config.settings_of(half).max_waiters == 7


def outcome(**fields: Any) -> Any:
    return worker_side.outcome_of(worker_service_pb2.TaskOutcome(lease_id="l", **fields))


@pytest.mark.parametrize("seconds", [INT64_MAX, -INT64_MAX])
def test_what_a_worker_measured_is_cut_to_the_bound(seconds: int) -> None:
    expected = times.DURATION_SECONDS_MAX * 10**9 if seconds > 0 else 0
    long = {"seconds": seconds}
    assert outcome(execution_time=long, completed={}).execution_time_ns == expected
    assert outcome(execution_time=long, released={}).execution_time_ns == expected
    assert outcome(failed={"retryable": True, "retry_delay": long}).retry_delay_ns == expected
