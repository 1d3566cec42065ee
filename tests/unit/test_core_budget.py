"""The memory that the tasks of all pools share: who gives way, who is refused, who is told."""

import pytest

from penstock_dispatcher.core import admission, budget, idempotency, outcome, units
from penstock_dispatcher.core import task as tasks
from rig import counted_memory, pool_bench

S = units.SECOND
MIB = 1024 * 1024
Kind = outcome.OutcomeKind
Reason = admission.AdmissionReason
WIDE = {"max_pending": 10_000, "max_pending_bytes": 2**40, "result_retention_ns": 10**6 * S}


def benches(limit: int, count: int = 1) -> list[pool_bench.Bench]:
    """Pools that share a budget."""
    memory = budget.Budget(limit)
    made = [
        pool_bench.Bench(memory=memory, **WIDE, uid=pool_bench.CONFIG.uid + "'" * number)
        for number in range(count)
    ]
    for bench in made:
        bench.worker("w", slots=1_000)
    return made


def run(bench: pool_bench.Bench, name: str, *, body: int, result: int = 0) -> None:
    bench.submit(name, body=bytes(body), request_id=f"request-{name}")
    bench.effects()
    bench.end(name, result=bytes(result))
    bench.effects()


def test_results_go_before_their_time_oldest_first_and_the_journal_is_told() -> None:
    (bench,) = benches(10 * MIB)
    for number in range(30):
        run(bench, f"t{number}", body=MIB // 2)
    kept = list(bench.pool.book.tasks)
    assert kept == [f"t{number}" for number in range(30 - len(kept), 30)], "the newest ones"
    assert 17 <= len(kept) <= 19
    assert bench.pool.book.given_up_total == 30 - len(kept)
    deleted = [each for each in bench.log.take() if type(each).__name__ == "TaskDeleted"]
    assert len(deleted) == 30 - len(kept)
    counted_memory.check_all(bench.pool.book.memory.budget, [bench.pool.book])


def test_who_waits_for_an_outcome_is_told_though_there_is_no_room_for_it() -> None:
    (bench,) = benches(3 * MIB)
    bench.submit("a", body=bytes(MIB))
    bench.effects()
    bench.end("a", result=bytes(4 * MIB))
    told = [each for each in bench.effects() if getattr(each, "state", None)]
    assert [each.state for each in told] == [tasks.TaskState.SUCCEEDED]
    assert len(told[0].task.result) == 4 * MIB
    assert not bench.pool.book.tasks


def test_what_waits_is_refused_where_nothing_can_make_room_for_it() -> None:
    bench, other = benches(4 * MIB, 2)
    for name in ("a", "b", "c"):
        assert bench.submit(name, body=bytes(MIB)).admitted
    for refused in (bench.submit("d", body=bytes(MIB)), other.submit("d", body=bytes(MIB))):
        assert refused.reason is Reason.QUEUE_FULL
        assert refused.retry_after_ns > 0
        assert "3 MiB, the bound is 4 MiB (--task-memory)" in refused.message
    assert other.submit("small", body=b"").admitted, "nothing is refused while there is room"


def test_a_batch_that_has_no_room_as_a_whole_is_refused_as_a_whole() -> None:
    (bench,) = benches(4 * MIB)
    batch = [
        tasks.Submission(task_id=f"t{n}", type="work", body=bytes(MIB), size=1) for n in range(4)
    ]
    answers = bench.pool.submit_atomically(batch, bench.now)
    assert {each.reason for each in answers} == {Reason.QUEUE_FULL}
    assert not bench.pool.book.tasks
    answers = bench.pool.submit_atomically(batch[:3], bench.now)
    assert {each.reason for each in answers} == {Reason.ACCEPTED}


def test_the_pool_whose_results_take_the_most_gives_way() -> None:
    small, large = benches(8 * MIB, 2)
    run(small, "old", body=MIB)
    for number in range(6):
        run(large, f"t{number}", body=MIB)
    run(small, "new", body=MIB)
    assert list(small.pool.book.tasks) == ["old", "new"]
    assert large.pool.book.given_up_total > 0


def test_dead_letters_stay_and_can_be_redriven() -> None:
    (bench,) = benches(4 * MIB)
    for name in ("a", "b", "c"):
        bench.submit(name, body=bytes(MIB))
        bench.effects()
        bench.end(name, Kind.FAILED, retryable=False)
        bench.effects()
    assert bench.task("a").state is tasks.TaskState.DEAD_LETTERED
    assert bench.submit("d", body=bytes(MIB)).reason is Reason.QUEUE_FULL
    assert len(bench.pool.book.tasks) == 3


def test_what_runs_may_grow_beyond_the_limit_and_admission_waits_until_it_has_ended() -> None:
    (bench,) = benches(2 * MIB)
    bench.submit("a", body=bytes(MIB))
    assert bench.assigned() == ["a"]
    lease = bench.task("a").lease
    assert lease is not None
    bench.pool.fleet.progress("w", lease.id, b"", bytes(2 * MIB))
    memory = bench.pool.book.memory.budget
    assert memory.used > memory.limit
    assert bench.submit("b").reason is Reason.QUEUE_FULL
    bench.end("a")
    assert bench.submit("b").admitted
    counted_memory.check_all(memory, [bench.pool.book])


def test_whoever_waits_for_room_in_one_pool_is_let_in_when_another_gives_some_back() -> None:
    bench, other = benches(32 * MIB, 2)
    memory = bench.pool.book.memory.budget
    other.submit("large", body=bytes(31 * MIB))
    waiter = bench.wait_for_room("a", body=bytes(MIB))
    assert isinstance(waiter, admission.Waiter)
    assert bench.answers() == []
    assert memory.take_freed() == []
    other.pool.cancel(other.task("large"), "", other.now)
    assert memory.take_freed() == [bench.pool.config.uid]
    assert memory.take_freed() == [], "once"
    assert bench.answers() == [("a", "ACCEPTED")]


def test_a_large_payload_that_has_no_room_holds_up_no_smaller_one() -> None:
    bench, other = benches(32 * MIB, 2)
    bench.submit("large", body=bytes(31 * MIB))
    other.submit("small", body=bytes(MIB - 3_000))
    bench.wait_for_room("a", body=bytes(2 * MIB), priority=5)
    bench.wait_for_room("b", body=b"b" * 1_000)
    assert bench.answers() == []
    other.pool.cancel(other.task("small"), "", other.now)
    assert bench.answers() == [("b", "ACCEPTED")]


def test_calls_that_wait_have_a_bound_of_their_own() -> None:
    bench, other = benches(8_000, 2)
    bench.submit("full", body=bytes(7_000))
    for number in range(16):
        found = (bench, other)[number % 2].wait_for_room(f"w{number}", size=60, body=bytes(900))
        assert isinstance(found, admission.Waiter)
    found = other.wait_for_room("one more", size=60, body=bytes(900))
    assert isinstance(found, admission.Admission)
    assert found.reason is Reason.TOO_MANY_WAITERS
    assert "all pools" in found.message
    assert bench.pool.book.memory.budget.calls == 16 * 60
    for waiter in [*bench.pool.room.take_all(), *other.pool.room.take_all()]:
        assert not waiter.waits
    assert bench.pool.book.memory.budget.calls == 0


# ---------------------------------------------------------------- request ids


def test_request_ids_that_outlived_their_tasks_have_a_part_of_the_memory() -> None:
    bench, other = benches(1_600 * budget.REQUEST_BYTES, 2)
    other.submit("early", request_id="request-early")
    bench.submit("waits", request_id="request-waits", not_before=bench.now + S)
    for number in range(1_500):
        run(bench, f"t{number}", body=0)
    memory = bench.pool.book.memory.budget
    assert memory.requests == bench.pool.book.memory.requests <= 400
    find = bench.pool.book.requests.find
    assert find("request-waits", bench.now) is bench.task("waits"), "its task is there"
    assert find("request-t0", bench.now) is None
    assert isinstance(find("request-t1000", bench.now), idempotency.Request | tasks.Task)
    assert len(other.pool.book.requests) == 1
    counted_memory.check_all(memory, [bench.pool.book, other.pool.book])


def test_a_start_with_less_memory_than_before_gives_results_up_and_knows_their_ids() -> None:
    (bench,) = benches(100 * MIB)
    for number in range(10):
        run(bench, f"t{number}", body=MIB)
    bench.pool.book.memory.budget.limit = 5 * MIB
    after = bench.restarted()
    assert len(after.pool.book.tasks) == 4
    again = after.submit("another", body=bytes(MIB), request_id="request-t0")
    assert (again.reason, again.task_id) == (Reason.DUPLICATE, "t0")
    counted_memory.check_all(after.pool.book.memory.budget, [after.pool.book])


@pytest.mark.parametrize("kind", [Kind.FAILED, Kind.RELEASED, Kind.LOST])
def test_what_comes_back_is_charged_once(kind: outcome.OutcomeKind) -> None:
    (bench,) = benches(100 * MIB)
    bench.submit("a", body=bytes(MIB))
    bench.effects()
    failure = tasks.Failure(code=2, reason="X", message="m" * 1_000, status=bytes(10_000))
    bench.end("a", kind, failure=None if kind is Kind.RELEASED else failure)
    counted_memory.check(bench.pool.book)
    bench.wait(100)
    bench.effects()
    counted_memory.check(bench.pool.book)
