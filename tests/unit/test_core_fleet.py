"""The workers of one pool, verb by verb: credit, leases, reservations, a restart."""

import dataclasses
from typing import Any

import pytest

from penstock_dispatcher.core import admission, effects, outcome, units, workers
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
T0 = pool_bench.T0
Reason = admission.AdmissionReason
State = tasks.TaskState
Kind = outcome.OutcomeKind
Bench = pool_bench.Bench


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


def test_a_lease_of_an_earlier_task_with_the_same_id_is_not_taken_for_the_new_ones() -> None:
    bench = Bench()
    bench.worker("away")
    bench.submit("nightly")
    bench.assigned()
    stale = bench.claim("nightly")
    bench.pool.fleet.disconnected("away", bench.now)
    bench.wait(6)  # the lease is lost, and another worker does it
    bench.worker("other")
    assert bench.assigned() == ["nightly"]
    bench.end("nightly")
    bench.wait(100)
    assert "nightly" not in bench.pool.book.tasks
    bench.pool.fleet.stopping("other")
    bench.submit("nightly")
    bench.worker("away", running=(stale,), credit=0)
    (welcomed,) = bench.effects(effects.Welcomed)
    assert welcomed.revoked == (stale.lease_id,)
    assert bench.task("nightly").state is State.PENDING


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
    stored = [before.task(name) for name in ("a", "b")]
    for task in stored:
        task.lease, task.state, task.attempt = None, State.PENDING, 0
        task.place = tasks.Place.NOWHERE
    after = Bench(epoch=2)
    after.pool.restore(
        stored=stored,
        requests=(),
        sessions=[("w", "w")],
        tombstones=(),
        paused=False,
        closed_time=0,
        now=after.now,
    )
    after.worker("other")
    assert after.assigned() == []
    assert after.pool.runnable_slots(after.now) == 2, "it needs workers all the same"
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


def test_after_a_restart_delayed_tasks_ask_for_no_workers() -> None:
    before = Bench(max_pending=100)
    before.worker("w")
    before.submit("retried")
    assert before.assigned() == ["retried"]
    for number in range(10):
        before.submit(f"later-{number}", not_before=T0 + 60 * S)
    before.submit("now")
    before.end("retried", Kind.FAILED)
    after = before.restarted()
    assert after.pool.runnable_slots(after.now) == 1
    assert after.pool.stats(after.now).delayed == 11
    assert after.task("later-0").state is State.DELAYED
    # Their time comes while others are still held back.
    after.worker("other", slots=5)
    after.wait(1)
    assert after.assigned() == ["retried"]
    after.worker("w", credit=0)
    assert after.assigned() == ["now"]


def test_a_delayed_task_is_taken_up_again_by_the_worker_that_runs_it() -> None:
    """The clock of the next run may be behind, so that the delay seems not to be over."""
    before = Bench()
    before.now = T0 + 5 * S
    before.worker("w")
    before.submit("a", not_before=T0 + 5 * S)
    assert before.assigned() == ["a"]
    claim = before.claim("a")
    before.now = T0
    after = before.restarted()
    assert after.task("a").state is State.DELAYED
    after.worker("w", running=(claim,), credit=0)
    assert after.task("a").state is State.RUNNING
    assert after.pool.book.waiting == 0


def test_an_attempts_time_goes_on_over_a_restart() -> None:
    before = Bench(execution_timeout_ns=60 * S, lease_ns=6 * S, cancel_grace_ns=2 * S)
    before.worker("w")
    before.submit("a")
    assert before.assigned() == ["a"]
    claim = before.claim("a")
    before.now += 50 * S
    after = before.restarted()
    after.worker("w", running=(claim,), credit=0)
    told = [(each.previous, each.state) for each in after.effects(effects.TaskChanged)]
    assert told == [(State.PENDING, State.RUNNING)]
    assert after.task("a").start_time == T0
    for _ in range(4):
        after.wait(3)
        after.beat("w")
        after.pool.tick(after.now)
    assert after.now - T0 == 62 * S
    failure = after.task("a").failure
    assert failure is not None
    assert failure.reason == "EXECUTION_TIMEOUT"


def test_what_is_taken_up_again_is_told_in_order() -> None:
    """Its lease is over, and before that is durable its worker names it again."""
    bench = Bench(lease_ns=6 * S)
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    claim = bench.claim("a")
    bench.pool.fleet.disconnected("w", bench.now)
    bench.now += 7 * S
    bench.pool.tick(bench.now)
    bench.worker("w", running=(claim,), credit=0)
    told = [(each.previous, each.state) for each in bench.effects(effects.TaskChanged)]
    assert told == [(State.RUNNING, State.PENDING), (State.PENDING, State.RUNNING)]


def test_what_was_done_while_nobody_listened_counts() -> None:
    before = Bench(execution_timeout_ns=60 * S, lease_ns=6 * S)
    before.worker("w")
    before.submit("a")
    assert before.assigned() == ["a"]
    claim = before.claim("a")
    before.now += 200 * S
    after = before.restarted()
    after.worker("w", running=(claim,), credit=0)
    after.pool.tick(after.now)
    after.end("a")
    assert after.task("a").state is State.SUCCEEDED


@pytest.mark.parametrize("start_time", [0, T0 + 1000 * S], ids=["none", "to come"])
def test_a_start_that_cannot_be_is_not_believed(start_time: int) -> None:
    before = Bench()
    before.worker("w")
    before.submit("a")
    assert before.assigned() == ["a"]
    claim = dataclasses.replace(before.claim("a"), start_time=start_time)
    before.wait(5)
    after = before.restarted()
    after.worker("w", running=(claim,), credit=0)
    assert after.task("a").start_time == after.now


def two_at_work() -> Bench:
    """One worker is at tasks a and b."""
    bench = Bench()
    bench.worker("w", slots=2)
    bench.submit("a")
    bench.submit("b")
    assert bench.assigned() == ["a", "b"]
    return bench


@pytest.mark.parametrize(
    "lie",
    [
        {"lease_id": "1a"},
        {"token": 1},
        {"attempt": -200},
        {"attempt": 7},
    ],
    ids=str,
)
def test_a_claim_that_cannot_be_is_revoked(lie: dict[str, Any]) -> None:
    bench = two_at_work()
    claim = bench.claim("a")
    lies = (dataclasses.replace(bench.claim("b"), task_id="a", **lie),)
    bench.worker("liar", running=lies, credit=0)
    assert [each.revoked for each in bench.effects(effects.Welcomed)] == [(lies[0].lease_id,)]
    assert bench.claim("a") == claim


def test_one_lease_is_not_taken_up_twice() -> None:
    before = two_at_work()
    claim = before.claim("b")
    after = before.restarted()
    after.worker("w", slots=2, running=(claim,))
    lies = (dataclasses.replace(claim, task_id="a"),)
    after.worker("liar", slots=2, running=lies)
    assert after.effects(effects.Welcomed)[-1].revoked == (claim.lease_id,)
    after.wait(100)
    assert all(after.task(each).state in tasks.WAITING for each in ("a", "b"))
