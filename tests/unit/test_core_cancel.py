"""A cancel that was answered holds: the task never starts again, whatever happens to its lease."""

import pytest

from penstock_dispatcher.core import effects, outcome, units
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
State = tasks.TaskState
Kind = outcome.OutcomeKind
Bench = pool_bench.Bench


def cancelling() -> Bench:
    """A task runs, its cancellation is durable, and its worker has not reacted yet."""
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    assert bench.pool.cancel(bench.task("a"), "enough", bench.now)
    bench.effects()
    return bench


def test_a_worker_is_asked_when_the_wish_is_durable() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    before = bench.log.last
    bench.pool.cancel(bench.task("a"), "enough", bench.now)
    assert bench.task("a").lsn > before, "the client waits for it too"
    assert bench.pool.take_effects(before, bench.now) == []
    assert [each.reason for each in bench.effects(effects.CancelRequested)] == ["enough"]


def test_an_assignment_that_never_arrived_is_not_given_to_another() -> None:
    bench = cancelling()
    bench.pool.fleet.disconnected("w", bench.now)
    bench.worker("w")
    assert bench.assigned() == []
    assert bench.task("a").state is State.CANCELLED


def test_a_worker_that_leaves_hands_nothing_back() -> None:
    bench = cancelling()
    bench.pool.fleet.goodbye("w", bench.now)
    bench.worker("other")
    assert bench.assigned() == []
    assert bench.task("a").state is State.CANCELLED


@pytest.mark.parametrize("kind", [Kind.CANCELLED, Kind.RELEASED, Kind.FAILED])
def test_after_a_restart_the_worker_is_asked_again(kind: Kind) -> None:
    before = cancelling()
    claim = before.claim("a")
    after = before.restarted()
    assert after.task("a").state is State.CANCELLING
    after.worker("w", running=(claim,), credit=0)
    (asked,) = after.effects(effects.CancelRequested)
    assert asked.lease_id == claim.lease_id
    assert after.task("a").state is State.CANCELLING
    after.end("a", kind)
    assert after.assigned() == []
    assert after.task("a").state is State.CANCELLED


def test_after_a_restart_a_worker_that_does_not_stop_has_its_grace() -> None:
    before = cancelling()
    after = before.restarted()
    after.worker("w", running=(before.claim("a"),), credit=0)
    after.wait(2)
    assert after.task("a").state is State.CANCELLED


def test_after_a_restart_what_nobody_runs_is_over() -> None:
    after = cancelling().restarted()
    after.worker("other")
    assert after.assigned() == []
    assert after.pool.book.waiting == 1
    after.pool.fleet.gone("w", "Error", after.now)
    assert after.assigned() == []
    assert after.task("a").state is State.CANCELLED
    assert (after.pool.book.waiting, after.pool.book.waiting_bytes) == (0, 0)
    # And it stays so.
    assert after.restarted().task("a").state is State.CANCELLED


def test_what_was_done_before_the_wish_arrived_counts() -> None:
    before = cancelling()
    after = before.restarted()
    after.worker("w", running=(before.claim("a"),), credit=0)
    after.end("a", result=b"done")
    assert (after.task("a").state, after.task("a").result) == (State.SUCCEEDED, b"done")


def test_a_newer_lease_that_turns_up_is_cancelled_as_well() -> None:
    before = Bench()
    before.worker("first")
    before.submit("a")
    before.effects()
    older = before.claim("a")
    before.pool.fleet.disconnected("first", before.now)
    before.wait(6)
    before.worker("second")
    before.effects()
    newer = before.claim("a")
    after = before.restarted()
    after.worker("first", running=(older,), credit=0)
    after.effects()
    after.pool.cancel(after.task("a"), "enough", after.now)
    after.worker("second", running=(newer,), credit=0)
    assert after.task("a").state is State.CANCELLING
    asked = [each.lease_id for each in after.effects(effects.CancelRequested)]
    assert asked == [older.lease_id, newer.lease_id]
    after.end("a", Kind.CANCELLED)
    assert after.task("a").state is State.CANCELLED
