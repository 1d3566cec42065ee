"""What an attempt tells while it runs: shown to people, and handed to the next attempt."""

from penstock_dispatcher.core import afterlife, effects, outcome, records
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

Bench = pool_bench.Bench
Kind = outcome.OutcomeKind
State = tasks.TaskState


def running(**changes: int) -> tuple[Bench, str]:
    """A bench with the task `a` on a worker, and the id of its lease."""
    bench = Bench(**changes)
    bench.worker("w")
    bench.submit("a")
    assert bench.assigned() == ["a"]
    return bench, lease_of(bench)


def lease_of(bench: Bench) -> str:
    lease = bench.task("a").lease
    assert lease is not None
    return lease.id


def checkpoints(bench: Bench) -> list[bytes]:
    """Of the records that were written since the last look."""
    taken = bench.log.take()
    bench.disk.sync(taken)
    return [each.checkpoint for each in taken if isinstance(each, records.TaskCheckpointed)]


def test_progress_is_told_at_once_and_not_written_down() -> None:
    bench, lease = running()
    checkpoints(bench)
    bench.pool.fleet.progress("w", lease, b"half", b"")
    (told,) = bench.effects(effects.TaskChanged)
    assert (told.task.progress, told.previous, told.state) == (
        b"half",
        State.RUNNING,
        State.RUNNING,
    )
    assert bench.log.take() == []


def test_a_checkpoint_is_written_down_and_given_to_the_next_attempt() -> None:
    bench, lease = running()
    bench.pool.fleet.progress("w", lease, b"half", b"page 7")
    bench.pool.fleet.progress("w", lease, b"", b"page 8")
    assert checkpoints(bench) == [b"page 7", b"page 8"]
    bench.end("a", Kind.RELEASED)
    (again,) = bench.effects(effects.Assigned)
    assert again.task.checkpoint == b"page 8"
    assert again.task.progress == b"", "another attempt begins"


def test_it_outlives_the_dispatcher() -> None:
    bench, lease = running()
    bench.pool.fleet.progress("w", lease, b"half", b"page 7")
    claim = bench.claim("a")
    after = bench.restarted()
    assert after.task("a").checkpoint == b"page 7"
    after.worker("w", running=(claim,))
    after.effects()
    after.pool.fleet.progress("w", claim.lease_id, b"", b"page 9")
    after.end("a", Kind.RELEASED)
    (again,) = after.effects(effects.Assigned)
    assert again.task.checkpoint == b"page 9"


def test_an_attempt_that_has_lost_its_lease_is_not_heard() -> None:
    bench, lease = running()
    bench.wait(7)
    bench.worker("v")
    (again,) = bench.effects(effects.Assigned)
    checkpoints(bench)
    bench.effects()
    bench.pool.fleet.progress("w", lease, b"late", b"late")
    assert (again.task.progress, again.task.checkpoint) == (b"", b"")
    bench.pool.fleet.progress("somebody else", lease_of(bench), b"x", b"x")
    assert (again.task.progress, again.task.checkpoint) == (b"", b"")
    assert checkpoints(bench) == []
    assert bench.effects(effects.TaskChanged) == []


def test_a_task_that_is_to_stop_needs_no_checkpoint() -> None:
    bench, lease = running()
    bench.pool.cancel(bench.task("a"), "enough", bench.now)
    bench.effects()
    checkpoints(bench)
    bench.pool.fleet.progress("w", lease, b"still", b"page 7")
    assert bench.task("a").progress == b"still"
    assert checkpoints(bench) == []
    assert bench.effects(effects.TaskChanged) == [], "that it is stopping may not be durable"


def test_a_checkpoint_counts_as_waiting_bytes_while_its_task_waits() -> None:
    bench, lease = running()
    bench.pool.fleet.progress("w", lease, b"", b"x" * 80)
    assert bench.pool.book.waiting_bytes == 0
    bench.pool.fleet.stopping("w")
    bench.end("a", Kind.RELEASED)
    assert bench.pool.book.waiting_bytes == 81
    refused = bench.submit("b", size=30)
    assert not refused.task, "max_pending_bytes is 100"
    bench.worker("v")
    assert bench.assigned() == ["a"]
    bench.end("a")
    assert (bench.pool.book.waiting_bytes, bench.task("a").checkpoint) == (0, b"")
    assert bench.task("a").size == 1


def test_a_task_that_is_queued_again_by_hand_begins_without() -> None:
    bench, lease = running()
    bench.pool.fleet.progress("w", lease, b"half", b"page 7")
    bench.end("a", Kind.FAILED, retryable=False)
    bench.effects()
    assert afterlife.redrive(bench.pool.book, bench.task("a"))
    (again,) = bench.effects(effects.Assigned)
    assert again.task.checkpoint == b""
    assert checkpoints(bench) == [b"page 7"]
    assert [entry.checkpoint for entry in bench.disk.stored_tasks()] == [b""]
