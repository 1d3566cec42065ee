"""What a pool says about starts to come, and how it is held against them."""

import dataclasses

import pytest

from penstock_dispatcher.core import (
    admission,
    effects,
    estimate,
    forecast,
    ready,
    settings,
    units,
)
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S, MS = units.SECOND, units.MILLISECOND
Bench = pool_bench.Bench
Reason = admission.AdmissionReason


def warm(**changes: object) -> Bench:
    """Two slots that are taken, tasks that last two seconds, nothing waiting."""
    bench = Bench(**{"max_pending": 100, **changes})
    bench.worker("w", slots=2)
    for name in ("w1", "w2"):
        bench.submit(name)
        assert bench.assigned() == [name]
    bench.wait(2)
    for name in ("w1", "w2"):
        bench.end(name)
    for name in ("r1", "r2"):
        bench.submit(name)
        assert bench.assigned() == [name]
    return bench


def deadline(bench: Bench, seconds: float) -> int:
    return bench.now + int(seconds * S)


def test_a_pool_that_never_had_a_worker_is_not_judged() -> None:
    bench = Bench()
    assert bench.pool.stats(bench.now).estimated_wait_ns == estimate.UNKNOWN
    assert bench.submit("a", start_by=bench.now).admitted


def test_idle_workers_mean_no_wait_and_a_short_delay() -> None:
    bench = Bench(max_pending=1)
    bench.worker("w", slots=3)
    assert bench.pool.stats(bench.now).estimated_wait_ns == 0
    bench.submit("a")  # on its way to the queue
    refused = bench.submit("b")
    assert refused.retry_after_ns == admission.RETRY_AFTER_MIN_NS


@pytest.mark.parametrize(
    ("ran_s", "wanted"),
    [(0, admission.RETRY_AFTER_MIN_NS), (1, 2 * S), (10, 20 * S), (50, 30 * S)],
)
def test_before_any_has_ended_a_task_runs_for_as_long_again(ran_s: int, wanted: int) -> None:
    bench = Bench(max_pending=1, lease_ns=100 * S, execution_timeout_ns=1000 * S)
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    bench.submit("b")
    bench.effects()
    bench.wait(ran_s)
    assert bench.submit("c").retry_after_ns == wanted


def test_a_warm_pool_counts_what_comes_before() -> None:
    bench = warm()
    assert bench.pool.stats(bench.now).estimated_wait_ns == S
    for number in range(4):
        bench.submit(f"t{number}")
    assert bench.pool.stats(bench.now).estimated_wait_ns == 5 * S, "on its way counts"
    bench.effects()
    assert bench.pool.stats(bench.now).estimated_wait_ns == 5 * S
    assert bench.pool.forecast.of_new(1, bench.now) == S, "nothing of that priority waits"
    assert bench.pool.forecast.of_new(-1, bench.now) == 5 * S


def test_positions_are_exact_by_priority_and_sequence() -> None:
    bench = warm()
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1)):
        bench.submit(name, priority=priority)
    assert bench.pool.forecast.position(bench.task("a")) == -1, "not in the queue yet"
    bench.effects()
    places = {name: bench.pool.forecast.position(bench.task(name)) for name in "abcd"}
    assert places == {"b": 0, "a": 1, "c": 2, "d": 3}
    assert bench.pool.forecast.at(2, bench.now) == 3 * S
    bench.pool.cancel(bench.task("a"), "", bench.now)
    assert bench.pool.forecast.position(bench.task("c")) == 1


def aging(**changes: object) -> Bench:
    """Tasks of ten priorities that have come over 40 seconds; a unit of priority is 3 seconds."""
    bench = Bench(**{"max_pending": 100, "priority_aging_ns": 3 * S, **changes})
    for number in range(40):
        bench.submit(f"t{number}", priority=number * 7 % 10)
        bench.wait(1)
    bench.pool.cancel(bench.task("t20"), "", bench.now)
    bench.effects()
    return bench


@pytest.mark.parametrize("changes", [{}, {"max_in_flight_per_key": 5}])
def test_under_aging_a_position_is_the_order_of_starts(changes: dict[str, object]) -> None:
    bench = aging(**changes)
    forecast_ = bench.pool.forecast
    waiting = [task for task in bench.pool.book.tasks.values() if not task.terminal]
    places = {forecast_.position(task): task.id for task in waiting}
    bench.worker("w", slots=len(waiting))
    started = bench.assigned()
    assert [places[number] for number in range(len(waiting))] == started
    assert started != sorted(started, key=lambda name: -bench.task(name).priority)


def test_under_aging_a_new_task_waits_for_what_is_ahead_by_now() -> None:
    bench = aging()
    for priority in (-5, 0, 4, 9, 12, 40):
        ahead = bench.pool.book.backlog.before_new(priority, bench.now)
        bench.submit("new", priority=priority)
        bench.effects()
        assert bench.pool.forecast.position(bench.task("new")) == ahead
        bench.pool.cancel(bench.task("new"), "", bench.now)
        bench.pool.book.tasks.pop("new")


def test_under_aging_what_is_old_makes_a_deadline_late() -> None:
    bench = warm(priority_aging_ns=S)
    for number in range(4):
        bench.submit(f"t{number}")
    bench.effects()
    assert bench.submit("soon", priority=2, start_by=deadline(bench, 1)).admitted
    bench.pool.cancel(bench.task("soon"), "", bench.now)
    bench.wait(2.5)
    refused = bench.submit("late", priority=2, start_by=deadline(bench, 1))
    assert refused.reason is Reason.DEADLINE_UNREACHABLE
    assert bench.submit("urgent", priority=3, start_by=deadline(bench, 1)).admitted


def test_positions_follow_another_aging() -> None:
    bench = aging()
    for aging_ns in (0, S, 3 * S, 0):
        config = dataclasses.replace(bench.pool.config, priority_aging_ns=aging_ns)
        bench.pool.configure(config, bench.now)
        bench.submit(f"more-{aging_ns}-{bench.now}", priority=5)
        bench.wait(1)
        bench.effects()
        waiting = [task for task in bench.pool.book.tasks.values() if not task.terminal]
        waiting.sort(key=lambda task: (ready.rank(task, aging_ns), task.sequence))
        places = [bench.pool.forecast.position(task) for task in waiting]
        assert places == list(range(len(waiting)))


def test_a_rate_limit_and_a_cap_in_flight_count() -> None:
    limit = settings.RateLimit(tasks=1, period_ns=10 * S, burst=1)
    bench = Bench(rate_limit=limit, max_in_flight=2)
    bench.worker("w", slots=50)
    bench.submit("a")
    assert bench.assigned() == ["a"]
    assert bench.pool.stats(bench.now).estimated_wait_ns == 10 * S
    capped = warm(max_in_flight=2)
    capped.worker("more", slots=50)
    assert capped.pool.stats(capped.now).estimated_wait_ns == S


def test_a_pool_that_does_not_dispatch_is_not_judged() -> None:
    bench = warm()
    bench.pool.pause(True)
    assert bench.pool.stats(bench.now).estimated_wait_ns == estimate.UNKNOWN
    assert bench.submit("a", start_by=bench.now).admitted


# ---------------------------------------------------------------- deadlines


def test_a_start_that_is_too_late_is_refused_with_the_excess() -> None:
    bench = warm()
    for number in range(4):
        bench.submit(f"t{number}")
    bench.effects()
    refused = bench.submit("late", start_by=deadline(bench, 3))
    assert refused.reason is Reason.DEADLINE_UNREACHABLE
    assert (refused.estimated_wait_ns, refused.retry_after_ns) == (5 * S, 2 * S)
    assert "late" not in bench.pool.book.tasks
    assert bench.pool.book.refused_total == 1
    assert bench.submit("enough", start_by=deadline(bench, 5)).admitted
    assert bench.submit("first", start_by=deadline(bench, 1), priority=9).admitted


def test_what_was_admitted_is_recognised_whatever_the_queue() -> None:
    bench = warm()
    assert bench.submit("a", request_id="r", start_by=deadline(bench, 5)).admitted
    for number in range(20):
        bench.submit(f"t{number}")
    again = bench.submit("b", request_id="r", start_by=deadline(bench, 5))
    assert again.reason is Reason.DUPLICATE


def batch(bench: Bench, count: int, seconds: float) -> list[admission.Admission]:
    wanted = [
        tasks.Submission(
            task_id=f"b{n}", type="work", body=b"", size=1, start_by=deadline(bench, seconds)
        )
        for n in range(count)
    ]
    return bench.pool.submit_atomically(wanted, bench.now)


def test_all_or_none_holds_with_deadlines() -> None:
    bench = warm()
    assert {answer.reason for answer in batch(bench, 4, 3.9)} == {Reason.DEADLINE_UNREACHABLE}
    assert bench.pool.book.waiting == 0
    assert {answer.reason for answer in batch(bench, 4, 4.0)} == {Reason.ACCEPTED}


def test_who_waits_for_room_has_its_deadline_counted_from_the_call() -> None:
    bench = warm(max_pending=1)
    bench.submit("q")
    bench.effects()
    late = bench.wait_for_room("x", start_by=deadline(bench, 1.5))
    assert isinstance(late, admission.Admission)
    assert late.reason is Reason.DEADLINE_UNREACHABLE
    assert isinstance(bench.wait_for_room("y", start_by=deadline(bench, 3)), admission.Waiter)
    bench.wait(2.5)
    assert bench.answers() == []
    bench.end("r1")  # too late: the next slot comes free after the deadline
    assert bench.answers() == [("y", "DEADLINE_UNREACHABLE")]
    assert bench.pool.room.by_priority.at_least(-(2**31)) == 0


def test_nobody_waits_for_room_beyond_its_deadline() -> None:
    bench = warm(max_pending=1)
    bench.submit("q")
    bench.effects()
    bench.wait_for_room("y", start_by=deadline(bench, 3))
    bench.wait_for_room("z", wait_s=2, start_by=deadline(bench, 9))
    bench.wait(2)
    assert bench.answers() == [("z", "ADMISSION_TIMEOUT")]
    bench.wait(1)
    assert bench.answers() == [("y", "DEADLINE_UNREACHABLE")]


# ---------------------------------------------------------------- its own error


def test_predictions_are_held_against_starts() -> None:
    bench = warm()
    assert bench.submit("a", start_by=deadline(bench, 9)).admitted  # predicted: 1 s
    bench.effects()
    bench.wait(1.4)
    bench.end("r1")
    assert [each.task.id for each in bench.effects(effects.Assigned)] == ["a"]
    late = bench.pool.forecast.late_errors
    assert late.total_seconds == pytest.approx(0.4)
    assert late.counts[estimate.BUCKETS_SECONDS.index(0.5)] == 1


def test_one_of_many_is_predicted() -> None:
    bench = warm()
    for number in range(3 * forecast.PREDICTED_EVERY):
        bench.submit(f"t{number}")
    predicted = [task for task in bench.pool.book.tasks.values() if task.predicted_wait_ns >= 0]
    assert len(predicted) == 3
