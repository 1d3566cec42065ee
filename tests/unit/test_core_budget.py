"""The memory that the tasks of all pools share: who gives way, who is refused, who is told."""

import pytest

from penstock_dispatcher.core import (
    admission,
    afterlife,
    budget,
    effects,
    idempotency,
    outcome,
    units,
)
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
        assert refused.retry_after_ns >= admission.RETRY_AFTER_UNKNOWN_NS
        assert "take 3,074 KiB of 4 MiB (--task-memory)" in refused.message
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


def die(bench: pool_bench.Bench, name: str) -> None:
    bench.submit(name, body=bytes(MIB))
    bench.effects()
    bench.end(name, Kind.FAILED, retryable=False)
    bench.effects()


def test_dead_letters_make_room_for_nobody() -> None:
    (bench,) = benches(9 * MIB)
    die(bench, "dead")
    run(bench, "done", body=MIB)
    for number in range(7):
        assert bench.submit(f"t{number}", body=bytes(MIB)).admitted
    assert bench.submit("one more", body=bytes(MIB)).reason is Reason.QUEUE_FULL
    assert bench.task("dead").state is tasks.TaskState.DEAD_LETTERED
    assert "done" not in bench.pool.book.tasks


def test_dead_letters_have_a_part_and_the_pool_with_the_most_gives_way() -> None:
    few, many = benches(17 * MIB, 2)
    die(few, "old")
    for number in range(8):
        die(many, f"t{number}")
    die(few, "new")
    assert list(few.pool.book.tasks) == ["old", "new"]
    assert list(many.pool.book.tasks) == ["t6", "t7"]
    assert (few.pool.book.dead_given_up_total, many.pool.book.dead_given_up_total) == (0, 6)
    assert many.submit("goes on", body=bytes(MIB)).admitted
    counted_memory.check_all(few.pool.book.memory.budget, [few.pool.book, many.pool.book])


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
    other.pool.cancel(other.task("large"), "", other.now)
    assert memory.take_let_in() == []
    other.effects()
    assert memory.take_let_in() == [bench.pool.config.uid]
    assert memory.take_let_in() == [], "once"
    assert bench.answers() == [("a", "ACCEPTED")]


def test_a_newcomer_of_another_pool_overtakes_nobody() -> None:
    bench, other = benches(4 * MIB, 2)
    other.submit("large", body=bytes(3 * MIB))
    bench.wait_for_room("a", body=bytes(2 * MIB))
    bench.effects()
    other.pool.cancel(other.task("large"), "", other.now)
    assert other.submit("newcomer", body=bytes(2 * MIB)).reason is Reason.QUEUE_FULL
    assert bench.answers() == [("a", "ACCEPTED")]


def test_nobody_is_let_in_while_nothing_can_be_written() -> None:
    bench, other = benches(4 * MIB, 2)
    memory = bench.pool.book.memory.budget
    other.submit("large", body=bytes(3 * MIB))
    bench.wait_for_room("a", body=bytes(2 * MIB))
    bench.effects()
    memory.closed = True
    other.pool.cancel(other.task("large"), "", other.now)
    assert other.effects(effects.WaiterAnswered) == bench.answers() == []
    memory.closed = False
    other.effects()
    assert bench.answers() == [("a", "ACCEPTED")]


def test_pools_take_turns() -> None:
    first, busy = benches(4 * MIB, 2)
    busy.submit("t0", body=bytes(3 * MIB))
    for name in ("a", "b"):
        first.wait_for_room(name, body=bytes(3 * MIB))
    let_in: list[str] = []

    def look() -> None:
        for bench in (busy, first, busy):
            let_in.extend(name for name, _ in bench.answers())

    look()
    for number in range(1, 6):
        busy.wait_for_room(f"t{number}", body=bytes(3 * MIB))
        look()
        (running,) = [
            (bench, task.id)
            for bench in (busy, first)
            for task in bench.pool.book.tasks.values()
            if task.lease
        ]
        running[0].end(running[1])
        look()
    assert let_in == ["a", "t1", "b", "t2", "t3"]


def test_those_who_wait_are_told_when_a_pool_is_forgotten() -> None:
    bench, other = benches(4 * MIB, 2)
    memory = bench.pool.book.memory.budget
    other.submit("large", body=bytes(3 * MIB))
    bench.wait_for_room("a", body=bytes(2 * MIB))
    bench.effects()
    memory.leave(other.pool.book.memory)
    memory.let_in(bench.now)
    assert memory.take_let_in() == [bench.pool.config.uid]
    assert bench.answers() == [("a", "ACCEPTED")]


def test_many_who_wait_are_not_looked_at_while_none_of_them_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (bench,) = benches(64_000)
    bench.submit("full", body=bytes(64_000 - budget.TASK_BYTES - 1_400))
    for number in range(200):
        bench.wait_for_room(f"w{number}", size=0, body=bytes(600))
    bench.effects()
    looks = []
    monkeypatch.setattr(type(bench.pool.room), "_fits", lambda *_: looks.append(1), raising=True)
    for _ in range(10):
        bench.effects()
    assert len(looks) <= 20


def test_what_could_never_fit_is_told_so() -> None:
    (bench,) = benches(4 * MIB)
    batch = [
        tasks.Submission(task_id=f"t{n}", type="work", body=bytes(MIB), size=1) for n in range(5)
    ]
    answers = bench.pool.submit_atomically(batch, bench.now)
    assert "6 MiB at once are more than the memory for tasks, 4 MiB" in answers[0].message


def test_who_has_waited_for_memory_in_vain_is_told_so() -> None:
    bench, other = benches(4 * MIB, 2)
    other.submit("large", body=bytes(3 * MIB))
    bench.wait_for_room("a", body=bytes(2 * MIB), wait_s=5)
    bench.wait(6)
    (answered,) = bench.effects(effects.WaiterAnswered)
    assert answered.answer.reason is Reason.ADMISSION_TIMEOUT
    assert "within 5 s: 0 tasks are waiting, and the memory for tasks" in answered.answer.message


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
    assert "calls to all pools wait" in found.message
    assert "than the 1000 for them" in found.message
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
    assert isinstance(find("request-t800", bench.now), idempotency.Request)
    assert len(other.pool.book.requests) == 1
    assert 400 < bench.pool.book.requests.forgotten_total < 800
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


def test_a_start_with_room_for_fewer_request_ids_forgets_the_oldest() -> None:
    (bench,) = benches(100 * MIB)
    for number in range(600):
        run(bench, f"kept{number}", body=0)
    bench.now += S
    for number in range(600):
        run(bench, f"gone{number}", body=0)
        afterlife.delete(bench.pool.book, bench.task(f"gone{number}"))
    bench.pool.book.memory.budget.limit = 1_600 * budget.REQUEST_BYTES
    after = bench.restarted()
    memory = after.pool.book.memory.budget
    while memory.forget_requests():
        pass
    find = after.pool.book.requests.find
    assert all(find(f"request-gone{number}", after.now) for number in range(320, 600))
    assert not any(isinstance(find(f"request-kept{n}", after.now), tuple) for n in range(600))
    counted_memory.check_all(memory, [after.pool.book])


def test_a_name_that_is_not_ascii_takes_what_it_takes() -> None:
    (bench,) = benches(100 * MIB)
    bench.submit("a")
    bench.effects()
    failure = tasks.Failure(code=2, reason="X", message="\N{PILE OF POO}" * 1_000)
    bench.end("a", Kind.FAILED, retryable=False, failure=failure)
    assert bench.task("a").charged >= 4_000
