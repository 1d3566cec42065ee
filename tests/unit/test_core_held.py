"""What may be running since a restart: it has its place under the caps until that is known."""

import dataclasses

import pytest

from penstock_dispatcher.core import effects, outcome
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

CAPS = {"of the pool": {"max_in_flight": 1}, "of a key": {"max_in_flight_per_key": 1}}
cap = pytest.mark.parametrize("caps", CAPS.values(), ids=CAPS)


def at_work(**caps: int) -> pool_bench.Bench:
    """A worker is at task a."""
    bench = pool_bench.Bench(max_pending=9, **caps)
    bench.worker("old")
    bench.submit("a", concurrency_key="k")
    assert bench.assigned() == ["a"]
    return bench


@cap
def test_nothing_new_starts_beside_what_may_be_running(caps: dict[str, int]) -> None:
    before = at_work(**caps)
    claim = before.claim("a")
    after = before.restarted()
    after.worker("new")
    after.submit("b", concurrency_key="k")
    assert after.assigned() == []
    after.worker("old", running=(claim,), credit=0)
    assert after.assigned() == []
    after.end("a")
    assert after.assigned() == ["b"]


@cap
@pytest.mark.parametrize("gone", [True, False], ids=["its pod is gone", "the grace is over"])
def test_it_starts_when_nothing_of_before_runs(caps: dict[str, int], *, gone: bool) -> None:
    after = at_work(**caps).restarted()
    after.worker("new", slots=2)
    after.submit("b", concurrency_key="k")
    assert after.assigned() == []
    if gone:
        after.pool.fleet.gone("old", "Error", after.now)
    else:
        after.wait(11)
        after.pool.tick(after.now)
    assert after.assigned() == ["a"], "the older one has the only place"
    after.end("a")
    assert after.assigned() == ["b"]


@cap
@pytest.mark.parametrize("comes_back", [True, False])
def test_what_is_cancelled_has_its_place_until_nobody_runs_it(
    caps: dict[str, int], *, comes_back: bool
) -> None:
    before = at_work(**caps)
    claim = before.claim("a")
    after = before.restarted()
    after.worker("new")
    after.submit("b", concurrency_key="k")
    for _ in range(2):
        assert after.pool.cancel(after.task("a"), "not wanted", after.now)
    assert after.assigned() == []
    assert after.task("a").state is tasks.TaskState.CANCELLING
    again = after.restarted()
    assert again.task("a").cancelling, "the wish is durable"
    if comes_back:
        after.worker("old", running=(claim,), credit=0)
        asked = [each.lease_id for each in after.effects(effects.CancelRequested)]
        assert asked == [claim.lease_id]
        after.end("a", outcome.OutcomeKind.CANCELLED)
    else:
        after.wait(11)
    assert after.assigned() == ["b"]
    assert after.task("a").state is tasks.TaskState.CANCELLED


def test_a_delayed_task_of_the_key_waits_as_well() -> None:
    before = at_work(max_in_flight_per_key=1)
    before.submit("later", concurrency_key="k", not_before=before.now + 2 * pool_bench.S)
    after = before.restarted()
    after.worker("new")
    after.wait(3)
    assert after.assigned() == []


def test_other_keys_are_not_held_up() -> None:
    after = at_work(max_in_flight_per_key=1).restarted()
    after.worker("new", slots=3)
    after.submit("b", concurrency_key="k")
    after.submit("c", concurrency_key="another")
    after.submit("d")
    assert after.assigned() == ["c", "d"]


def test_demand_knows_the_caps_of_what_may_be_running() -> None:
    before = pool_bench.Bench(max_in_flight_per_key=2, max_pending=100)
    before.worker("old")
    for number in range(10):
        before.submit(f"k{number}", concurrency_key="k")
        before.submit(f"free{number}")
    assert before.assigned() == ["k0"]
    assert before.pool.runnable_slots(before.now) == 11, "one of the key runs, so one more could"
    claim = before.claim("k0")
    after = before.restarted()
    assert after.pool.runnable_slots(after.now) == 12, "two of the key do, or could"
    after.worker("old", running=(claim,), credit=0)
    assert after.pool.runnable_slots(after.now) == 11, "one does again"


def test_no_cap_is_no_cap() -> None:
    after = at_work().restarted()
    after.worker("new")
    after.submit("b", concurrency_key="k")
    assert after.assigned() == ["b"]
    assert after.pool.runnable_slots(after.now) == 1


def test_a_cap_that_is_set_meanwhile_counts_them() -> None:
    after = at_work().restarted()
    after.pool.configure(dataclasses.replace(after.pool.config, max_in_flight_per_key=1), after.now)
    after.worker("new")
    after.submit("b", concurrency_key="k")
    assert after.assigned() == []
