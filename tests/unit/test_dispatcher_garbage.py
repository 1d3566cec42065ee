"""When the collector looks at everything: seldom, and the more seldom the longer it takes."""

import gc
from collections.abc import Iterator

import pytest

from penstock_dispatcher import garbage


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


class Knot:
    def __init__(self) -> None:
        self.itself = self


def knots() -> int:
    return sum(type(each) is Knot for each in gc.get_objects())


def test_a_look_at_everything_comes_when_it_is_due_and_not_before() -> None:
    collector = garbage.Collector(now=1000.0)
    knot = Knot()
    gc.collect()
    del knot  # it has become old, and garbage
    gc.collect(1)
    assert knots() == 1
    assert collector.look(1000.0 + garbage.FULL_SECONDS_MIN - 0.1) == 0.0
    took = collector.look(1000.0 + garbage.FULL_SECONDS_MIN)
    assert took > 0.0
    assert knots() == 0


def test_looks_take_a_bounded_share_of_the_time() -> None:
    collector = garbage.Collector(now=0.0)
    took = collector.look(garbage.FULL_SECONDS_MIN)
    pause = max(garbage.FULL_SECONDS_MIN, took / garbage.FULL_SHARE_MAX)
    assert collector.look(garbage.FULL_SECONDS_MIN + pause * 0.99) == 0.0
    assert collector.look(garbage.FULL_SECONDS_MIN + took + pause) > 0.0


def test_a_look_is_put_off_while_there_is_work_and_not_for_ever() -> None:
    collector = garbage.Collector(now=0.0)
    latest = garbage.FULL_SECONDS_MIN + garbage.PUT_OFF_SECONDS_MAX
    assert collector.look(garbage.FULL_SECONDS_MIN, busy=True) == 0.0
    assert collector.look(latest - 0.1, busy=True) == 0.0
    assert collector.look(latest, busy=True) > 0.0


def test_a_look_that_was_put_off_comes_in_the_first_quiet_moment() -> None:
    collector = garbage.Collector(now=0.0)
    assert collector.look(garbage.FULL_SECONDS_MIN + 10, busy=True) == 0.0
    assert collector.look(garbage.FULL_SECONDS_MIN + 11, busy=False) > 0.0


def test_everything_is_not_looked_at_in_the_course_of_things() -> None:
    garbage.Collector(now=0.0)
    assert gc.get_threshold() == (
        garbage.YOUNG_OBJECTS,
        garbage.NEVER_ROUNDS,
        garbage.NEVER_ROUNDS,
    )
