"""Other terms for a task that waits: where it goes, what is written, and what a restart makes of
it.
"""

import dataclasses

import pytest

from penstock_dispatcher.core import control, effects, outcome, records, units
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
State = tasks.TaskState
Bench = pool_bench.Bench


def update(bench: Bench, task_id: str, **changes: int) -> None:
    task = bench.task(task_id)
    wanted = dataclasses.replace(control.terms_of(task), **changes)
    control.update(bench.pool.book, task, wanted, bench.now)


def three(**changes: object) -> Bench:
    bench = Bench(**changes)
    for name in ("a", "b", "c"):
        bench.submit(name)
    bench.effects()
    return bench


def order(bench: Bench) -> list[str]:
    """How the tasks start, with one worker that takes all."""
    bench.worker("w", slots=10)
    return bench.assigned()


def test_a_priority_moves_it_and_its_sequence_orders_it_there() -> None:
    bench = three()
    update(bench, "c", priority=5)
    update(bench, "b", priority=5)
    assert order(bench) == ["b", "c", "a"]


def test_it_starts_under_neither_terms_before_they_are_durable() -> None:
    bench = three()
    before = bench.log.last
    update(bench, "a", priority=-1)
    assert bench.task("a").lsn > before
    bench.worker("w", slots=10)
    early = bench.pool.take_effects(before, bench.now)
    assert [each.task.id for each in early if isinstance(each, effects.Assigned)] == ["b", "c"]
    assert bench.pool.book.waiting == 1, "it counts all the same"
    late = bench.effects()
    assert [each.task.id for each in late if isinstance(each, effects.Assigned)] == ["a"]
    assert (State.PENDING, State.PENDING) in [
        (each.previous, each.state) for each in late if isinstance(each, effects.TaskChanged)
    ]


def test_a_time_to_come_delays_it_and_one_that_is_past_does_not() -> None:
    bench = three()
    update(bench, "a", schedule_time=bench.now + 5 * S)
    assert bench.task("a").state is State.DELAYED
    assert order(bench) == ["b", "c"]
    bench.wait(5)
    assert bench.assigned() == ["a"]
    other = Bench()
    other.submit("late", not_before=other.now + 100 * S)
    other.effects()
    update(other, "late", schedule_time=other.now - S)
    assert order(other) == ["late"]


def test_a_back_off_goes_on_unless_the_time_is_changed() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    bench.end("a", outcome.OutcomeKind.FAILED, retryable=True)
    bench.effects()
    assert bench.task("a").state is State.DELAYED
    update(bench, "a", priority=3)
    bench.effects()
    assert bench.task("a").state is State.DELAYED
    update(bench, "a", schedule_time=bench.now)
    assert bench.assigned() == ["a"]


def test_a_time_to_start_by_is_watched_from_then_on() -> None:
    bench = three()
    update(bench, "a", expire_time=bench.now + S)
    update(bench, "b", expire_time=bench.now + S)
    bench.effects()
    update(bench, "b", expire_time=0)
    bench.effects()
    bench.wait(2)
    assert (bench.task("a").state, bench.task("b").state) == (State.EXPIRED, State.PENDING)
    assert bench.pool.book.waiting == 2


@pytest.mark.parametrize("committed", [False, True])
def test_what_is_on_its_way_to_the_queue(committed: bool) -> None:
    bench = Bench()
    bench.submit("a")
    bench.submit("b")
    if committed:
        bench.effects()
    for priority in (1, 2, 3):
        update(bench, "b", priority=priority)
    bench.pool.cancel(bench.task("a"), "", bench.now)
    assert bench.pool.book.waiting == 1
    assert order(bench) == ["b"]
    assert (bench.pool.book.waiting, bench.pool.book.committing) == (0, 0)


def test_a_back_off_ends_when_somebody_says_so() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    bench.end("a", outcome.OutcomeKind.FAILED)
    bench.effects()
    assert bench.task("a").state is State.DELAYED
    update(bench, "a", priority=3)
    bench.effects()
    assert bench.task("a").state is State.DELAYED, "its back-off goes on"
    task = bench.task("a")
    control.update(bench.pool.book, task, control.terms_of(task), bench.now, rescheduled=True)
    assert bench.assigned() == ["a"]


def test_what_is_held_back_stays_held_back() -> None:
    before = three()
    before.worker("w")
    assert before.assigned() == ["a"]
    after = before.restarted()
    assert after.task("b").place is tasks.Place.HELD
    update(after, "b", priority=-5)
    update(after, "c", schedule_time=after.now + 5 * S)
    after.worker("new", slots=10)
    assert after.assigned() == []
    again = after.restarted()
    assert again.task("b").priority == -5
    assert again.task("c").state is State.PENDING or again.task("c").not_before > again.now
    again.pool.fleet.gone("w", "Error", again.now)
    again.pool.fleet.gone("new", "Error", again.now)
    assert order(again) == ["a", "b"]
    again.wait(5)
    assert again.assigned() == ["c"]


def test_who_runs_it_after_a_restart_keeps_it() -> None:
    before = three()
    before.worker("w")
    assert before.assigned() == ["a"]
    claim = before.claim("a")
    after = before.restarted()
    update(after, "a", schedule_time=after.now + 100 * S)
    after.effects()
    after.worker("w", running=(claim,), credit=0)
    assert after.task("a").state is State.RUNNING
    assert after.pool.book.waiting == 2


def test_a_restart_keeps_the_terms() -> None:
    bench = three()
    update(bench, "a", priority=7, schedule_time=bench.now + 9 * S, expire_time=bench.now + 99 * S)
    after = bench.restarted()
    task = after.task("a")
    assert control.terms_of(task) == control.terms_of(bench.task("a"))
    assert (task.sequence, task.not_before) == (1, after.now + 9 * S)


@pytest.mark.parametrize("state", sorted(set(State) - tasks.WAITING, key=lambda each: each.value))
def test_only_what_waits_can_be_changed(state: State) -> None:
    bench = three()
    task = bench.task("a")
    assert control.changeable(task)
    task.state = state
    assert not control.changeable(task)


def test_the_record_says_all_that_is_in_force() -> None:
    bench = three()
    bench.log.take()
    update(bench, "b", priority=2)
    assert bench.log.take() == [records.TaskUpdated("u", 2, "b", 2, 0, 0, 0)]
