"""Types, and sizes, that no open worker takes: however many wait, a turn does not look at them.

Work is counted in calls, of whatever function: those of a turn with thousands of such types are no
more than with a few.
"""

import sys
from typing import Any

import pytest

from penstock_dispatcher.core import effects, settings, units, workers
from rig import pool_bench

S = units.SECOND
Bench = pool_bench.Bench
FEW, MANY = 20, 2_000
RATE = settings.RateLimit(tasks=1, period_ns=S, burst=1)
POOLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "fair": {"fair": True},
    "capped keys": {"max_in_flight_per_key": 1},
    "limited keys": {"rate_limit_per_key": RATE},
    "all of it": {"fair": True, "max_in_flight_per_key": 1, "rate_limit_per_key": RATE},
}
every_pool = pytest.mark.parametrize("fields", POOLS.values(), ids=POOLS)


def bench_of(**fields: Any) -> Bench:
    return Bench(**{"max_pending": 100_000, "max_pending_bytes": 10**6, **fields})


def worker(bench: Bench, name: str, *types: str, slots: int = 1) -> None:
    intro = workers.Introduction(
        session_id=name, pod_name=name, pod_uid=name, slots=slots, task_types=frozenset(types)
    )
    assert bench.pool.fleet.hello(intro, bench.now)
    bench.pool.fleet.credit(name, slots)


def calls(bench: Bench) -> int:
    """How many functions a turn calls."""
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event.endswith("call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        bench.pool.dispatch(bench.now)
    finally:
        sys.setprofile(before)
    return count


# ---------------------------------------------------------------- cost


@every_pool
def test_types_that_nobody_takes_cost_a_turn_nothing(fields: dict[str, Any]) -> None:
    def work(types: int) -> list[int]:
        bench = bench_of(**fields)
        for number in range(types):
            bench.submit(f"t{number}", type=f"y{number}", fairness_key=f"f{number % 3}")
        bench.submit("large", type="x", slots=2)
        bench.effects()
        for number in range(50):
            worker(bench, f"w{number}", "x")
        return [calls(bench) for _ in range(2)]

    assert work(MANY) == work(FEW)


@every_pool
def test_sizes_that_nobody_has_cost_a_turn_nothing(fields: dict[str, Any]) -> None:
    def work(sizes: int) -> list[int]:
        bench = bench_of(**fields)
        for number in range(sizes):
            bench.submit(f"t{number}", type="x", slots=5 + number)
        bench.effects()
        worker(bench, "w", "x", slots=4)
        worker(bench, "v", slots=4)
        return [calls(bench) for _ in range(2)]

    assert work(MANY) == work(FEW)


@every_pool
def test_what_could_run_costs_as_much_beside_types_that_nobody_takes(
    fields: dict[str, Any],
) -> None:
    def work(types: int) -> int:
        bench = bench_of(**fields)
        for number in range(types):
            bench.submit(f"t{number}", type=f"y{number}", priority=1)
        for number in range(8):
            bench.submit(f"x{number}", type="x", fairness_key=f"f{number}", slots=1 + number % 2)
        bench.effects()
        worker(bench, "w", "x", slots=7)
        worker(bench, "v", "x", "z", slots=7)
        count = calls(bench)
        assert sorted(bench.assigned()) == [f"x{number}" for number in range(8)]
        return count

    assert work(MANY) == work(FEW)


@every_pool
def test_workers_of_any_type_are_given_work_without_a_look_at_every_type(
    fields: dict[str, Any],
) -> None:
    def work(types: int) -> int:
        bench = bench_of(**fields)
        for number in range(types):
            key = {"fairness_key": f"f{number}", "concurrency_key": f"c{number}"}
            if "rate_limit_per_key" not in fields:
                key = {}
            bench.submit(f"t{number}", type=f"y{number}", **key)
        bench.submit("large", slots=3)
        bench.effects()
        for number in range(FEW):
            worker(bench, f"w{number}")
        count = calls(bench)
        assert bench.assigned() == [f"t{number}" for number in range(FEW)]
        return count

    assert work(MANY) <= 2 * work(2 * FEW)


def test_kinds_of_workers_are_forgotten_with_the_last_of_them() -> None:
    bench = bench_of()
    for number in range(100):
        worker(bench, f"w{number}", f"y{number}", slots=1 + number % 3)
        worker(bench, f"v{number}", "x")
    table = bench.pool.fleet.workers.kinds
    assert len(table) == 101
    for number in range(100):
        # The same session takes other types from now on, and another one leaves.
        worker(bench, f"w{number}", "x")
        bench.pool.fleet.goodbye(f"v{number}", bench.now)
    assert len(table) == 1
    assert set(table.open_by_type) == {"x"}
    for number in range(100):
        bench.pool.fleet.goodbye(f"w{number}", bench.now)
    assert len(table) == 0
    assert not table.open_by_type


# ---------------------------------------------------------------- and it is served all the same


@every_pool
def test_whoever_comes_for_a_type_finds_it(fields: dict[str, Any]) -> None:
    bench = bench_of(**fields)
    for number in range(100):
        bench.submit(f"t{number}", type=f"y{number}", slots=1 + number % 2)
    worker(bench, "x", "x")
    assert bench.assigned() == []
    worker(bench, "w", "y70")
    assert bench.assigned() == ["t70"]
    bench.wait(1)
    worker(bench, "v", "y80", "y41", slots=2)
    assert bench.assigned() == ["t41"]
    bench.wait(1)
    bench.end("t41")
    assert bench.assigned() == ["t80"]
    bench.wait(1)
    worker(bench, "any")
    assert bench.assigned() == ["t0"]


@every_pool
def test_when_the_one_that_takes_any_type_is_full_the_others_go_on(fields: dict[str, Any]) -> None:
    bench = bench_of(**fields)
    for number, type_ in enumerate(["z", "z", "x", "z", "y", "y"]):
        key = {"fairness_key": f"f{number}", "concurrency_key": f"c{number}"}
        bench.submit(f"t{number}", type=type_, **key)
    bench.effects()
    worker(bench, "any")
    worker(bench, "w", "x", "y", slots=2)
    found = {each.task.id: each.session_id for each in bench.effects(effects.Assigned)}
    assert found == {"t0": "any", "t2": "w", "t4": "w"}


@every_pool
def test_a_wide_task_has_a_worker_make_room_beside_sizes_that_nobody_has(
    fields: dict[str, Any],
) -> None:
    bench = bench_of(**fields)
    for number in range(50):
        bench.submit(f"t{number}", type="x", slots=5 + number, fairness_key=f"f{number}")
    bench.submit("small", type="x", fairness_key="a")
    worker(bench, "w", "x", slots=4)
    assert bench.assigned() == ["small"]
    bench.submit("wide", type="x", slots=4, fairness_key="b", priority=1)
    bench.submit("late", type="x", fairness_key="c")
    assert bench.assigned() == [], "its room is kept"
    bench.end("small")
    assert bench.assigned() == ["wide"]
    bench.end("wide")
    assert bench.assigned() == ["late"]
