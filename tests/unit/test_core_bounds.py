"""The bound on waiting tasks of each fairness key: exact, everywhere."""

import dataclasses
from typing import Any

import pytest

from penstock_dispatcher.core import admission, outcome, settings, units
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
Reason = admission.AdmissionReason
Kind = outcome.OutcomeKind


def bench_of(**fields: Any) -> pool_bench.Bench:
    given = {"max_pending": 100, "max_pending_per_key": 2, "max_pending_bytes": 1000}
    return pool_bench.Bench(**{**given, **fields})


def submission(task_id: str, **fields: Any) -> tasks.Submission:
    return tasks.Submission(**{"task_id": task_id, "type": "x", "body": b"", "size": 1, **fields})


def test_each_key_has_a_bound_and_the_empty_key_too() -> None:
    bench = bench_of()
    for key in ("a", "b", ""):
        for number in range(2):
            assert bench.submit(f"t{key}{number}", fairness_key=key).admitted
        refused = bench.submit(f"t{key}2", fairness_key=key)
        assert (refused.reason, refused.key) == (Reason.KEY_QUEUE_FULL, key)
        assert "the bound for each key is 2" in refused.message
        assert refused.retry_after_ns > 0
    assert bench.submit("other", fairness_key="c").admitted


def test_a_place_is_free_when_one_starts_and_requeues_are_never_refused() -> None:
    bench = bench_of()
    bench.worker("w")
    bench.submit("a0", fairness_key="a")
    assert bench.assigned() == ["a0"]
    assert bench.submit("a1", fairness_key="a").admitted
    assert bench.submit("a2", fairness_key="a").admitted
    assert not bench.submit("a3", fairness_key="a").admitted
    bench.pool.fleet.stopping("w")
    bench.end("a0", Kind.RELEASED)
    bench.effects()
    assert bench.pool.book.by_key.of("a") == 3
    bench.pool.cancel(bench.task("a1"), "", bench.now)
    assert not bench.submit("a3", fairness_key="a").admitted, "the bound is two, and two wait"
    bench.pool.cancel(bench.task("a2"), "", bench.now)
    assert bench.submit("a3", fairness_key="a").admitted


def test_a_batch_counts_its_own() -> None:
    bench = bench_of()
    bench.submit("a0", fairness_key="a")
    batch = [submission("a1", fairness_key="a"), submission("b", fairness_key="b")]
    batch.append(submission("a2", fairness_key="a"))
    answers = bench.pool.submit_atomically(batch, bench.now)
    assert [answer.reason for answer in answers] == [Reason.KEY_QUEUE_FULL] * 3
    assert [answer.task_id for answer in answers] == ["a1", "b", "a2"]
    assert answers[0].key == "a"
    assert bench.pool.book.waiting == 1, "nothing half applied"
    answers = bench.pool.submit_atomically(batch[:2], bench.now)
    assert all(answer.admitted for answer in answers)


def test_counts_are_right_after_a_restart() -> None:
    before = bench_of()
    before.worker("w")
    for number in range(2):
        before.submit(f"a{number}", fairness_key="a")
    assert before.assigned() == ["a0"]
    before.submit("later", fairness_key="b", not_before=before.now + 100 * S)
    before.effects()
    after = before.restarted()
    assert after.pool.book.by_key.of("a") == 2, "what may be running waits until that is known"
    assert after.pool.book.by_key.of("b") == 1
    assert not after.submit("a2", fairness_key="a").admitted
    after.worker("w", running=(before.claim("a0"),), credit=0)
    after.effects()
    assert after.submit("a2", fairness_key="a").admitted
    assert not after.submit("a3", fairness_key="a").admitted


def test_what_has_expired_or_was_cancelled_does_not_count() -> None:
    bench = bench_of()
    bench.submit("a0", fairness_key="a", expire_time=bench.now + S)
    bench.submit("a1", fairness_key="a")
    bench.effects()
    bench.wait(2)
    assert bench.submit("a2", fairness_key="a").admitted


def test_the_delay_follows_the_keys_part_of_the_drain_rate() -> None:
    bench = bench_of(max_pending_per_key=10)
    bench.worker("w")
    for number in range(40):
        bench.submit(f"x{number}", fairness_key=f"x{number % 4}")
        bench.assigned()
        if number % 2:
            bench.wait(1)
            bench.end(bench.pool.fleet.leases.all()[0].task.id)
    while bench.submit(f"more{bench.log.last}", fairness_key="x0").admitted:
        bench.effects()
    refused = bench.submit("again", fairness_key="x0")
    book = bench.pool.book
    part = book.by_key.of("x0") / book.waiting
    pool_ns = bench.pool.book.retry_after_ns(bench.now)
    assert refused.retry_after_ns > pool_ns
    wanted = S / (book.completions.per_second(bench.now) * part)
    assert abs(refused.retry_after_ns - wanted) < S


def one_runs_and_one_waits(bench: pool_bench.Bench) -> None:
    """Of key a, in a pool that has drained fast."""
    for number in range(100):
        bench.submit(f"x{number}", fairness_key=f"x{number}")
        bench.effects()
        bench.end(f"x{number}")
        bench.effects()
    for number in range(2):
        bench.submit(f"a{number}", fairness_key="a")
        bench.effects()


def test_a_rate_limit_of_the_key_counts_for_the_delay() -> None:
    slow = settings.RateLimit(tasks=1, period_ns=20 * S, burst=1)
    bench = bench_of(max_pending_per_key=1, rate_limit_per_key=slow)
    bench.worker("w")
    one_runs_and_one_waits(bench)
    assert bench.submit("late", fairness_key="a").retry_after_ns == 20 * S


def test_a_keys_delay_counts_its_callers_in_line_and_knows_a_pause() -> None:
    limit = settings.RateLimit(tasks=1, period_ns=S, burst=1)
    bench = bench_of(max_pending_per_key=1, rate_limit_per_key=limit, max_waiters=9)
    bench.worker("w")
    one_runs_and_one_waits(bench)
    for number in range(4):
        bench.wait_for_room(f"in line {number}", fairness_key="a")
    assert bench.submit("late", fairness_key="a").retry_after_ns == 5 * S
    bench.pool.pause(True)
    refused = bench.submit("paused", fairness_key="a")
    assert refused.retry_after_ns == admission.RETRY_AFTER_UNKNOWN_NS


def test_the_delay_of_a_key_long_after_the_last_completion() -> None:
    bench = bench_of(max_pending_per_key=1)
    bench.worker("w")
    for number in range(100):
        bench.submit(f"x{number}", fairness_key="x")
        bench.effects()
        bench.end(f"x{number}")
    bench.pool.fleet.goodbye("w", bench.now)
    bench.submit("there", fairness_key="x")
    for _ in range(7 * 3600):
        bench.now += S
        refused = bench.submit("again", fairness_key="x")
        assert refused.reason is Reason.KEY_QUEUE_FULL
    assert refused.retry_after_ns in (
        admission.RETRY_AFTER_MAX_NS,
        admission.RETRY_AFTER_UNKNOWN_NS,
    )


def test_a_key_that_waits_for_tokens_only_is_told_by_its_rate() -> None:
    limit = settings.RateLimit(tasks=1, period_ns=S, burst=1)
    bench = bench_of(max_pending_per_key=5, rate_limit_per_key=limit, max_waiters=99)
    bench.worker("w", slots=50)
    for number in range(6):
        bench.submit(f"a{number}", fairness_key="a")
        bench.effects()
    for number in range(10):
        bench.wait_for_room(f"in line {number}", fairness_key="a")
    assert bench.submit("late", fairness_key="a").retry_after_ns == 11 * S


# ---------------------------------------------------------------- batches that are all or nothing


def batch_of(count: int, **fields: Any) -> list[tasks.Submission]:
    return [submission(f"new{number}", **fields) for number in range(count)]


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (batch_of(6), "6 tasks, the pool holds at most 5 (max_pending)"),
        (batch_of(2, size=40), "80 payload bytes, the pool holds at most 70 (max_pending_bytes)"),
        (
            batch_of(4, fairness_key="a"),
            "4 tasks of the fairness key 'a', the pool holds at most 3",
        ),
        (batch_of(4), "4 tasks without a fairness key, the pool holds at most 3"),
    ],
)
def test_what_never_fits_together_is_not_to_be_tried_again(
    batch: list[tasks.Submission], said: str
) -> None:
    bench = pool_bench.Bench(
        max_pending=5, max_pending_bytes=70, max_payload_bytes=60, max_pending_per_key=3
    )
    for answer in bench.pool.submit_atomically(batch, bench.now):
        assert answer.reason is Reason.UNSCHEDULABLE
        assert said in answer.message
        assert "send smaller ones" in answer.message
    assert bench.pool.book.waiting == 0


def test_the_delay_is_for_as_many_places_as_are_missing() -> None:
    bench = pool_bench.Bench(max_pending=5, max_waiters=9)
    bench.worker("w")
    bench.submit("first")
    bench.effects()
    bench.wait(1)
    bench.end("first")  # one slot, a second a task
    for number in range(5):
        bench.submit(f"t{number}")
        bench.effects()
    bench.submit("fifth")
    bench.effects()

    def delay_s(count: int) -> float:
        (refused, *_) = bench.pool.submit_atomically(batch_of(count), bench.now)
        assert refused.reason is Reason.QUEUE_FULL
        return refused.retry_after_ns / S

    assert (delay_s(1), delay_s(4)) == (1.0, 4.0)
    for number in range(3):
        bench.wait_for_room(f"in line {number}")
    assert (delay_s(1), delay_s(4)) == (4.0, 7.0)


# ---------------------------------------------------------------- who waits for room


def test_a_waiter_whose_key_is_full_holds_up_no_other() -> None:
    bench = bench_of(max_pending=3, max_pending_per_key=1)
    bench.submit("a0", fairness_key="a")
    bench.submit("b0", fairness_key="b")
    bench.submit("c0", fairness_key="c")
    waiters = [
        bench.wait_for_room("a1", fairness_key="a", priority=9),
        bench.wait_for_room("b1", fairness_key="b"),
        bench.wait_for_room("a2", fairness_key="a", priority=10),
    ]
    assert all(isinstance(waiter, admission.Waiter) for waiter in waiters)
    assert bench.answers() == []
    bench.pool.cancel(bench.task("b0"), "", bench.now)
    assert bench.answers() == [("b1", "ACCEPTED")]
    bench.pool.cancel(bench.task("c0"), "", bench.now)
    assert bench.answers() == [], "a's key is full"
    bench.pool.cancel(bench.task("a0"), "", bench.now)
    assert bench.answers() == [("a2", "ACCEPTED")]
    assert len(bench.pool.room) == 1


def test_a_caller_of_a_full_key_may_wait_while_the_pool_has_room() -> None:
    bench = bench_of(max_pending_per_key=1)
    bench.submit("a0", fairness_key="a")
    waiter = bench.wait_for_room("a1", fairness_key="a", wait_s=5)
    assert isinstance(waiter, admission.Waiter)
    assert bench.submit("b", fairness_key="b").admitted
    bench.wait(5)
    assert bench.answers() == [("a1", "ADMISSION_TIMEOUT")]
    assert bench.pool.book.by_key.of("a") == 1


def test_another_bound_lets_in_who_waits() -> None:
    bench = bench_of(max_pending_per_key=1)
    bench.submit("a0", fairness_key="a")
    bench.wait_for_room("a1", fairness_key="a")
    bench.wait_for_room("a2", fairness_key="a")
    assert bench.answers() == []
    config = dataclasses.replace(bench.pool.config, max_pending_per_key=0)
    bench.pool.configure(config, bench.now)
    assert bench.answers() == [("a1", "ACCEPTED"), ("a2", "ACCEPTED")]


def test_who_leaves_the_line_of_a_full_key_leaves_nothing() -> None:
    bench = bench_of(max_pending_per_key=1)
    bench.submit("a0", fairness_key="a")
    waiter = bench.wait_for_room("a1", fairness_key="a")
    assert isinstance(waiter, admission.Waiter)
    bench.effects()
    bench.pool.room.leave(waiter)
    bench.pool.cancel(bench.task("a0"), "", bench.now)
    assert bench.answers() == []
    assert bench.wait_for_room("a2", fairness_key="a").reason is Reason.ACCEPTED  # type: ignore[union-attr]


def test_a_large_payload_of_one_key_holds_up_no_small_one_of_another() -> None:
    bench = bench_of(max_pending_bytes=60, max_payload_bytes=50, max_pending_per_key=2)
    bench.submit("a0", fairness_key="a", size=30)
    bench.submit("b0", fairness_key="b", size=15)
    bench.submit("b1", fairness_key="b", size=10)
    bench.wait_for_room("a1", fairness_key="a", size=50, priority=5)
    bench.wait_for_room("b2", fairness_key="b", size=2, priority=4)
    bench.wait_for_room("c1", fairness_key="c", size=8)
    assert bench.answers() == []
    bench.pool.cancel(bench.task("b1"), "", bench.now)
    assert bench.answers() == [("b2", "ACCEPTED"), ("c1", "ACCEPTED")]
