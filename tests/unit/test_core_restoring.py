"""Tasks of a deleted pool go over to the one that has its name by now."""

import dataclasses
from typing import Any

import pytest

from penstock_dispatcher.core import (
    admission,
    control,
    effects,
    idempotency,
    outcome,
    records,
    restoring,
    settings,
    units,
)
from penstock_dispatcher.core import task as tasks
from rig import pool_bench, twin_pools

S = units.SECOND
T0 = pool_bench.T0
Kind = outcome.OutcomeKind
Move = restoring.Move
Reason = admission.AdmissionReason
State = tasks.TaskState
Twins = twin_pools.Twins


def deleted(*names: str, **fields: Any) -> Twins:
    """Both pools; the older one is deleted, and these wait in it."""
    twins = Twins()
    for name in names:
        assert twins.old.submit(name, **fields).admitted
    twins.delete()
    return twins


def order(twins: Twins) -> list[str]:
    """What the pool gives to a worker with room for everything."""
    twins.new.worker("w", slots=100)
    return twins.new.assigned()


def test_what_waits_moves_with_its_order_and_comes_after_what_is_there() -> None:
    twins = deleted("b", "a")
    assert not twins.old.submit("refused").admitted
    twins.new.submit("first")
    twins.new.effects()
    assert twins.restore() == ["b", "a"]
    assert twins.old.pool.book.tasks == {}
    assert restoring.remaining(twins.old.pool) == restoring.restorable(twins.old.pool) == 0
    assert twins.old.pool.book.waiting_bytes == 0
    assert twins.old.pool.next_deadline() > T0
    assert twins.new.pool.book.waiting == 3
    assert order(twins) == ["first", "b", "a"]
    assert twins.restore() == []


def test_priority_goes_before_the_place() -> None:
    twins = deleted("a")
    twins.old.pool.configure(twin_pools.OLD, T0)
    twins.old.submit("urgent", priority=9)
    twins.delete()
    twins.new.submit("first")
    twins.restore()
    assert order(twins) == ["urgent", "first", "a"]


def test_nothing_is_given_out_before_it_is_durable() -> None:
    twins = deleted("a")
    twins.new.worker("w")
    twins.new.effects()
    before = twins.new.log.last
    twins.restore()
    assert twins.new.pool.take_effects(before, T0) == []
    assert twins.new.assigned() == ["a"]


def test_what_is_not_durable_yet_may_move() -> None:
    """Its acceptance and its move become durable together; the deleted pool does not queue it."""
    twins = Twins()
    twins.old.submit("a")
    twins.old.pool.close(T0)
    assert twins.restore() == ["a"]
    told = twins.old.effects(effects.TaskChanged)
    assert [each.task.id for each in told] == ["a"]
    assert twins.old.pool.book.waiting == 0
    assert order(twins) == ["a"]


def test_everything_that_a_task_has_goes_along_and_is_there_after_a_crash() -> None:
    twins = Twins()
    own = settings.RetryPolicy(max_attempts=7, initial_backoff_ns=50 * S, jitter=0.0)
    twins.old.submit(
        "a",
        uid="its own",
        type="t",
        body=b"",
        size=5,
        priority=4,
        expire_time=T0 + 99 * S,
        execution_timeout_ns=3 * S,
        retry=own,
        request_id="r",
        fingerprint=8,
        fairness_key="f",
        concurrency_key="c",
        slots=2,
    )
    twins.old.worker("w", slots=2)
    twins.old.effects()
    lease = twins.old.task("a").lease
    assert lease is not None
    twins.old.pool.fleet.progress("w", lease.id, b"", b"half")
    twins.old.end("a", Kind.FAILED, failure=tasks.Failure(2, "Oops", "no"), retryable=True)
    twins.old.pool.fleet.gone("w", "Error", T0)
    twins.delete()
    task = twins.old.task("a")
    assert (task.state, task.attempt) == (State.DELAYED, 1)
    before = {each.name: getattr(task, each.name) for each in dataclasses.fields(task)}
    twins.restore()
    changed = {name for name, value in before.items() if getattr(task, name) != value}
    assert changed == {"fencing_token", "lsn", "place", "ticket"}
    assert twins.new.task("a") is task
    assert (task.checkpoint, task.size) == (b"half", 9)
    assert (twins.old.pool.book.waiting_bytes, twins.new.pool.book.waiting_bytes) == (0, 9)
    twins.new.effects()
    assert twins.new.pool.stats(T0).delayed == 1
    after = twins.crashed()
    assert after.old.pool.book.tasks == {}
    found = after.new.task("a")
    kept = {"lsn", "place", "ticket", "state", "retry", "worker", "start_time"}
    assert {name for name in before if getattr(found, name) != getattr(task, name)} <= kept
    assert (found.not_before, found.schedule_time) == (T0 + 50 * S, 0)
    assert after.new.pool.book.waiting_bytes == 9
    again = after.new.submit("a", uid="", request_id="r", fingerprint=8)
    assert (again.reason, again.task) == (Reason.DUPLICATE, found)


def test_from_when_on_it_may_start_is_as_it_was() -> None:
    """As somebody asked, as a back-off says, or at once because it was handed back."""
    twins = Twins()
    for name in ("asked", "handed back", "failed"):
        twins.old.submit(name, not_before=T0 + 20 * S)
    control.update(
        twins.old.pool.book,
        twins.old.task("asked"),
        control.Terms(priority=0, schedule_time=T0 + 99 * S, expire_time=0),
        T0,
    )
    twins.old.effects()
    for bench in (twins.old, twins.new):
        bench.wait(20)
    twins.old.worker("w", slots=2)
    assert set(twins.old.assigned()) == {"handed back", "failed"}
    twins.old.end("handed back", Kind.RELEASED)
    twins.old.end("failed", Kind.FAILED, retryable=True)
    twins.old.pool.fleet.gone("w", "Deleted", twins.old.now)
    twins.delete()
    twins.restore()
    now = twins.new.now
    wanted = {
        "asked": (T0 + 99 * S, T0 + 99 * S),
        "handed back": (0, T0 + 20 * S),
        "failed": (now + S, T0 + 20 * S),
    }
    for bench in (twins.new, twins.crashed().new):
        book = bench.pool.book
        assert {
            name: (task.not_before, task.schedule_time) for name, task in book.tasks.items()
        } == wanted


def test_both_pools_know_its_request_id() -> None:
    """The new one by the task itself; to the deleted one, nobody can bring it twice either."""
    twins = deleted("a", request_id="r", fingerprint=1)
    asked = twins.old.task("a").sequence
    twins.new.submit("first")
    twins.restore()
    for both in (twins, twins.crashed()):
        old, new = (bench.pool.book.requests.find("r", T0) for bench in (both.old, both.new))
        assert old == idempotency.Request(asked, "a", 1, T0)
        assert new is both.new.task("a")


def test_every_field_of_a_tasks_record_is_the_tasks() -> None:
    """One that is added later goes along by its name, or is named in the move."""
    fields = {each.name for each in dataclasses.fields(tasks.Task)}
    assert set(records.TaskAccepted._fields) - fields == {"pool_uid", "task_id", "token_min"}
    for kind in (records.TaskEnded, records.TaskRequeued, records.TaskCheckpointed):
        assert set(kind._fields) - fields == {"pool_uid", "task_id"}


def test_every_field_of_a_task_is_in_its_record_or_need_not_be() -> None:
    """A new field that no record of the move has would be lost by the next restart."""
    fields = {each.name for each in dataclasses.fields(tasks.Task)}
    kept = {
        *records.TaskAccepted._fields,
        *records.TaskRequeued._fields,
        *records.TaskEnded._fields,
        *records.TaskCheckpointed._fields,
    }
    elsewhere = {"id", "retry", "fencing_token", "schedule_time"}
    of_the_moment = {
        *("progress", "lsn", "place", "ticket", "cancelling", "charged", "lease"),
        "predicted_wait_ns",
    }
    assert fields - kept == elsewhere | of_the_moment


def test_a_task_without_a_policy_of_its_own_gets_the_pools() -> None:
    twins = Twins(retry=settings.RetryPolicy(max_attempts=9))
    twins.old.submit("a")
    twins.delete()
    twins.restore()
    assert twins.new.task("a").retry.max_attempts == 9


def test_what_runs_stays_and_moves_when_it_waits_again() -> None:
    twins = Twins()
    for name in "ab":
        twins.old.submit(name)
    twins.old.worker("w")
    twins.delete()
    assert twins.old.task("a").state is State.RUNNING
    assert twins.restore() == ["b"]
    assert restoring.remaining(twins.old.pool) == 1
    twins.old.pool.fleet.gone("w", "Deleted", T0)
    twins.old.effects()
    assert twins.restore() == ["a"]
    assert twins.new.task("a").worker_losses == 1


def test_what_is_held_back_after_a_restart_stays_until_nobody_can_run_it() -> None:
    twins = Twins()
    twins.old.submit("a")
    twins.old.worker("w", slots=9)
    twins.delete()
    after = twins.crashed()
    assert after.old.task("a").place is tasks.Place.HELD
    assert restoring.restorable(after.old.pool) == 0
    assert restoring.remaining(after.old.pool) == 1
    assert after.restore() == []
    after.old.wait(60)
    after.old.effects()
    assert after.restore() == ["a"]


def test_an_attempt_of_before_records_nothing() -> None:
    """Neither where its worker belongs, nor should it come to the pool of that name."""
    twins = deleted("a")
    twins.old.worker("w")
    twins.old.effects()
    claim = twins.old.claim("a")
    lease = twins.old.task("a").lease
    assert lease is not None
    twins.old.wait(10)  # nobody heard of the worker
    twins.old.effects()
    assert twins.restore() == ["a"]
    twins.new.effects()
    for bench in (twins.old, twins.new):
        late = outcome.Outcome(lease_id=lease.id, token=lease.token, kind=Kind.COMPLETED)
        bench.pool.fleet.outcome("w", late, bench.now)
        assert not any(each.accepted for each in bench.effects(effects.OutcomeAcked))
    assert not twins.new.task("a").terminal
    after = twins.crashed()
    for bench in (after.old, after.new):
        bench.worker("w", running=(claim,), credit=0)
        (welcomed,) = bench.effects(effects.Welcomed)
        assert welcomed.revoked == (claim.lease_id,)
    assert after.new.task("a").lease is None


def test_the_bound_refuses_nothing_that_moves_and_keeps_admission_closed() -> None:
    twins = Twins(max_pending=1)
    for name in "abc":
        twins.old.submit(name)
    twins.delete()
    twins.new.submit("first")
    waiting = twins.new.wait_for_room("late")
    assert isinstance(waiting, admission.Waiter)
    assert twins.restore() == ["a", "b", "c"]
    twins.new.effects()
    assert twins.new.pool.book.waiting == 4
    assert twins.new.submit("d").reason is Reason.QUEUE_FULL
    assert twins.new.answers() == []


@pytest.mark.parametrize("over", [False, True])
def test_a_name_that_is_taken_stays(over: bool) -> None:
    twins = deleted("a", "b")
    twins.new.submit("a")
    if over:
        twins.new.worker("w")
        twins.new.effects()
        twins.new.end("a")
        twins.new.effects()
    assert twins.judge(twins.old.task("a")) is Move.TAKEN
    assert twins.restore() == ["b"]
    assert list(twins.old.pool.book.tasks) == ["a"]


def test_what_was_submitted_again_under_its_request_id_stays() -> None:
    twins = deleted("a", request_id="r", fingerprint=1)
    assert twins.new.submit("other", request_id="r", fingerprint=1).admitted
    assert twins.judge(twins.old.task("a")) is Move.TAKEN
    assert twins.restore() == []


def test_a_request_id_past_its_time_is_none() -> None:
    twins = deleted("a", request_id="r", fingerprint=1)
    for bench in (twins.old, twins.new):
        bench.now += idempotency.RETENTION_NS
    twins.new.submit("other", request_id="r", fingerprint=2)
    twins.new.effects()
    assert twins.restore() == ["a"]
    again = twins.new.submit("x", request_id="r", fingerprint=2)
    assert (again.reason, again.task_id) == (Reason.DUPLICATE, "other")
    again = twins.crashed().new.submit("x", request_id="r", fingerprint=2)
    assert (again.reason, again.task_id) == (Reason.DUPLICATE, "other")


def test_the_oldest_is_the_one_that_was_made_first() -> None:
    """In whichever pool it was."""
    twins = deleted("a", "b")
    twins.new.now += 50 * S
    twins.new.submit("first")
    twins.restore()
    for both in (twins, twins.crashed()):
        assert both.new.pool.book.oldest_create_time() == T0
        for name in "ab":
            both.new.pool.cancel(both.new.task(name), "", both.new.now)
        assert both.new.pool.book.oldest_create_time() == T0 + 50 * S


def test_it_expires_and_comes_due_where_it_is() -> None:
    twins = Twins()
    twins.old.submit("expires", expire_time=T0 + 5 * S)
    twins.old.submit("later", not_before=T0 + 20 * S)
    twins.delete()
    twins.restore()
    twins.new.effects()
    twins.new.wait(10)
    assert twins.new.task("expires").state is State.EXPIRED
    twins.new.worker("w")
    assert twins.new.assigned() == []
    twins.new.wait(10)
    assert twins.new.assigned() == ["later"]


# ---------------------------------------------------------------- dead letters


def dead(twins: Twins, name: str) -> None:
    twins.old.submit(name)
    twins.old.worker("w")
    twins.old.effects()
    twins.old.end(name, Kind.FAILED, failure=tasks.Failure(2, "Oops", "no"), retryable=False)
    twins.old.effects()


def test_dead_letters_move_with_their_cause() -> None:
    twins = Twins()
    dead(twins, "a")
    twins.delete()
    assert restoring.restorable(twins.old.pool) == 1
    assert twins.restore() == ["a"]
    assert twins.old.pool.stats(T0).dead_lettered == 0
    assert twins.new.pool.stats(T0).dead_lettered == 1
    (told,) = twins.new.effects(effects.TaskChanged)
    assert (told.task.id, told.state) == ("a", State.DEAD_LETTERED)
    found = twins.crashed().new.task("a")
    assert (found.state, found.attempt, found.end_time) == (State.DEAD_LETTERED, 1, T0)
    assert found.failure == tasks.Failure(2, "Oops", "no")


@pytest.mark.parametrize("changes", [{"max_dead_letters": 0}, {"dead_letter_retention_ns": S}])
def test_a_dead_letter_that_would_not_be_kept_stays(changes: dict[str, int]) -> None:
    twins = Twins(**changes)
    dead(twins, "a")
    twins.delete()
    twins.old.now = twins.new.now = T0 + S
    assert twins.restore() == []
    assert restoring.remaining(twins.old.pool) == 1


def test_what_has_ended_otherwise_stays() -> None:
    twins = Twins()
    twins.old.submit("a")
    twins.old.worker("w")
    twins.old.effects()
    twins.old.end("a")
    twins.old.submit("b")
    twins.old.pool.cancel(twins.old.task("b"), "", T0)
    twins.delete()
    assert twins.restore() == []
    assert restoring.remaining(twins.old.pool) == 0
