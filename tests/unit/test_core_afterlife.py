"""Tasks that have ended: queued again, or deleted before their time."""

import pytest

from penstock_dispatcher.core import admission, afterlife, effects, outcome, units
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
T0 = pool_bench.T0
Bench = pool_bench.Bench
Kind = outcome.OutcomeKind
State = tasks.TaskState


def failed(bench: Bench, *, lost: bool = False, **fields: object) -> tasks.Task:
    """A task that was given up."""
    bench.submit("a", **fields)
    bench.worker("w")
    bench.effects()
    if lost:
        bench.pool.fleet.gone("w", "Error", bench.now)
        bench.effects()
        bench.worker("w")
        bench.effects()
        bench.pool.fleet.gone("w", "Error", bench.now)
    else:
        bench.end("a", Kind.FAILED, retryable=False)
    bench.effects()
    return bench.task("a")


def redrive(bench: Bench, task: tasks.Task) -> bool:
    return afterlife.redrive(bench.pool.book, task)


@pytest.mark.parametrize("lost", [False, True])
def test_a_task_that_was_given_up_starts_again_with_nothing_charged(lost: bool) -> None:
    bench = Bench()
    task = failed(bench, lost=lost)
    assert task.state is State.DEAD_LETTERED
    assert redrive(bench, task)
    told = bench.effects(effects.TaskChanged)[0]
    assert (told.task.id, told.previous) == ("a", State.DEAD_LETTERED)
    if lost:
        bench.worker("v")
    assert bench.task("a").state is State.RUNNING or bench.assigned() == ["a"]
    assert (task.attempt, task.worker_losses) == (1, 0)
    assert bench.pool.stats(bench.now).dead_lettered == 0
    bench.end("a")
    bench.effects()
    assert task.state is State.SUCCEEDED
    assert task.failure is None


def test_nothing_is_given_out_before_it_is_durable() -> None:
    bench = Bench()
    task = failed(bench)
    before = bench.log.last
    assert redrive(bench, task)
    assert bench.pool.take_effects(before, bench.now) == []
    assert bench.pool.book.waiting == 1
    assert bench.assigned() == ["a"]


def test_only_what_failed_is_queued_again() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("done")
    bench.effects()
    assert not redrive(bench, bench.task("done"))
    bench.end("done")
    bench.submit("gone", not_before=T0 + 99 * S)
    bench.effects()
    assert not redrive(bench, bench.task("gone"))
    bench.pool.cancel(bench.task("gone"), "", bench.now)
    bench.effects()
    for name in ("done", "gone"):
        assert bench.task(name).terminal
        assert not redrive(bench, bench.task(name))


def test_it_is_never_refused_and_keeps_admission_closed() -> None:
    bench = Bench()
    task = failed(bench)
    bench.pool.fleet.stopping("w")
    for name in "bcd":
        assert bench.submit(name).admitted
    bench.wait_for_room("e")
    assert redrive(bench, task)
    bench.effects()
    assert bench.pool.book.waiting == 4
    bench.pool.cancel(bench.task("b"), "", bench.now)
    assert bench.submit("f").reason is admission.AdmissionReason.QUEUE_FULL
    assert bench.answers() == []


def test_it_has_its_old_place_in_the_order() -> None:
    bench = Bench()
    task = failed(bench)
    bench.pool.pause(True)
    bench.submit("b")
    bench.submit("c", priority=1)
    redrive(bench, task)
    bench.effects()
    bench.pool.pause(False)
    bench.worker("v", slots=3)
    assert bench.assigned() == ["c", "a", "b"]


def test_it_need_not_start_by_the_old_time() -> None:
    bench = Bench()
    task = failed(bench, expire_time=T0 + 5 * S)
    bench.now += 10 * S
    redrive(bench, task)
    assert bench.assigned() == ["a"]


def test_its_retention_begins_anew() -> None:
    bench = Bench(dead_letter_retention_ns=100 * S)
    task = failed(bench)
    bench.wait(60)
    redrive(bench, task)
    bench.effects()
    bench.worker("v")
    bench.effects()
    bench.wait(1)
    lease = task.lease
    assert lease is not None
    bench.end("a", Kind.FAILED, retryable=False)
    bench.effects()
    bench.wait(50)
    assert "a" in bench.pool.book.tasks
    bench.wait(60)
    assert "a" not in bench.pool.book.tasks


def test_again_and_again_leaves_nothing_behind() -> None:
    bench = Bench()
    task = failed(bench)
    for _ in range(1000):
        redrive(bench, task)
        bench.effects()
        bench.end("a", Kind.FAILED, retryable=False)
        bench.effects()
    assert bench.pool.stats(bench.now).dead_lettered == 1
    assert bench.pool.book.backlog.dead_entries < 100


def test_an_attempt_of_before_records_nothing_also_after_a_restart() -> None:
    """A worker whose acknowledgement was lost names its lease again: it is out of date."""
    bench = Bench(retry=pool_bench.CONFIG.retry)
    bench.submit("a")
    bench.worker("w")
    bench.effects()
    claim = bench.claim("a")
    bench.end("a", Kind.FAILED, retryable=False)
    bench.effects()
    bench.pool.fleet.disconnected("w", bench.now)
    assert redrive(bench, bench.task("a"))
    bench.effects()
    after = bench.restarted()
    assert after.task("a").state is State.PENDING
    assert (after.task("a").attempt, after.task("a").expire_time) == (0, 0)
    after.worker("w", running=(claim,), credit=0)
    (welcomed,) = after.effects(effects.Welcomed)
    assert welcomed.revoked == (claim.lease_id,)
    after.worker("v")
    assert after.assigned() == ["a"]


def test_who_has_ended_can_be_deleted() -> None:
    bench = Bench()
    task = failed(bench, request_id="r", fingerprint=1)
    assert afterlife.delete(bench.pool.book, task)
    assert bench.pool.book.tasks == {}
    assert bench.pool.stats(bench.now).dead_lettered == 0
    assert bench.pool.next_deadline() > bench.now
    again = bench.submit("a", request_id="r", fingerprint=1)
    assert again.reason is admission.AdmissionReason.DUPLICATE
    assert again.task is None
    assert bench.submit("a").admitted, "its name is free"
    bench.wait(10**6)
    assert not afterlife.delete(bench.pool.book, bench.task("a"))
    assert bench.restarted().task("a").state in (State.PENDING, State.RUNNING)


def test_a_repeated_request_is_not_told_of_another_task_with_that_name() -> None:
    bench = Bench()
    bench.submit("a", request_id="first")
    bench.worker("w")
    bench.effects()
    bench.end("a")
    bench.effects()
    assert afterlife.delete(bench.pool.book, bench.task("a"))
    bench.submit("a", request_id="second")
    again = bench.submit("b", request_id="first")
    assert (again.reason, again.task_id, again.task) == (
        admission.AdmissionReason.DUPLICATE,
        "a",
        None,
    )
