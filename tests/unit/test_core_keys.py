"""What may start for each key: caps in flight, rates; and what waits costs nothing."""

import dataclasses
import gc
from typing import Any

import pytest

from penstock_dispatcher.core import key_rates, leases, outcome, settings, units
from penstock_dispatcher.core import pool as pools
from rig import pool_bench

S = units.SECOND
T0 = pool_bench.T0
Bench = pool_bench.Bench
Kind = outcome.OutcomeKind
TWO_AT_ONCE = settings.RateLimit(tasks=1, period_ns=10 * S, burst=2)


def bench_of(**fields: Any) -> Bench:
    given = {"max_pending": 100_000, "max_pending_bytes": 10**7, "lease_ns": 1000 * S}
    return Bench(**{**given, "execution_timeout_ns": 10_000 * S, **fields})


def reconfigure(bench: Bench, **fields: Any) -> None:
    bench.pool.configure(dataclasses.replace(bench.pool.config, **fields), bench.now)


# ---------------------------------------------------------------- in flight


def test_a_capped_key_blocks_nobody_and_goes_on_when_one_has_ended() -> None:
    bench = bench_of(max_in_flight_per_key=2)
    bench.worker("w", slots=10)
    for number in range(4):
        bench.submit(f"a{number}", concurrency_key="a", priority=5)
    for name in ("free0", "free1", "free2"):
        bench.submit(name)
    bench.submit("b", concurrency_key="b")
    assert bench.assigned() == ["a0", "a1", "free0", "free1", "free2", "b"]
    bench.end("free0")
    assert bench.assigned() == []
    bench.end("a1")
    assert bench.assigned() == ["a2"]


@pytest.mark.parametrize("kind", [Kind.COMPLETED, Kind.RELEASED, Kind.FAILED, Kind.LOST])
def test_whatever_ends_a_lease_makes_room(kind: Kind) -> None:
    bench = bench_of(max_in_flight_per_key=1)
    bench.worker("w", slots=10)
    bench.submit("a", concurrency_key="k")
    bench.submit("b", concurrency_key="k")
    assert bench.assigned() == ["a"]
    bench.end("a", kind)
    assert bench.assigned() == (["a"] if kind in (Kind.RELEASED, Kind.LOST) else ["b"])


def test_a_worker_that_is_gone_makes_room() -> None:
    bench = bench_of(max_in_flight_per_key=1)
    bench.worker("w")
    bench.worker("v")
    bench.submit("a", concurrency_key="k")
    bench.submit("b", concurrency_key="k")
    assert bench.assigned() == ["a"]
    bench.pool.fleet.gone(bench.task("a").worker, "gone", bench.now)
    assert bench.assigned() == ["a"]


def test_leases_that_are_attached_again_count() -> None:
    before = bench_of(max_in_flight_per_key=1)
    before.worker("w", slots=5)
    before.submit("a", concurrency_key="k")
    before.submit("b", concurrency_key="k")
    before.submit("c")
    assert before.assigned() == ["a", "c"]
    claims = (before.claim("a"), before.claim("c"))
    after = before.restarted()
    after.worker("w", slots=5, running=claims, credit=3)
    assert after.assigned() == []
    after.end("a")
    assert after.assigned() == ["b"]


def test_a_cap_that_is_set_later_counts_what_runs() -> None:
    bench = bench_of()
    bench.worker("w", slots=10)
    for number in range(3):
        bench.submit(f"a{number}", concurrency_key="a")
    assert len(bench.assigned()) == 3
    reconfigure(bench, max_in_flight_per_key=3)
    bench.submit("a3", concurrency_key="a")
    assert bench.assigned() == []
    reconfigure(bench, max_in_flight_per_key=4)
    assert bench.assigned() == ["a3"]
    reconfigure(bench, max_in_flight_per_key=0)
    bench.submit("a4", concurrency_key="a")
    assert bench.assigned() == ["a4"]


def test_demand_leaves_out_what_is_capped() -> None:
    bench = bench_of(max_in_flight_per_key=2)
    for number in range(10):
        bench.submit(f"a{number}", concurrency_key="a", slots=3)
        bench.submit(f"b{number}", concurrency_key=f"b{number}")
        bench.submit(f"c{number}")
    bench.effects()
    assert bench.pool.runnable_slots(bench.now) == 2 * 3 + 10 + 10


# ---------------------------------------------------------------- rates


def test_a_key_without_a_token_blocks_nobody_and_wakes_when_it_has_one() -> None:
    bench = bench_of(rate_limit_per_key=TWO_AT_ONCE)
    bench.worker("w", slots=20)
    for number in range(4):
        bench.submit(f"a{number}", fairness_key="a", priority=5)
        bench.submit(f"b{number}", fairness_key="b")
        bench.submit(f"-{number}")
    assert sorted(bench.assigned()) == ["-0", "-1", "a0", "a1", "b0", "b1"]
    assert bench.pool.next_deadline() == T0 + 10 * S
    bench.wait(9)
    assert bench.assigned() == []
    bench.wait(1)
    assert bench.assigned() == ["a2", "b2", "-2"]
    assert bench.pool.next_deadline() == T0 + 20 * S


def test_retries_take_tokens() -> None:
    bench = bench_of(rate_limit_per_key=TWO_AT_ONCE)
    bench.worker("w")
    bench.submit("a", fairness_key="k")
    for _ in range(2):
        assert bench.assigned() == ["a"]
        bench.end("a", Kind.RELEASED)
    assert bench.assigned() == []
    bench.wait(10)
    assert bench.assigned() == ["a"]


def test_no_token_is_taken_where_the_other_bucket_refuses() -> None:
    slow = settings.RateLimit(tasks=1, period_ns=100 * S, burst=1)
    bench = bench_of(rate_limit=slow, rate_limit_per_key=TWO_AT_ONCE)
    bench.worker("w", slots=10)
    for number in range(3):
        bench.submit(f"a{number}", fairness_key="a")
    assert bench.assigned() == ["a0"]
    keys = bench.pool.limits.keys
    assert keys is not None
    assert keys.available("a", bench.now) == 1, "the pool's bucket refused"
    reconfigure(bench, rate_limit=settings.RateLimit(tasks=1, period_ns=S, burst=10))
    bench.wait(5)
    assert bench.assigned() == ["a1"]
    assert bench.pool.tokens_available(bench.now) == 4, "the key's bucket refused"


def test_a_key_never_seen_has_no_burst_after_a_restart() -> None:
    bench = bench_of()
    config = dataclasses.replace(bench.pool.config, rate_limit_per_key=TWO_AT_ONCE)
    bench.pool = pools.Pool(
        config,
        log=bench.log,
        tokens=leases.TokenSource(2),
        draw=lambda: 0.0,
        now=T0,
        fresh=False,
    )
    bench.worker("w", slots=20)
    bench.wait(5)
    for number in range(3):
        bench.submit(f"a{number}", fairness_key="a")
    assert bench.assigned() == []
    bench.wait(5)
    assert bench.assigned() == ["a0"]
    for number in range(3):
        bench.submit(f"b{number}", fairness_key="b")
    assert bench.assigned() == ["b0"], "ten seconds make one token, for whoever it is"
    bench.wait(1000)
    bench.beat("w")  # it has lost its leases, and is silent
    for number in range(3):
        bench.submit(f"c{number}", fairness_key="c")
    assert [name for name in bench.assigned() if name[0] == "c"] == ["c0", "c1"]


def test_no_key_is_refilled_by_another_configuration() -> None:
    bench = bench_of(rate_limit_per_key=TWO_AT_ONCE)
    bench.worker("w", slots=50)
    for number in range(9):
        bench.submit(f"a{number}", fairness_key="a")
    assert bench.assigned() == ["a0", "a1"]
    reconfigure(bench, rate_limit_per_key=dataclasses.replace(TWO_AT_ONCE, burst=5))
    for number in range(9):
        bench.submit(f"b{number}", fairness_key="b")
    assert bench.assigned() == ["b0", "b1"], "a key not seen yet had two, and has no more"
    reconfigure(bench, rate_limit_per_key=None)
    assert len(bench.assigned()) == 14
    reconfigure(bench, rate_limit_per_key=TWO_AT_ONCE)
    bench.submit("c", fairness_key="c")
    assert bench.assigned() == []


def test_buckets_that_are_full_again_are_forgotten() -> None:
    rates = key_rates.KeyRates(TWO_AT_ONCE, now=0, full=True)
    for number in range(1000):
        rates.take(f"k{number}", number)
    assert len(rates) == 1000
    rates.sweep(10 * S - 1)
    assert len(rates) == 1000
    rates.sweep(10 * S + 499)
    assert len(rates) == 500
    rates.take("k999", 11 * S)
    assert rates.available("k999", 11 * S) == 1
    rates.sweep(20 * S)
    assert len(rates) == 1


def test_the_pool_forgets_them_in_time() -> None:
    bench = bench_of(rate_limit_per_key=TWO_AT_ONCE, result_retention_ns=0)
    bench.worker("w")
    for number in range(50):
        bench.submit(f"t{number}", fairness_key=f"k{number}")
        assert bench.assigned() == [f"t{number}"]
        bench.end(f"t{number}")
    keys = bench.pool.limits.keys
    assert keys is not None
    assert len(keys) == 50
    bench.wait(10)
    assert len(keys) == 0


def test_demand_counts_what_has_a_token() -> None:
    bench = bench_of(rate_limit_per_key=TWO_AT_ONCE)
    for number in range(10):
        bench.submit(f"a{number}", fairness_key="a")
    bench.submit("b", fairness_key="b")
    bench.effects()
    assert bench.pool.runnable_slots(bench.now) == 2 + 1
    bench.worker("w", slots=2)
    assert bench.assigned() == ["a0", "a1"]
    assert bench.pool.runnable_slots(bench.now) == 1


# ---------------------------------------------------------------- cost


def test_what_is_blocked_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand tasks of blocked keys: a turn looks at none of them."""
    bench = bench_of(max_in_flight_per_key=1, rate_limit_per_key=TWO_AT_ONCE)
    bench.worker("w", slots=50)
    for number in range(5_000):
        bench.submit(f"c{number}", concurrency_key="k", fairness_key="x")
        bench.submit(f"r{number}", fairness_key="y")
    assert len(bench.assigned()) == 3
    lanes = bench.pool.book.backlog._ready
    looks = []
    real = lanes._startable  # type: ignore[union-attr]
    monkeypatch.setattr(lanes, "_startable", lambda flow: looks.append(flow) or real(flow))
    for number in range(100):
        bench.submit(f"n{number}", fairness_key=f"n{number}")
        assert bench.assigned() == [f"n{number}"]
        bench.end(f"n{number}")
    assert len(looks) < 1_000


def test_lanes_without_a_task_are_dropped() -> None:
    bench = bench_of(max_in_flight_per_key=1, fair=True, rate_limit_per_key=TWO_AT_ONCE)
    bench.worker("w", slots=3)
    for number in range(300):
        bench.submit(
            f"t{number}",
            fairness_key=f"f{number % 7}",
            concurrency_key=f"c{number % 11}",
            priority=number % 3,
        )
    bench.effects()
    for number in range(300):
        task = bench.task(f"t{number}")
        bench.pool.cancel(task, "", bench.now)
        if task.lease is not None:
            bench.end(task.id, Kind.CANCELLED)
        bench.effects()
    lanes: Any = bench.pool.book.backlog._ready
    assert not lanes._sizes
    assert not lanes._capped
    assert not lanes._tokenless
    assert not lanes._shares._levels
    assert len(bench.pool.book.in_flight_by_key) == 0


def test_what_tasks_leave_behind_needs_no_collector() -> None:
    bench = bench_of(max_in_flight_per_key=1, fair=True, rate_limit_per_key=TWO_AT_ONCE)
    bench.worker("w")
    gc.collect()
    gc.disable()
    try:
        for number in range(300):
            bench.submit(f"t{number}", fairness_key=f"f{number}", concurrency_key=f"c{number}")
            assert bench.assigned() == [f"t{number}"]
            bench.end(f"t{number}")
        assert gc.collect() < 300, "less than one object for each"
    finally:
        gc.enable()


def test_a_key_whose_burst_is_held_is_not_asked_again_and_again() -> None:
    fast = settings.RateLimit(tasks=1000, period_ns=S, burst=1)
    bench = Bench(max_pending=9, rate_limit_per_key=fast, lease_ns=1000 * S)
    for name in ("w1", "w2"):
        bench.worker(name, slots=4)
    for number in range(4):
        bench.submit(f"small{number}", fairness_key="other")
        bench.wait(1)
        bench.effects()
    bench.submit("large", fairness_key="k", slots=4)
    bench.submit("next", fairness_key="k")
    assert bench.assigned() == []
    assert bench.pool.next_deadline() >= bench.now + 10 * S
