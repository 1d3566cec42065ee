"""Who is next: aging, and fair shares between keys."""

import collections
import dataclasses

import pytest

from penstock_dispatcher.core import effects, fairness, outcome, settings, units
from rig import pool_bench

S = units.SECOND
Bench = pool_bench.Bench
Kind = outcome.OutcomeKind


def started(bench: Bench, count: int) -> list[str]:
    """The next `count` tasks to start, on a worker of one slot."""
    found: list[str] = []
    while len(found) < count:
        (task_id,) = bench.assigned()
        found.append(task_id)
        bench.end(task_id)
    return found


# ---------------------------------------------------------------- aging


@pytest.mark.parametrize(
    ("head_start_s", "first"),
    [(0, "urgent"), (29, "urgent"), (30, "old"), (31, "old")],
)
def test_waiting_makes_up_for_priority(head_start_s: int, first: str) -> None:
    bench = Bench(priority_aging_ns=10 * S)
    bench.submit("old", priority=1)
    bench.wait(head_start_s)
    bench.submit("urgent", priority=4)
    bench.effects()
    bench.worker("w")
    assert bench.assigned() == [first], "as old as three units of priority: the first one goes"


def test_a_retried_task_keeps_its_age() -> None:
    bench = Bench(priority_aging_ns=S)
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    bench.wait(5)
    bench.submit("b", priority=3)
    bench.end("a", Kind.RELEASED)
    assert bench.assigned() == ["a"]


def test_a_task_of_lowest_priority_is_reached_under_a_stream_of_high_ones() -> None:
    bench = Bench(priority_aging_ns=S, max_pending=100)
    bench.submit("first", priority=5)
    bench.submit("low", priority=-5)
    bench.worker("w")
    seen = []
    for number in range(30):
        for each in range(2):
            bench.submit(f"high{number}-{each}", priority=5)
        seen += bench.assigned()
        bench.end(seen[-1])
        bench.wait(1)
    assert 10 <= seen.index("low") <= 22, "ten units of priority, and twice the tasks than time"


def test_another_aging_puts_what_waits_in_order_anew() -> None:
    bench = Bench(max_pending=10)
    bench.submit("old", priority=0)
    bench.wait(10)
    bench.submit("urgent", priority=1)
    bench.effects()
    bench.pool.configure(dataclasses.replace(bench.pool.config, priority_aging_ns=S), bench.now)
    bench.worker("w")
    assert started(bench, 2) == ["old", "urgent"]
    assert bench.pool.book.backlog.ready_count == 0


# ---------------------------------------------------------------- fairness


def fair(**weights: int) -> Bench:
    return Bench(
        fair=True,
        fairness_weights=weights,
        max_pending=100_000,
        max_pending_bytes=1_000_000,
    )


def test_keys_take_turns_and_first_come_first_within_a_key() -> None:
    bench = fair()
    for name in ("a1", "a2", "a3", "b1", "b2", "-1"):
        bench.submit(name, fairness_key=name[0].replace("-", ""))
    bench.effects()
    bench.worker("w")
    assert started(bench, 6) == ["a1", "b1", "-1", "a2", "b2", "a3"]


def test_weights_are_shares_and_turns_are_fine() -> None:
    bench = fair(a=3, b=1)
    for number in range(40):
        bench.submit(f"a{number}", fairness_key="a")
        bench.submit(f"b{number}", fairness_key="b")
    bench.effects()
    bench.worker("w")
    order = "".join(name[0] for name in started(bench, 40))
    assert collections.Counter(order) == {"a": 30, "b": 10}
    assert "aaaa" not in order
    assert "bb" not in order


def test_priority_goes_before_fairness() -> None:
    bench = fair(a=1000)
    for number in range(3):
        bench.submit(f"a{number}", fairness_key="a")
    bench.submit("b", fairness_key="b", priority=1)
    bench.submit("c", fairness_key="c", priority=-1)
    bench.effects()
    bench.worker("w")
    assert started(bench, 5) == ["b", "a0", "a1", "a2", "c"]


def test_a_key_that_comes_back_has_no_credit() -> None:
    bench = fair()
    for number in range(100):
        bench.submit(f"a{number}", fairness_key="a")
    bench.submit("b0", fairness_key="b")
    bench.effects()
    bench.worker("w")
    started(bench, 50)
    for number in range(1, 40):
        bench.submit(f"b{number}", fairness_key="b")
    order = [name[0] for name in started(bench, 20)]
    assert collections.Counter(order) == {"a": 10, "b": 10}


def test_a_key_with_one_task_at_a_time_holds_up_nobody() -> None:
    bench = fair()
    for number in range(30):
        bench.submit(f"a{number}", fairness_key="a")
    bench.effects()
    bench.worker("w")
    order = []
    for number in range(40):
        bench.submit(f"b{number}", fairness_key="b")
        order += started(bench, 1)
    assert sum(name[0] == "a" for name in order) >= 19


def test_new_keys_all_the_time_hold_up_nobody() -> None:
    bench = fair(**{f"k{number}": 1000 for number in range(900)})
    bench.worker("w")
    bench.submit("first", fairness_key="a")
    started(bench, 1)
    bench.submit("mine", fairness_key="a")
    order = []
    for number in range(1200):
        bench.submit(f"k{number}", fairness_key=f"k{number}")
        order += started(bench, 1)
    assert "mine" in order


def test_a_task_costs_its_slots() -> None:
    bench = fair()
    for number in range(200):
        bench.submit(f"a{number}", fairness_key="a", slots=4)
        bench.submit(f"b{number}", fairness_key="b")
    bench.effects()
    bench.worker("w", slots=4)
    served: collections.Counter[str] = collections.Counter()
    while bench.pool.book.by_key.of("b") > 4:
        for effect in bench.effects(effects.Assigned):
            served[effect.task.fairness_key] += effect.task.slots
            bench.end(effect.task.id)
    assert served["a"] == pytest.approx(served["b"], rel=0.1)


def test_nothing_is_kept_of_who_is_gone() -> None:
    shares = fairness.Shares({})
    for number in range(100):
        share = shares.join(number % 3, f"k{number}", 1)
        shares.charge(share, 1, owed=False)
        shares.leave(number % 3, f"k{number}")
    assert not shares._levels


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"priority_aging_ns": -1}, "priority_aging"),
        ({"fair": True, "priority_aging_ns": 1}, "fair"),
        ({"max_pending_per_key": -1}, "max_pending_per_key"),
        ({"max_pending_per_key": settings.PENDING_MAX + 1}, "max_pending_per_key"),
        ({"max_in_flight_per_key": -1}, "max_in_flight_per_key"),
        ({"slots_per_worker": -1}, "slots_per_worker"),
        ({"slots_per_worker": 10_001}, "slots_per_worker"),
        ({"fairness_weights": {"a": 0}}, "fairness_weights['a']"),
        ({"fairness_weights": {"a": 1001}}, "fairness_weights['a']"),
        ({"fairness_weights": {"k" * 65: 1}}, f"fairness_weights['{'k' * 64}']"),
        ({"fairness_weights": {str(n): 1 for n in range(1001)}}, "fairness_weights"),
        (
            {"rate_limit_per_key": settings.RateLimit(tasks=0, period_ns=1, burst=1)},
            "rate_limit_per_key.tasks",
        ),
        (
            {"rate_limit_per_key": settings.RateLimit(tasks=1, period_ns=0, burst=1)},
            "rate_limit_per_key.period",
        ),
        (
            {"rate_limit_per_key": settings.RateLimit(tasks=1, period_ns=1, burst=0)},
            "rate_limit_per_key.burst",
        ),
    ],
)
def test_bad_settings_are_refused_by_name(fields: dict[str, object], named: str) -> None:
    config = dataclasses.replace(pool_bench.CONFIG, **fields)  # type: ignore[arg-type]
    assert [bad.field for bad in config.violations()] == [named]


def test_fair_and_aging_together_are_refused_with_both_names() -> None:
    config = dataclasses.replace(pool_bench.CONFIG, fair=True, priority_aging_ns=S)
    (bad,) = config.violations()
    assert bad.field == "fair"
    assert "priority_aging" in bad.description


def test_good_settings_are_taken() -> None:
    config = dataclasses.replace(
        pool_bench.CONFIG,
        fair=True,
        fairness_weights={"": 1, **{str(number): 1000 for number in range(999)}},
        slots_per_worker=10_000,
        max_pending_per_key=1,
    )
    assert config.violations() == []
