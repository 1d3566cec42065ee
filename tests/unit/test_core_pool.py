"""One pool, verb by verb: admission, order, outcomes."""

import dataclasses

import pytest

from penstock_dispatcher.core import (
    admission,
    demand,
    effects,
    outcome,
    settings,
    units,
    workers,
)
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
T0 = pool_bench.T0
Reason = admission.AdmissionReason
State = tasks.TaskState
Kind = outcome.OutcomeKind
Bench = pool_bench.Bench


# ---------------------------------------------------------------- admission


def test_the_bound_on_tasks_is_exact() -> None:
    bench = Bench()
    assert [bench.submit(f"t{n}").reason for n in range(4)] == [Reason.ACCEPTED] * 3 + [
        Reason.QUEUE_FULL
    ]
    refused = bench.submit("t9")
    assert "the bound is 3" in refused.message
    assert refused.retry_after_ns > 0
    # A place is free the moment a task starts.
    bench.worker("w")
    assert bench.assigned() == ["t0"]
    assert bench.submit("t9").admitted
    assert not bench.submit("t10").admitted


def test_the_bound_on_bytes_is_exact() -> None:
    bench = Bench()
    assert bench.submit("a", size=60).admitted
    assert bench.submit("b", size=40).admitted
    assert bench.submit("c", size=1).reason is Reason.QUEUE_FULL
    assert bench.submit("d", size=61).reason is Reason.PAYLOAD_TOO_LARGE


def test_a_requeued_task_is_never_refused_and_keeps_its_place() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("first")
    assert bench.assigned() == ["first"]
    for name in ("a", "b", "c"):
        assert bench.submit(name).admitted
    bench.pool.fleet.stopping("w")
    bench.end("first", Kind.RELEASED)
    bench.effects()
    assert bench.pool.book.waiting == 4
    bench.worker("other")
    assert bench.assigned() == ["first"]
    assert bench.task("first").attempt == 1


def test_the_same_request_is_the_same_task() -> None:
    bench = Bench()
    first = bench.submit("a", request_id="r", fingerprint=7)
    again = bench.submit("b", request_id="r", fingerprint=7)
    assert (again.reason, again.task_id) == (Reason.DUPLICATE, first.task_id)
    other = bench.submit("c", request_id="r", fingerprint=8)
    assert other.reason is Reason.REQUEST_ID_REUSED
    assert bench.submit("a").reason is Reason.TASK_EXISTS
    bench.now += 86_400 * S
    assert bench.submit("d", request_id="r", fingerprint=8).reason is Reason.ACCEPTED


def test_a_closed_pool_admits_nothing_and_works_off_what_it_has() -> None:
    bench = Bench()
    bench.submit("a")
    bench.pool.close(bench.now)
    assert bench.submit("b").reason is Reason.POOL_CLOSED
    bench.worker("w")
    assert bench.assigned() == ["a"]


# ---------------------------------------------------------------- order


def test_priority_then_arrival() -> None:
    bench = Bench(max_pending=100)
    for number, priority in enumerate([1, 5, 2, 10, 3, 7, 1, -(2**31), 2**31 - 1]):
        bench.submit(f"t{number}", priority=priority)
    bench.effects()
    bench.worker("w", slots=9)
    assert bench.assigned() == ["t8", "t3", "t5", "t1", "t4", "t2", "t0", "t6", "t7"]


def test_nothing_is_given_out_before_it_is_durable() -> None:
    bench = Bench()
    bench.worker("w")
    bench.effects()
    before = bench.log.last
    bench.submit("a")
    assert bench.pool.take_effects(before, bench.now) == []
    assert bench.assigned() == ["a"]


def test_delayed_tasks_wait_for_their_time() -> None:
    bench = Bench()
    bench.worker("w", slots=2)
    bench.submit("later", not_before=T0 + 5 * S)
    bench.submit("now")
    assert bench.assigned() == ["now"]
    bench.now = T0 + 5 * S - 1
    assert bench.assigned() == []
    assert bench.pool.next_deadline() == T0 + 5 * S
    bench.now += 1
    assert bench.assigned() == ["later"]


def test_a_task_nobody_can_run_stands_in_nobodys_way() -> None:
    bench = Bench()
    intro = workers.Introduction(
        session_id="w", pod_name="w", pod_uid="w", slots=1, task_types=frozenset({"work"})
    )
    bench.pool.fleet.hello(intro, bench.now)
    bench.pool.fleet.credit("w", 1)
    bench.submit("strange", type="unknown", priority=9)
    bench.submit("mine")
    assert bench.assigned() == ["mine"]


def test_a_latch_and_a_cap_hold_dispatch() -> None:
    bench = Bench(max_in_flight=1)
    bench.worker("w", slots=3)
    bench.pool.pause(True)
    for name in ("a", "b"):
        bench.submit(name)
    assert bench.assigned() == []
    assert bench.pool.runnable_slots(bench.now) == 0
    bench.pool.pause(False)
    assert bench.assigned() == ["a"]
    bench.end("a")
    assert bench.assigned() == ["b"]


@pytest.mark.parametrize("obstacle", ["paused", "no credit", "full", "nothing waits"])
def test_a_token_is_waited_for_only_if_it_is_all_that_is_missing(obstacle: str) -> None:
    limit = settings.RateLimit(tasks=1, period_ns=S, burst=1)
    bench = Bench(rate_limit=limit, max_in_flight=2)
    bench.worker("w", slots=3, credit=2)
    for name in ("a", "b", "c"):
        bench.submit(name)
    assert bench.assigned() == ["a"]
    assert bench.pool.next_deadline() == T0 + S
    match obstacle:
        case "paused":
            bench.pool.pause(True)
        case "no credit":
            bench.pool.fleet.disconnected("w", bench.now)
        case "full":
            bench.pool.configure(dataclasses.replace(bench.pool.config, max_in_flight=1), bench.now)
        case "nothing waits":
            for name in ("b", "c"):
                bench.pool.cancel(bench.task(name), "", bench.now)
    bench.wait(2)
    assert bench.assigned() == []
    assert bench.pool.next_deadline() > bench.now, "or the timer would fire all the time"
    assert bench.pool.stats(bench.now).rate_limited_ns == 0


def test_many_types_and_priorities_are_shown_and_found_quickly() -> None:
    count = 20_000
    bench = Bench(max_pending=count, max_pending_bytes=count)
    for number in range(count):
        bench.submit(f"t{number}", type=f"type-{number}", priority=number)
    bench.effects()
    shown = bench.pool.stats(bench.now).pending_by_priority
    assert list(shown) == list(range(count - 1, count - 1 - demand.PRIORITIES_SHOWN_MAX, -1))
    bench.worker("w", slots=count)
    # Asking each type for each task would take minutes.
    assert bench.assigned() == [f"t{number}" for number in reversed(range(count))]
    assert bench.pool.stats(bench.now).pending_by_priority == {}


# ---------------------------------------------------------------- outcomes


def test_a_result_is_told_when_it_is_durable() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    bench.assigned()
    before = bench.log.last
    bench.end("a", result=b"done")
    assert bench.pool.take_effects(before, bench.now) == []
    (acked,) = bench.effects(effects.OutcomeAcked)
    assert acked.accepted
    assert (bench.task("a").state, bench.task("a").result) == (State.SUCCEEDED, b"done")


def test_failures_are_tried_again_with_a_delay_until_they_are_dead_letters() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    bench.end("a", Kind.FAILED, failure=tasks.Failure(2, "OSError", "no"))
    assert bench.assigned() == []
    assert bench.task("a").state is State.DELAYED
    bench.wait(1)
    assert bench.assigned() == ["a"]
    bench.end("a", Kind.FAILED, failure=tasks.Failure(2, "OSError", "no"))
    task = bench.task("a")
    assert (task.state, task.attempt) == (State.DEAD_LETTERED, 2)
    assert task.failure is not None
    assert task.failure.reason == "OSError"


def test_only_the_valid_lease_counts() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    bench.assigned()
    lease = bench.task("a").lease
    assert lease is not None
    bench.wait(6)  # no heartbeat: the lease is lost
    bench.worker("other")
    assert bench.assigned() == ["a"]
    late = outcome.Outcome(lease_id=lease.id, token=lease.token, kind=Kind.COMPLETED)
    bench.pool.fleet.outcome("w", late, bench.now)
    (acked,) = bench.effects(effects.OutcomeAcked)
    assert not acked.accepted
    assert bench.task("a").state is State.RUNNING
    # A thief with the right lease and the wrong session is refused as well.
    held = bench.task("a").lease
    assert held is not None
    stolen = outcome.Outcome(lease_id=held.id, token=held.token, kind=Kind.COMPLETED)
    bench.pool.fleet.outcome("w", stolen, bench.now)
    assert not bench.effects(effects.OutcomeAcked)[0].accepted
    bench.end("a", result=b"right")
    assert bench.task("a").result == b"right"


def test_losses_are_counted_apart_from_attempts_and_capped() -> None:
    bench = Bench()
    bench.submit("a")
    for number in range(2):
        bench.worker(f"w{number}")
        assert bench.assigned() == ["a"]
        bench.pool.fleet.gone(f"w{number}", "OOMKilled", bench.now)
    task = bench.task("a")
    assert (task.state, task.attempt, task.worker_losses) == (State.DEAD_LETTERED, 0, 2)
    assert task.failure is not None
    assert "OOMKilled" in task.failure.message


def test_a_loss_that_its_worker_tells_of_charges_no_attempt() -> None:
    """The worker lives and takes the task again; a wish to cancel still wins."""
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    for _ in range(2):
        assert bench.assigned() == ["a"]
        killed = tasks.Failure(14, "OUT_OF_MEMORY", "killed by the kernel")
        bench.end("a", Kind.LOST, failure=killed, retryable=False)
    task = bench.task("a")
    assert (task.state, task.attempt, task.worker_losses) == (State.DEAD_LETTERED, 0, 2)
    assert task.failure is not None
    assert task.failure.reason == "OUT_OF_MEMORY"
    bench.submit("b")
    assert bench.assigned() == ["b"]
    bench.pool.cancel(bench.task("b"), "enough", bench.now)
    bench.end("b", Kind.LOST)
    assert bench.task("b").state is State.CANCELLED


def test_heartbeats_keep_a_lease_and_an_execution_has_its_end() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    bench.assigned()
    lease = bench.task("a").lease
    assert lease is not None
    for _ in range(15):
        bench.wait(4)
        assert not bench.pool.fleet.heartbeat("w", [lease.id], bench.now), "nothing to tell"
    assert bench.task("a").lease is lease
    bench.wait(2)  # 60 s, and the grace of 2 s
    assert bench.task("a").failure == tasks.Failure(
        outcome.CODE_DEADLINE_EXCEEDED, "EXECUTION_TIMEOUT", "ran for more than 60 s"
    )


def test_a_heartbeat_that_names_an_outcome_under_way_loses_nothing() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    bench.assigned()
    lease = bench.task("a").lease
    assert lease is not None
    before = bench.log.last
    bench.end("a", result=b"done")
    # Recorded, not durable: the worker must keep what it has.
    assert not bench.pool.fleet.heartbeat("w", [lease.id], bench.now)
    assert bench.pool.take_effects(before, bench.now) == []


def test_a_heartbeat_that_names_what_is_not_the_workers_is_answered() -> None:
    bench = Bench()
    bench.worker("w")
    assert not bench.pool.fleet.heartbeat("w", [], bench.now)
    assert not bench.pool.fleet.heartbeat("unknown", ["a"], bench.now)
    assert bench.pool.fleet.heartbeat("w", ["never-was"], bench.now)
    taken = bench.pool.take_effects(bench.log.last, bench.now)
    assert effects.LeasesLost("w", ("never-was",)) in taken


def test_cancel() -> None:
    bench = Bench()
    bench.submit("waits")
    assert bench.pool.cancel(bench.task("waits"), "", bench.now)
    assert bench.task("waits").state is State.CANCELLED
    assert not bench.pool.cancel(bench.task("waits"), "", bench.now)
    bench.worker("w")
    bench.submit("runs")
    assert bench.assigned() == ["runs"]
    assert bench.pool.cancel(bench.task("runs"), "enough", bench.now)
    (asked,) = bench.effects(effects.CancelRequested)
    assert asked.reason == "enough"
    bench.wait(2)  # it does not stop: its grace ends
    assert bench.task("runs").state is State.CANCELLED


def test_a_lease_that_is_due_twice_over_ends_once() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    bench.assigned()
    bench.pool.cancel(bench.task("a"), "", bench.now)
    bench.wait(100)  # lease, deadline and grace are all over
    assert bench.task("a").state is State.CANCELLED


def test_what_never_started_expires_and_results_are_kept_for_their_time() -> None:
    bench = Bench()
    bench.submit("a", expire_time=T0 + 5 * S)
    bench.effects()
    bench.wait(5)
    assert bench.task("a").state is State.EXPIRED
    bench.wait(99)
    assert "a" in bench.pool.book.tasks
    bench.wait(1)
    assert "a" not in bench.pool.book.tasks


def test_what_must_start_by_a_time_does_not_start_after_it() -> None:
    bench = Bench()
    bench.submit("a", expire_time=T0 + 5 * S)
    bench.effects()
    bench.now += 5 * S  # the timer is late
    bench.worker("w")
    assert bench.assigned() == []
    assert bench.task("a").state is State.EXPIRED
