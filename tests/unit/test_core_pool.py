"""One pool, verb by verb: admission, order, leases, outcomes, losses, restarts, reservations."""

import dataclasses
from typing import Any

import pytest

from penstock_dispatcher.core import (
    admission,
    effects,
    leases,
    outcome,
    records,
    settings,
    units,
    workers,
)
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks

S = units.SECOND
T0 = 1_000_000 * S
Reason = admission.AdmissionReason
State = tasks.TaskState
Kind = outcome.OutcomeKind
CONFIG = settings.PoolSettings(
    name="namespaces/default/pools/demo",
    uid="u",
    max_pending=3,
    max_pending_bytes=100,
    max_payload_bytes=60,
    lease_ns=6 * S,
    heartbeat_ns=2 * S,
    reconnect_grace_ns=10 * S,
    execution_timeout_ns=60 * S,
    cancel_grace_ns=2 * S,
    retry=settings.RetryPolicy(max_attempts=2, initial_backoff_ns=S, jitter=0.0),
    max_worker_losses=2,
    result_retention_ns=100 * S,
)


class Bench:
    """A pool whose records are durable as soon as they are looked at."""

    def __init__(self, epoch: int = 1, **changes: Any) -> None:
        self.now = T0
        self.log = records.RecordLog()
        self.pool = pools.Pool(
            dataclasses.replace(CONFIG, **changes),
            log=self.log,
            tokens=leases.TokenSource(epoch),
            draw=lambda: 0.0,
            now=self.now,
        )

    def submit(self, task_id: str, **fields: Any) -> admission.Admission:
        fields = {"type": "work", "body": b"", "size": 1, **fields}
        return self.pool.submit(tasks.Submission(task_id=task_id, **fields), self.now)

    def effects(self, kind: type = object) -> list[Any]:
        taken = self.pool.take_effects(self.log.last, self.now)
        return [each for each in taken if isinstance(each, kind)]

    def worker(self, name: str, *, slots: int = 1, running: Any = (), credit: int = -1) -> None:
        intro = workers.Introduction(
            session_id=name, pod_name=name, pod_uid=name, slots=slots, running=running
        )
        assert self.pool.fleet.hello(intro, self.now)
        self.pool.fleet.credit(name, slots if credit < 0 else credit)

    def assigned(self) -> list[str]:
        return [each.task.id for each in self.effects(effects.Assigned)]

    def end(self, task_id: str, kind: Kind = Kind.COMPLETED, **fields: Any) -> None:
        lease = self.task(task_id).lease
        assert lease is not None
        ended = outcome.Outcome(lease_id=lease.id, token=lease.token, kind=kind, **fields)
        self.pool.fleet.outcome(lease.session_id, ended, self.now)
        self.pool.fleet.credit(lease.session_id, 1)

    def task(self, task_id: str) -> tasks.Task:
        return self.pool.book.tasks[task_id]

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * S)
        self.pool.tick(self.now)


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


def test_all_or_none() -> None:
    bench = Bench()

    def batch(*names: str) -> list[admission.Admission]:
        wanted = [tasks.Submission(task_id=n, type="t", body=b"", size=1) for n in names]
        return bench.pool.submit_atomically(wanted, bench.now)

    assert [each.reason for each in batch("a", "b", "c", "d")] == [Reason.QUEUE_FULL] * 4
    assert bench.pool.book.waiting == 0
    assert all(each.admitted for each in batch("a", "b", "c"))


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
    assert bench.pool.runnable_slots() == 0
    bench.pool.pause(False)
    assert bench.assigned() == ["a"]
    bench.end("a")
    assert bench.assigned() == ["b"]


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


def test_heartbeats_keep_a_lease_and_an_execution_has_its_end() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    bench.assigned()
    lease = bench.task("a").lease
    assert lease is not None
    for _ in range(15):
        bench.wait(4)
        bench.pool.fleet.heartbeat("w", [lease.id], bench.now)
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
    bench.pool.fleet.heartbeat("w", [lease.id], bench.now)
    assert bench.pool.take_effects(before, bench.now) == []


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


# ---------------------------------------------------------------- workers


def test_credit_is_what_a_worker_gets_and_slots_are_the_most() -> None:
    bench = Bench(max_pending=100)
    for number in range(10):
        bench.submit(f"t{number}")
    bench.effects()
    bench.worker("w", slots=2, credit=50)
    assert bench.assigned() == ["t0", "t1"]
    bench.pool.fleet.disconnected("w", bench.now)
    bench.end("t0")
    assert bench.assigned() == [], "nobody is there to take it"


def test_credit_that_comes_before_its_outcome_is_not_lost() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    bench.submit("b")
    assert bench.assigned() == ["a"]
    lease = bench.task("a").lease
    assert lease is not None
    bench.pool.fleet.credit("w", 1)
    assert bench.assigned() == []
    ended = outcome.Outcome(lease_id=lease.id, token=lease.token, kind=Kind.COMPLETED)
    bench.pool.fleet.outcome("w", ended, bench.now)
    assert bench.assigned() == ["b"]


def test_a_lease_with_a_recorded_outcome_is_not_taken_up_again() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    bench.assigned()
    lease = bench.task("a").lease
    assert lease is not None
    bench.pool.fleet.stopping("w")
    bench.end("a", Kind.RELEASED)
    bench.pool.fleet.disconnected("w", bench.now)
    claim = workers.ClaimedLease(task_id="a", lease_id=lease.id, token=lease.token, attempt=1)
    bench.worker("w", running=(claim,), credit=0)
    (welcomed,) = bench.effects(effects.Welcomed)
    assert welcomed.revoked == (lease.id,)
    assert bench.task("a").lease is None


def test_reserved_idle_workers_get_nothing_and_can_be_taken_back() -> None:
    bench = Bench()
    for name in ("busy", "idle", "idler"):
        bench.worker(name)
        bench.now += S
    bench.submit("a")
    (busy,) = bench.effects(effects.Assigned)
    bench.now += 10 * S
    chosen = bench.pool.reservations.reserve(
        count=5, idle_for_ns=5 * S, revision="", reservation_id="r", now=bench.now
    )
    assert busy.session_id not in [worker.session_id for worker in chosen]
    assert len(chosen) == 2
    for name in ("b", "c"):
        bench.submit(name)
    assert bench.assigned() == []
    confirmed, other = (worker.session_id for worker in chosen)
    bench.pool.reservations.confirm(confirmed)
    released = bench.pool.reservations.release("r", frozenset())
    assert [worker.session_id for worker in released] == [other]
    bench.pool.fleet.credit(other, 1)
    bench.pool.fleet.credit(confirmed, 1)
    (given,) = bench.effects(effects.Assigned)
    assert given.session_id == other
    # A drained pod stays one, also for another process in it and after a restart.
    assert list(bench.pool.fleet.workers.tombstones) == [confirmed]
    bench.worker(confirmed)
    assert bench.assigned() == []


# ---------------------------------------------------------------- a restart


@pytest.mark.parametrize("returns", [True, False])
def test_held_back_until_the_workers_of_before_have_spoken(returns: bool) -> None:
    before = Bench()
    for name in ("a", "b"):
        before.submit(name)
    before.worker("w")
    assert before.assigned() == ["a"]
    lease = before.task("a").lease
    assert lease is not None
    after = Bench(epoch=2)
    after.pool.restore(
        stored=[
            dataclasses.replace(
                before.task(name), lease=None, state=State.PENDING, attempt=0, place=tasks.Place(0)
            )
            for name in ("a", "b")
        ],
        requests=(),
        sessions=[("w", "w")],
        tombstones=(),
        paused=False,
        closed_time=0,
        now=after.now,
    )
    after.worker("other")
    assert after.assigned() == []
    assert after.pool.runnable_slots() == 2, "it needs workers all the same"
    if returns:
        claim = workers.ClaimedLease(task_id="a", lease_id=lease.id, token=lease.token, attempt=1)
        after.worker("w", running=(claim,), credit=0)
        assert after.assigned() == ["b"]
        assert after.task("a").state is State.RUNNING
        after.end("a", result=b"x")
        assert (after.task("a").state, after.task("a").attempt) == (State.SUCCEEDED, 1)
    else:
        after.wait(10)
        assert after.assigned() == ["a"]
