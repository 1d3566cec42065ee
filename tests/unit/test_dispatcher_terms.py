"""Other terms of a task that waits, as they are asked for."""

import pytest

from penstock.v1 import task_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.convert import terms
from penstock_dispatcher.core import control, settings, units

S = units.SECOND
NOW = 1_000_000 * S
CONFIG = settings.PoolSettings(name="namespaces/a/pools/b", uid="u", ttl_ns=60 * S)
LATER = NOW + 3600 * S


def wanted(
    before: control.Terms,
    *changed: str,
    config: settings.PoolSettings = CONFIG,
    may_expire: bool = True,
) -> control.Terms:
    task = task_pb2.Task(schedule_time={"seconds": LATER // S})
    return terms.wanted(
        task,
        frozenset(changed),
        before=before,
        create_time=NOW,
        may_expire=may_expire,
        config=config,
        now=NOW,
    )


def test_the_pools_time_to_live_follows_the_time_of_the_start() -> None:
    before = control.Terms(priority=0, schedule_time=0, expire_time=NOW + 60 * S)
    after = wanted(before, "schedule_time")
    assert (after.schedule_time, after.expire_time) == (LATER, LATER + 60 * S)


def test_a_time_that_the_task_has_itself_stays_and_must_come_after() -> None:
    before = control.Terms(priority=0, schedule_time=0, expire_time=NOW + 61 * S)
    with pytest.raises(errors.Refusal, match="leaves no time to start"):
        wanted(before, "schedule_time")
    never = control.Terms(priority=0, schedule_time=0, expire_time=0)
    assert wanted(never, "schedule_time").expire_time == 0
    assert wanted(before, "schedule_time", "expire_time").expire_time == LATER + 60 * S


def test_a_time_that_has_no_effect_any_more_refuses_nothing() -> None:
    before = control.Terms(priority=0, schedule_time=0, expire_time=NOW + 61 * S)
    assert wanted(before, "schedule_time", may_expire=False).schedule_time == LATER


def test_what_was_taken_before_there_was_a_rule_may_be_changed_elsewhere() -> None:
    before = control.Terms(priority=1, schedule_time=LATER, expire_time=NOW)
    assert wanted(before, "priority").priority == 0
