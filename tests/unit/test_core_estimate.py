"""When a task will start, from counts alone."""

import pytest

from penstock_dispatcher.core import admission, estimate, units

S, MS = units.SECOND, units.MILLISECOND


def conditions(
    slots: int = 4, in_flight: int = 4, occupancy: int = 2 * S, drained: float = 0.0
) -> estimate.Conditions:
    return estimate.Conditions(
        slots=slots, in_flight=in_flight, occupancy_ns=occupancy, drained_per_second=drained
    )


@pytest.mark.parametrize(
    ("ahead", "known", "token_ns", "wanted"),
    [
        pytest.param(0, conditions(in_flight=3), 0, 0, id="a slot is free"),
        pytest.param(1, conditions(in_flight=3), 0, S // 2, id="it goes to another"),
        pytest.param(0, conditions(), 0, S // 2, id="four slots of two seconds: two a second"),
        pytest.param(7, conditions(), 0, 4 * S, id="seven before it"),
        pytest.param(0, conditions(in_flight=6), 0, S // 2, id="more in flight than slots"),
        pytest.param(0, conditions(in_flight=0), 3 * S, 3 * S, id="no token"),
        pytest.param(7, conditions(), 3 * S, 4 * S, id="the later of both"),
        pytest.param(3, conditions(occupancy=0, drained=2.0), 0, 2 * S, id="as it was drained"),
        pytest.param(3, conditions(slots=0, drained=2.0), 0, 2 * S, id="workers are away"),
        pytest.param(3, conditions(slots=0), 0, -1, id="there never was a worker"),
        pytest.param(0, conditions(occupancy=0), S, -1, id="nothing known but a token"),
        pytest.param(9, conditions(slots=0, drained=1e-300), 0, estimate.WAIT_NS_MAX, id="ages"),
    ],
)
def test_wait(ahead: int, known: estimate.Conditions, token_ns: int, wanted: int) -> None:
    assert estimate.wait_ns(ahead, known, token_ns=token_ns) == wanted


@pytest.mark.parametrize(
    ("wait_ns", "wanted"),
    [
        (-1, admission.RETRY_AFTER_UNKNOWN_NS),
        (0, admission.RETRY_AFTER_MIN_NS),
        (70 * MS, 70 * MS),
        (3600 * S, admission.RETRY_AFTER_MAX_NS),
    ],
)
def test_when_to_come_back_has_a_floor_and_a_cap(wait_ns: int, wanted: int) -> None:
    assert admission.retry_after_ns(wait_ns) == wanted


def test_errors_are_counted_in_the_first_bucket_that_holds_them() -> None:
    errors = estimate.Errors()
    for seconds in (0.0, 0.005, 0.3, 9_999.0):
        errors.add(seconds)
    assert errors.counts[0] == 2
    assert errors.counts[estimate.BUCKETS_SECONDS.index(0.5)] == 1
    assert errors.counts[-1] == 1
    assert sum(errors.counts) == 4
    assert errors.total_seconds == pytest.approx(9_999.305)
