"""What is over does not stay in memory, whatever time it would have had."""

import collections
import gc
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock_dispatcher.core import admission, effects, leases, outcome, units, workers
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
DAY = 86_400 * S
T0 = pool_bench.T0
Kind = outcome.OutcomeKind
Bench = pool_bench.Bench
COUNT = 5_000
FEW = 100
ELSEWHERE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


def held(root: Any) -> collections.Counter[type]:
    """Objects that can be reached from there, by type."""
    found: collections.Counter[type] = collections.Counter()
    seen = {id(root)}
    left = [root]
    while left:
        one = left.pop()
        found[type(one)] += 1
        for other in gc.get_referents(one):
            if id(other) not in seen and not isinstance(other, ELSEWHERE):
                seen.add(id(other))
                left.append(other)
    return found


def assert_little_is_held(bench: Bench, *, waiting: int = 0) -> None:
    bench.log.take()
    found = held(bench.pool)
    assert found[tasks.Task] <= waiting + FEW
    assert found[leases.Lease] <= FEW
    assert found[tuple] <= 2 * waiting + 2 * FEW


def run(bench: Bench, count: int = COUNT, **fields: Any) -> None:
    """Tasks come, run and succeed, one after the other, in no time."""
    for number in range(count):
        bench.submit(f"t{number}", **fields)
        bench.effects()
        bench.end(f"t{number}")
        bench.effects()


def test_tasks_that_ran_and_were_deleted() -> None:
    bench = Bench(ttl_ns=DAY, lease_ns=DAY, execution_timeout_ns=DAY, result_retention_ns=0)
    bench.worker("w")
    run(bench)
    bench.wait(1)
    for _ in range(COUNT // 1_000):
        bench.pool.tick(bench.now)
    assert not bench.pool.book.tasks
    assert_little_is_held(bench)


def test_tasks_that_wait_keep_what_is_over_from_nobody() -> None:
    bench = Bench(max_pending=COUNT, ttl_ns=DAY, max_pending_bytes=2 * COUNT, result_retention_ns=0)
    waiting = 200
    for number in range(COUNT):
        bench.submit(f"t{number}", not_before=T0 + DAY // 2 if number % 3 else 0)
    bench.effects()
    for number in range(COUNT - waiting):
        bench.pool.cancel(bench.task(f"t{number}"), "", bench.now)
    bench.effects()
    for _ in range(COUNT // 1_000):
        bench.pool.tick(bench.now)
    assert bench.pool.book.waiting == waiting
    assert_little_is_held(bench, waiting=4 * waiting)


def test_a_task_that_is_handed_back_again_and_again() -> None:
    bench = Bench(ttl_ns=DAY, execution_timeout_ns=DAY, lease_ns=DAY)
    bench.worker("w")
    bench.submit("a")
    for _ in range(COUNT):
        assert bench.assigned() == ["a"]
        bench.end("a", Kind.RELEASED, execution_time_ns=1)
    assert_little_is_held(bench, waiting=1)
    bench.pool.fleet.stopping("w")
    bench.effects()
    bench.wait(86_400)
    assert bench.task("a").state is tasks.TaskState.PENDING, "it started in time, and again"
    assert bench.pool.book.waiting == 1


def test_dead_letters_beyond_their_bound() -> None:
    bench = Bench(max_dead_letters=10)
    bench.worker("w")
    for number in range(COUNT):
        bench.submit(f"t{number}")
        bench.effects()
        bench.end(f"t{number}", Kind.FAILED, retryable=False)
        bench.effects()
    kept = [f"t{number}" for number in range(COUNT - 10, COUNT)]
    assert list(bench.pool.book.tasks) == kept, "the newest ones"
    assert bench.pool.stats(bench.now).dead_lettered == 10
    assert_little_is_held(bench)


@pytest.fixture
def unreachable() -> Iterator[Callable[[], set[type]]]:
    """Types of what only the collector could free."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)

    def found() -> set[type]:
        gc.collect()
        return {type(each) for each in gc.garbage}

    yield found
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def test_what_is_over_never_leads_back_to_itself(unreachable: Callable[[], set[type]]) -> None:
    """Compiled, these are nothing that the collector knows of (`compiling`)."""
    bench = Bench(result_retention_ns=0, dead_letter_retention_ns=0, max_pending=2, lease_ns=5 * S)
    bench.worker("w", slots=4)
    run(bench, FEW)
    for number, kind in enumerate((Kind.FAILED, Kind.CANCELLED, Kind.LOST, Kind.RELEASED)):
        bench.submit(f"k{number}")
        bench.effects()
        bench.end(f"k{number}", kind, retryable=False)
        bench.effects()
    bench.submit("cancelled")
    bench.effects()
    bench.pool.cancel(bench.task("cancelled"), "", bench.now)
    bench.wait(60)  # its lease ends, and everybody's retention
    bench.wait(60)
    for number in range(8):
        bench.wait_for_room(f"w{number}")
    bench.effects()
    bench.pool.fleet.gone("w", "killed", bench.now)
    bench.effects()
    assert not unreachable() & {
        *(tasks.Task, tasks.Submission, leases.Lease, outcome.Outcome, admission.Admission),
        *(effects.Assigned, effects.OutcomeAcked, effects.TaskChanged),
    }


def test_a_pool_that_is_forgotten_parts_tasks_from_their_leases() -> None:
    bench = Bench()
    bench.worker("w", slots=2)
    running = [bench.submit(name).task for name in ("a", "b")]
    assert bench.assigned() == ["a", "b"]
    bench.pool.fleet.end_leases(bench.now)
    assert [task.lease for task in running if task] == [None, None]
    assert not bench.pool.fleet.leases
    worker = bench.pool.fleet.workers.get("w")
    assert worker is not None
    assert (worker.slots_used, worker.leases) == (0, {})


def test_the_oldest_one_that_waits_is_known_all_the_time() -> None:
    bench = Bench()
    bench.worker("w")
    bench.submit("first")
    bench.now += S
    bench.submit("second")
    bench.effects(effects.Assigned)
    assert bench.pool.stats(bench.now).oldest_pending_time == T0 + S
    bench.end("first", Kind.RELEASED)
    bench.pool.fleet.stopping("w")
    assert bench.pool.stats(bench.now).oldest_pending_time == T0, "it waits again"


# ---------------------------------------------------------------- workers


def come_and_go(bench: Bench, count: int = COUNT) -> None:
    for number in range(count):
        bench.worker(f"w{number}")
        bench.pool.fleet.goodbye(f"w{number}", bench.now)
        bench.effects()
    bench.log.take()


def test_workers_that_came_and_went_while_no_operator_asks() -> None:
    bench = Bench()
    come_and_go(bench)
    found = held(bench.pool)
    assert found[workers.Worker] <= workers.CHANGES_MAX + 1
    assert found[str] < COUNT


def test_an_operator_that_missed_too_much_is_told_everything() -> None:
    bench = Bench()
    bench.worker("stays")
    come_and_go(bench, 10)
    told = bench.pool.demand(bench.now)
    assert (told.complete, len(told.workers), len(told.gone)) == (False, 11, 10)
    come_and_go(bench, workers.CHANGES_MAX + 1)
    told = bench.pool.demand(bench.now)
    # Those that are gone are gone from the list.
    assert (told.complete, [one.session_id for one in told.workers]) == (True, ["stays"])
    assert not told.gone
    bench.pool.fleet.credit("stays", 1)
    told = bench.pool.demand(bench.now)
    assert (told.complete, len(told.workers)) == (False, 1)
