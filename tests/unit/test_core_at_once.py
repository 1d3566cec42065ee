"""What comes for very many tasks at one moment is done in parts, and nothing starts in between."""

from penstock_dispatcher.core import backlog, settings, units
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
WIDE = {"max_pending": 10_000, "max_pending_bytes": 2**30}


def test_many_that_expire_at_once() -> None:
    bench = pool_bench.Bench(**WIDE)
    count = 2 * backlog.EXPIRED_AT_ONCE + 10
    for number in range(count):
        bench.submit(f"t{number}", expire_time=bench.now + S)
    bench.submit("last")
    bench.effects()
    bench.worker("w", slots=count)
    bench.now += 2 * S
    left = []
    while not (assigned := bench.assigned()):
        left.append(bench.pool.book.waiting)
        assert bench.pool.next_deadline() <= bench.now, "another turn is asked for"
    assert left == [backlog.EXPIRED_AT_ONCE + 11, 11]
    assert assigned == ["last"]
    states = {task.state for task in bench.pool.book.tasks.values() if task.id != "last"}
    assert states == {tasks.TaskState.EXPIRED}


def test_many_that_are_due_at_once() -> None:
    count = 2 * backlog.PROMOTED_AT_ONCE + 10
    bench = pool_bench.Bench(max_pending=count, max_pending_bytes=2**30)
    for number in range(count):
        bench.submit(f"t{number}", priority=number, not_before=bench.now + S)
    bench.effects()
    bench.worker("w")
    bench.now += 2 * S
    turns = 0
    while not (assigned := bench.assigned()):
        turns += 1
        assert bench.pool.next_deadline() <= bench.now, "another turn is asked for"
    assert turns == 2
    assert assigned == [f"t{count - 1}"], "the order is that of all of them"


def test_while_the_journal_is_behind_nothing_that_makes_records_is_begun() -> None:
    bench = pool_bench.Bench(**WIDE, result_retention_ns=S)
    bench.worker("w", slots=2)
    bench.submit("ended")
    bench.effects()
    bench.end("ended")
    bench.submit("expires", expire_time=bench.now + 2 * S)
    bench.pool.held_back = True
    assert bench.assigned() == []
    bench.wait(5)
    bench.effects()
    assert list(bench.pool.book.tasks) == ["ended", "expires"]
    assert bench.task("expires").state is tasks.TaskState.PENDING
    assert bench.pool.next_deadline() > bench.now, "nobody asks again and again"
    bench.pool.held_back = False
    bench.wait(0)
    assert list(bench.pool.book.tasks) == ["expires"]
    assert bench.task("expires").state is tasks.TaskState.EXPIRED


def test_a_journal_that_is_behind_does_not_hide_that_the_rate_is_the_limit() -> None:
    bench = pool_bench.Bench(rate_limit=settings.RateLimit(tasks=1, period_ns=60 * S, burst=1))
    bench.worker("w", slots=2)
    bench.submit("a")
    bench.submit("b")
    bench.effects()
    bench.wait(5)
    bench.pool.held_back = True
    bench.wait(5)
    assert bench.pool.stats(bench.now).rate_limited_ns == 10 * S
    assert bench.pool.next_deadline() > bench.now, "nobody asks again and again"
    bench.wait(60)
    assert bench.pool.next_deadline() > bench.now
