"""Draining a pool, verb by verb: what is refused, what goes on, and when it is over."""

from penstock_dispatcher.core import admission, effects, outcome, records
from rig import pool_bench

Bench = pool_bench.Bench
Reason = admission.AdmissionReason


def test_a_draining_pool_refuses_new_tasks_and_works_off_what_it_has() -> None:
    bench = Bench()
    bench.submit("a")
    bench.submit("b", request_id="r")
    bench.pool.drain(True)
    assert bench.submit("c").reason is Reason.DRAINING
    assert not bench.pool.drained
    bench.worker("w")
    assert bench.assigned() == ["a"]
    bench.end("a")
    assert bench.assigned() == ["b"]
    bench.end("b")
    assert not bench.pool.drained, "its outcome is not durable yet"
    bench.effects()
    assert bench.pool.drained
    bench.pool.drain(False)
    assert not bench.pool.drained
    assert bench.submit("c").admitted


def test_a_submission_that_was_made_before_is_told_its_task() -> None:
    """Its first answer may have been lost; a refusal would make two tasks of it, or none."""
    bench = Bench()
    bench.submit("a", request_id="r")
    bench.pool.drain(True)
    assert bench.submit("b", request_id="r").reason is Reason.DUPLICATE
    assert bench.submit("b", request_id="r", fingerprint=2).reason is Reason.REQUEST_ID_REUSED
    bench.pool.close(bench.now)
    again = bench.submit("b", request_id="r")
    assert (again.reason, again.task_id) == (Reason.DUPLICATE, "a")
    assert bench.submit("b", request_id="s").reason is Reason.POOL_CLOSED


def test_who_waits_for_room_is_answered() -> None:
    bench = Bench(max_pending=1)
    bench.submit("a")
    bench.wait_for_room("b")
    bench.pool.drain(True)
    assert bench.answers() == [("b", "DRAINING")]
    late = bench.wait_for_room("c")
    assert isinstance(late, admission.Admission)
    assert late.reason is Reason.DRAINING


def test_a_failed_attempt_is_repeated_before_the_pool_is_drained() -> None:
    bench = Bench()
    bench.submit("a")
    bench.worker("w")
    bench.effects()
    bench.pool.drain(True)
    bench.end("a", outcome.OutcomeKind.FAILED)
    bench.effects()
    assert not bench.pool.drained
    bench.wait(1)
    assert bench.assigned() == ["a"]
    bench.end("a")
    bench.effects()
    assert bench.pool.drained


def test_a_paused_pool_is_drained_when_nothing_runs_and_keeps_its_queue() -> None:
    bench = Bench()
    bench.submit("a")
    bench.submit("b")
    bench.worker("w")
    assert bench.assigned() == ["a"]
    bench.pool.pause(True)
    bench.pool.drain(True)
    bench.effects()
    assert not bench.pool.drained
    bench.end("a")
    bench.effects()
    assert bench.pool.drained
    bench.pool.pause(False)
    assert not bench.pool.drained
    assert bench.assigned() == ["b"]


def test_the_latch_is_written_once() -> None:
    bench = Bench()
    bench.pool.drain(True)
    bench.pool.drain(True)
    bench.pool.pause(True)
    latched = [each for each in bench.log.take() if isinstance(each, records.PoolLatched)]
    assert [(each.paused, each.draining) for each in latched] == [(False, True), (True, True)]
    assert bench.effects(effects.WaiterAnswered) == []
