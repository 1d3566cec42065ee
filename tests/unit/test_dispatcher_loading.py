"""What an earlier version has written can be loaded, whatever is refused by now."""

import pytest

from penstock.v1 import fleet_service_pb2
from penstock_dispatcher import loading
from penstock_dispatcher.convert import times
from penstock_dispatcher.core import records, settings, units
from penstock_dispatcher.journal import interface

NAME = "namespaces/a/pools/b"
LONGEST = times.DURATION_SECONDS_MAX * units.SECOND


def configured(**fields: object) -> records.PoolConfigured:
    config = fleet_service_pb2.PoolConfig(name=NAME, uid="u", **fields)  # type: ignore[arg-type]
    return records.PoolConfigured("u", NAME, config.SerializeToString())


@pytest.mark.parametrize("multiplier", [1e200, float("inf"), float("nan")])
def test_what_is_beyond_a_bound_by_now_counts_as_the_bound(
    multiplier: float, caplog: pytest.LogCaptureFixture
) -> None:
    century = {"seconds": 100 * 365 * 86_400}
    found = loading.settings_of(
        configured(
            result_retention=century,
            rate_limit={"tasks": 1, "period": century},
            retry_policy={"max_backoff": century, "backoff_multiplier": multiplier},
        )
    )
    assert found.result_retention_ns == found.retry.max_backoff_ns == LONGEST
    assert found.rate_limit == settings.RateLimit(tasks=1, period_ns=LONGEST, burst=1)
    assert found.retry.multiplier == settings.MULTIPLIER_MAX
    assert "result_retention, period, max_backoff, backoff_multiplier" in caplog.text


def test_a_duration_is_said_as_it_is_said_by_now() -> None:
    found = loading.settings_of(configured(lease_duration={"seconds": 29, "nanos": 1_000_000_000}))
    assert found.lease_ns == 30 * units.SECOND


def test_what_is_allowed_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    found = loading.settings_of(configured(retry_policy={"backoff_multiplier": 3.0}))
    assert (found.retry.multiplier, found.rate_limit) == (3.0, None)
    assert not caplog.records


def test_what_no_version_takes_is_a_broken_journal() -> None:
    with pytest.raises(interface.JournalFailed, match=r"retry_policy\.max_attempts"):
        loading.settings_of(configured(retry_policy={"max_attempts": -1}))
