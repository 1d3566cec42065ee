"""The token bucket: exact, in integers, without a fresh burst for any occasion."""

import pytest

from penstock_dispatcher.core import bucket, settings, units

S = units.SECOND
THREE_A_SECOND = settings.RateLimit(tasks=3, period_ns=S, burst=5)


def taken(one: bucket.TokenBucket, now: int) -> int:
    """How many can be taken now, one by one."""
    count = 0
    while one.take(now):
        count += 1
    return count


def test_a_burst_then_the_rate() -> None:
    one = bucket.TokenBucket(THREE_A_SECOND, now=0)
    assert one.available(0) == 5
    assert taken(one, 0) == 5
    # A third of a second is no whole number of nanoseconds; the third token is not a second late.
    assert not one.take(333_333_333)
    assert one.ready_at(0) == 333_333_334
    assert one.take(333_333_334)
    assert one.take(666_666_667)
    assert one.take(S)
    assert not one.take(S)


def test_an_hour_of_thirds_does_not_drift() -> None:
    one = bucket.TokenBucket(THREE_A_SECOND, now=0)
    now = count = 0
    while now <= 3600 * S:
        if one.take(now):
            count += 1
        else:
            now = one.ready_at(now)
    assert count == 5 + 3 * 3600


def test_idle_time_fills_it_to_the_burst_and_no_further() -> None:
    one = bucket.TokenBucket(THREE_A_SECOND, now=0)
    taken(one, 0)
    assert one.available(1_000 * S) == 5
    assert taken(one, 1_000 * S) == 5


def test_it_is_empty_after_a_restart() -> None:
    one = bucket.TokenBucket(THREE_A_SECOND, now=10 * S, full=False)
    assert one.available(10 * S) == 0
    assert taken(one, 11 * S) == 3


def test_all_or_none() -> None:
    one = bucket.TokenBucket(THREE_A_SECOND, now=0)
    assert not one.take(0, count=6)
    assert one.take(0, count=5)
    assert one.ready_at(0, count=3) == S


@pytest.mark.parametrize(("burst", "left"), [(2, 2), (4, 4), (50, 4)])
def test_another_limit_gives_no_tokens_away(burst: int, left: int) -> None:
    one = bucket.TokenBucket(THREE_A_SECOND, now=0)
    assert one.take(0)
    one.reconfigure(settings.RateLimit(tasks=100, period_ns=S, burst=burst), 0)
    assert one.available(0) == left
