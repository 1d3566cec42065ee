"""Tasks of several slots: where they fit, who makes room, and that nobody starves."""

import pytest

from penstock_dispatcher.core import admission, effects, settings, units, workers
from rig import pool_bench

S = units.SECOND
Bench = pool_bench.Bench
Reason = admission.AdmissionReason


def bench_of(**fields: object) -> Bench:
    return Bench(**{"max_pending": 10_000, "max_pending_bytes": 10**6, **fields})


def placed(bench: Bench) -> dict[str, str]:
    return {each.task.id: each.session_id for each in bench.effects(effects.Assigned)}


def test_a_task_takes_its_slots_of_one_worker() -> None:
    bench = bench_of()
    bench.worker("w", slots=4)
    bench.submit("big", slots=3)
    bench.submit("small")
    bench.submit("late")
    assert bench.assigned() == ["big", "small"]
    worker = bench.pool.fleet.workers.get("w")
    assert worker is not None
    assert (worker.slots_used, worker.credit) == (4, 0)
    stats = bench.pool.stats(bench.now)
    assert (stats.slots_used, stats.slots_total, stats.in_flight) == (4, 4, 2)
    bench.end("big")
    assert bench.assigned() == ["late"]
    assert worker.slots_used == 2


def test_the_cap_in_flight_counts_tasks() -> None:
    bench = bench_of(max_in_flight=2)
    bench.worker("w", slots=10)
    for number in range(3):
        bench.submit(f"t{number}", slots=3)
    bench.effects()
    assert bench.pool.runnable_slots(bench.now) == 0
    bench.pool.fleet.goodbye("w", bench.now)
    bench.effects()
    assert bench.pool.runnable_slots(bench.now) == 6


def test_demand_counts_slots() -> None:
    bench = bench_of()
    bench.submit("a", slots=3)
    bench.submit("b")
    bench.submit("later", slots=9, not_before=bench.now + S)
    bench.effects()
    assert bench.pool.runnable_slots(bench.now) == 4


def test_what_is_held_back_after_a_restart_counts_its_slots() -> None:
    before = bench_of()
    before.worker("w", slots=4)
    before.submit("a", slots=3)
    before.submit("b", slots=2)
    assert before.assigned() == ["a"]
    after = before.restarted()
    assert after.pool.runnable_slots(after.now) == 5
    after.worker("w", slots=4, running=(before.claim("a"),), credit=1)
    after.effects()
    worker = after.pool.fleet.workers.get("w")
    assert worker is not None
    assert worker.slots_used == 3
    assert after.pool.runnable_slots(after.now) == 2


def test_room_is_made_for_the_next_one_and_others_go_elsewhere() -> None:
    bench = bench_of()
    bench.worker("w", slots=4)
    bench.worker("v", slots=2)
    for number in range(6):
        bench.submit(f"s{number}")
    at = placed(bench)
    on_w = [name for name, where in at.items() if where == "w"]
    on_v = [name for name, where in at.items() if where == "v"]
    bench.submit("big", slots=4)
    bench.submit("n0")
    bench.submit("n1")
    assert bench.assigned() == []
    # W is large enough: what comes free there is kept.
    bench.end(on_w[0])
    bench.end(on_w[1])
    assert placed(bench) == {}
    # V is not: it goes on with what comes after.
    bench.end(on_v[0])
    assert placed(bench) == {"n0": "v"}
    bench.end(on_w[2])
    assert placed(bench) == {}
    bench.end(on_w[3])
    assert placed(bench) == {"big": "w"}


def test_what_comes_before_it_may_take_the_room() -> None:
    bench = bench_of()
    bench.worker("w", slots=2)
    bench.submit("s0")
    bench.submit("s1")
    bench.effects()
    bench.submit("big", slots=2)
    bench.end("s0")
    assert bench.assigned() == []
    bench.submit("urgent", priority=1)
    assert bench.assigned() == ["urgent"]


def test_places_in_flight_are_not_kept_for_it() -> None:
    bench = bench_of(max_in_flight=2)
    bench.worker("w", slots=4)
    bench.submit("first")
    assert bench.assigned() == ["first"]
    bench.worker("v", slots=1)
    bench.submit("big", slots=4)
    for number in range(3):
        bench.submit(f"s{number}")
    assert placed(bench) == {"s0": "v"}
    bench.end("s0")
    assert placed(bench) == {"s1": "v"}
    bench.end("first")
    assert placed(bench) == {"big": "w"}


@pytest.mark.parametrize("fair", [False, True])
def test_a_large_task_is_reached_under_a_stream_of_small_ones(fair: bool) -> None:
    bench = bench_of(fair=fair)
    bench.worker("w", slots=4)
    bench.worker("v", slots=4)
    names = iter(range(10_000))

    def small() -> None:
        for key in ("a", "b"):
            bench.submit(f"s{next(names)}", fairness_key=key)

    for _ in range(8):
        small()
    running = bench.assigned()
    bench.submit("big", slots=4, fairness_key="a")
    for _ in range(40):
        small()
        bench.end(running.pop(0))
        running += bench.assigned()
        if "big" in running:
            break
    assert "big" in running


def test_its_keys_are_kept_for_it() -> None:
    """Small tasks of the same keys would be quicker for ever."""
    limit = settings.RateLimit(tasks=1, period_ns=10**6 * S, burst=2)
    bench = bench_of(max_in_flight_per_key=2, rate_limit_per_key=limit)
    bench.worker("w", slots=2)
    bench.worker("v", slots=1)
    bench.submit("s0", fairness_key="other")
    bench.submit("s1", fairness_key="other")
    at = placed(bench)
    assert set(at.values()) == {"w", "v"} or set(at.values()) == {"w"}
    bench.submit("s2", fairness_key="others")
    bench.effects()
    bench.submit("t", fairness_key="k")
    bench.submit("big", slots=2, fairness_key="k", concurrency_key="c")
    bench.submit("same", fairness_key="k")
    on_v = next(lease.task.id for lease in bench.pool.fleet.leases.all() if lease.session_id == "v")
    bench.end(on_v)
    assert bench.assigned() == ["t"]
    bench.end("t")
    on_w = [lease.task.id for lease in bench.pool.fleet.leases.all()]
    bench.end(on_w[0])
    assert bench.assigned() == [], "the last token of the key is for the one before it"
    bench.end(on_w[1])
    assert bench.assigned() == ["big"]
    bench.wait(1)
    assert bench.assigned() == []


def test_with_equal_room_the_same_worker_is_chosen_again() -> None:
    """Or two could take turns for ever, and neither have room enough."""
    table = workers.WorkerTable()
    for name in ("w", "v"):
        worker = workers.Worker(
            session_id=name,
            pod_name=name,
            pod_uid=name,
            slots=2,
            task_types=frozenset(),
            revision="",
            sdk_version="",
            connect_time=0,
            last_heartbeat=0,
            idle_since=0,
            credit=1,
        )
        table.add(worker)
    for _ in range(2):
        chosen = table.widest("x", 2)
        assert chosen is not None
        table.set_aside(chosen)
        other = table.widest("x", 2)
        assert other is not None
        assert other is not chosen
        # Whatever the order in which they come back.
        for each in (chosen, other):
            table.reopen(each)
        assert table.widest("x", 2) is chosen
        table.reopen(chosen)
        assert table.widest("x", 2) is chosen
        other.credit, chosen.credit = 2, 1
        assert table.widest("x", 2) is other, "more room is better"
        chosen.awaited = False
        other.credit = 1


def test_what_can_never_fit_is_refused() -> None:
    bench = bench_of(slots_per_worker=4)
    assert bench.submit("a", slots=4).admitted
    refused = bench.submit("b", slots=5)
    assert refused.reason is Reason.UNSCHEDULABLE
    assert "5 slots" in refused.message
    assert "has 4" in refused.message
    waiting = bench.wait_for_room("c", slots=5)
    assert isinstance(waiting, admission.Admission)
    assert waiting.reason is Reason.UNSCHEDULABLE


def test_what_fits_on_no_worker_holds_up_nobody() -> None:
    bench = bench_of()
    bench.worker("w", slots=2)
    bench.submit("huge", slots=9)
    bench.submit("a")
    bench.submit("huge too", slots=9)
    bench.submit("b")
    assert bench.assigned() == ["a", "b"]
    assert bench.pool.fleet.hello(
        workers.Introduction(session_id="x", pod_name="x", pod_uid="x", slots=9), bench.now
    )
    bench.pool.fleet.credit("x", 9)
    assert bench.assigned() == ["huge"]
