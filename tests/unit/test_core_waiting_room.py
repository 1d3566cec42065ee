"""Submissions that wait for room, verb by verb: who gets in, when, and what is left of the rest."""

import dataclasses

import pytest

from penstock_dispatcher.core import admission, effects, outcome, records, units
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
Bench = pool_bench.Bench
Reason = admission.AdmissionReason
IN = "ACCEPTED"


def full(**changes: object) -> Bench:
    """A pool of one place, which is taken."""
    bench = Bench(**{"max_pending": 1, **changes})
    assert bench.submit("first").admitted
    bench.effects()
    return bench


def free(bench: Bench, task_id: str) -> None:
    """The place of a waiting task is free."""
    assert bench.pool.cancel(bench.task(task_id), "", bench.now)


def test_who_finds_room_does_not_wait() -> None:
    bench = Bench(max_pending=1)
    answer = bench.wait_for_room("a")
    assert isinstance(answer, admission.Admission)
    assert answer.reason is Reason.ACCEPTED


def test_who_waits_gets_in_as_soon_as_there_is_room_and_no_sooner() -> None:
    bench = full()
    waiter = bench.wait_for_room("a")
    assert isinstance(waiter, admission.Waiter)
    assert bench.answers() == []
    assert bench.pool.stats(bench.now).waiters == 1
    bench.worker("w")
    (answered,) = bench.effects(effects.WaiterAnswered)
    assert answered.answer.reason is Reason.ACCEPTED
    assert answered.answer.lsn == bench.log.last, "told once this is durable"
    assert bench.pool.stats(bench.now).waiters == 0
    assert bench.pool.book.waiting == 1
    assert bench.submit("late").reason is Reason.QUEUE_FULL


def test_priority_then_first_come() -> None:
    bench = full()
    for name, priority in (("a", 0), ("b", 5), ("c", None), ("d", 5)):
        bench.wait_for_room(name, priority=priority)
    order = []
    for task_id in ("first", "b", "d", "a"):
        free(bench, task_id)
        order += bench.answers()
    assert order == [("b", IN), ("d", IN), ("a", IN), ("c", IN)]


def test_a_newcomer_finds_the_place_taken_whatever_its_priority() -> None:
    bench = full()
    bench.wait_for_room("patient")
    free(bench, "first")
    # No turn has passed since: the place goes to who waited, all the same.
    assert bench.submit("pushy", priority=100).reason is Reason.QUEUE_FULL
    assert bench.answers() == [("patient", IN)]
    free(bench, "patient")
    bench.wait_for_room("second")
    assert "second" in bench.pool.book.tasks


def test_an_atomic_batch_finds_the_places_taken_too() -> None:
    bench = full(max_pending=2)
    bench.submit("second")
    bench.wait_for_room("patient")
    free(bench, "first")
    free(bench, "second")
    one = tasks.Submission(task_id="x", type="work", body=b"", size=1)
    batch = [one, dataclasses.replace(one, task_id="y")]
    refused = bench.pool.submit_atomically(batch, bench.now)
    assert [each.reason for each in refused] == [Reason.QUEUE_FULL] * 2
    assert bench.answers() == [("patient", IN)]


def test_what_does_not_fit_in_bytes_holds_up_nothing_that_does() -> None:
    bench = full(max_pending=10, max_pending_bytes=100)
    bench.submit("large", size=60)
    bench.wait_for_room("too large", size=41, priority=9)
    bench.wait_for_room("small", size=40, priority=-1)
    assert bench.answers() == []
    free(bench, "first")
    assert bench.answers() == [("small", IN)]
    free(bench, "large")
    assert bench.answers() == [("too large", IN)]


def test_waited_in_vain() -> None:
    bench = full()
    bench.wait_for_room("a", wait_s=2)
    bench.wait_for_room("b", wait_s=1)
    bench.wait_for_room("c", wait_s=1.5)
    assert bench.pool.next_deadline() == bench.now + S
    bench.wait(1)
    (answered,) = bench.effects(effects.WaiterAnswered)
    assert answered.waiter.wanted.task_id == "b"
    assert answered.answer.reason is Reason.ADMISSION_TIMEOUT
    assert answered.answer.retry_after_ns > 0
    assert "within 1 s" in answered.answer.message
    bench.wait(1)
    assert bench.answers() == [("c", "ADMISSION_TIMEOUT"), ("a", "ADMISSION_TIMEOUT")]
    assert bench.pool.stats(bench.now).refused_total == 3
    assert list(bench.pool.book.tasks) == ["first"]
    assert bench.pool.next_deadline() > bench.now


def test_nobody_is_late_for_a_place_that_came_free_at_the_last_moment() -> None:
    bench = full()
    bench.wait_for_room("a", wait_s=1)
    free(bench, "first")
    bench.wait(1)
    assert bench.answers() == [("a", IN)]


def test_too_many_wait() -> None:
    bench = full(max_waiters=2)
    assert isinstance(bench.wait_for_room("a"), admission.Waiter)
    assert isinstance(bench.wait_for_room("b"), admission.Waiter)
    refused = bench.wait_for_room("c", priority=9)
    assert isinstance(refused, admission.Admission)
    assert refused.reason is Reason.TOO_MANY_WAITERS
    assert "the bound is 2" in refused.message
    assert refused.retry_after_ns > 0


def test_too_many_bytes_wait() -> None:
    bench = full()
    bench.wait_for_room("a", size=60)
    refused = bench.wait_for_room("b", size=41)
    assert isinstance(refused, admission.Admission)
    assert refused.reason is Reason.TOO_MANY_WAITERS
    assert "60 payload bytes" in refused.message
    assert isinstance(bench.wait_for_room("c", size=40), admission.Waiter)


@pytest.mark.parametrize("request_id", ["", "r"])
def test_who_leaves_leaves_nothing(request_id: str) -> None:
    bench = full()
    waiter = bench.wait_for_room("a", request_id=request_id)
    assert isinstance(waiter, admission.Waiter)
    bench.log.take()
    bench.pool.room.leave(waiter)
    bench.pool.room.leave(waiter)
    free(bench, "first")
    assert bench.answers() == []
    assert not any(isinstance(each, records.TaskAccepted) for each in bench.log.take())
    assert (len(bench.pool.room), bench.pool.room.payload_bytes) == (0, 0)
    assert bench.pool.next_deadline() > bench.now + 31 * S
    again = bench.wait_for_room("b", request_id=request_id, fingerprint=9)
    assert isinstance(again, admission.Admission)
    assert again.reason is Reason.ACCEPTED


def test_the_same_request_is_the_same_task_also_while_it_waits() -> None:
    bench = full()
    bench.wait_for_room("a", request_id="r", fingerprint=7)
    bench.wait_for_room("b", request_id="r", fingerprint=7)
    bench.wait_for_room("c", request_id="r", fingerprint=8)
    bench.wait_for_room("d", request_id="s")
    free(bench, "first")
    assert bench.answers() == [("b", "DUPLICATE"), ("c", "REQUEST_ID_REUSED"), ("a", IN)]
    assert bench.pool.stats(bench.now).waiters == 1
    again = bench.wait_for_room("e", request_id="r", fingerprint=7)
    assert isinstance(again, admission.Admission)
    assert again.task_id == "a"


def test_whoever_waits_is_told_when_the_request_comes_in_another_way() -> None:
    bench = full(max_pending=10)
    bench.submit("large", size=60)
    bench.wait_for_room("a", request_id="r", fingerprint=7, size=50)
    assert bench.submit("b", request_id="r", fingerprint=8, size=9).admitted
    assert bench.answers() == [("a", "REQUEST_ID_REUSED")]


def test_a_name_that_is_taken_by_then_is_told_when_its_turn_comes() -> None:
    bench = full()
    bench.wait_for_room("a")
    bench.wait_for_room("a")
    bench.wait_for_room("b")
    free(bench, "first")
    assert bench.answers() == [("a", IN)]
    free(bench, "a")
    assert bench.answers() == [("a", "TASK_EXISTS"), ("b", IN)]


@pytest.mark.parametrize("wanted", [{"size": 61}, {"task_id": "first"}])
def test_what_waiting_cannot_mend_is_refused_at_once(wanted: dict[str, object]) -> None:
    bench = full()
    answer = bench.wait_for_room(**{"task_id": "a", **wanted})  # type: ignore[arg-type]
    assert isinstance(answer, admission.Admission)
    assert answer.reason in (Reason.PAYLOAD_TOO_LARGE, Reason.TASK_EXISTS)


def test_a_pool_that_closes_answers_everybody() -> None:
    bench = full()
    bench.wait_for_room("a")
    bench.wait_for_room("b")
    bench.pool.close(bench.now)
    assert bench.answers() == [("a", "POOL_CLOSED"), ("b", "POOL_CLOSED")]
    refused = bench.wait_for_room("c")
    assert isinstance(refused, admission.Admission)
    assert refused.reason is Reason.POOL_CLOSED


def test_requeues_come_before_those_who_wait() -> None:
    bench = full()
    bench.worker("w", slots=1)
    bench.effects()
    bench.wait_for_room("b")
    bench.wait_for_room("c")
    assert bench.answers() == []
    bench.pool.fleet.stopping("w")
    bench.end("first", outcome.OutcomeKind.RELEASED)
    assert bench.answers() == []
    assert bench.pool.book.waiting == 2
    free(bench, "b")
    assert bench.answers() == [], "still as many as the bound"


def test_a_raised_bound_lets_them_in() -> None:
    bench = full()
    for name in "abc":
        bench.wait_for_room(name)
    bench.pool.configure(dataclasses.replace(bench.pool.config, max_pending=3), bench.now)
    assert bench.answers() == [("a", IN), ("b", IN)]


def test_who_would_come_back_is_told_of_those_who_wait() -> None:
    bench = full()
    bench.worker("w", slots=1)
    for number in range(10):
        bench.effects()
        bench.wait(1)
        bench.end(bench.pool.fleet.leases.all()[0].task.id)
        bench.submit(f"t{number}")
    bench.effects()
    bench.submit("x")
    alone = bench.submit("y").retry_after_ns
    bench.wait_for_room("z")
    assert bench.submit("y").retry_after_ns > alone
