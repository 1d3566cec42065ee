"""A batch is admitted as a whole or not at all, and the bound is exact for it too."""

import pytest

from penstock_dispatcher.core import admission, outcome
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

Reason = admission.AdmissionReason
Bench = pool_bench.Bench


def wanted(task_id: str, request_id: str = "", fingerprint: int = 0) -> tasks.Submission:
    return tasks.Submission(
        task_id=task_id,
        type="t",
        body=b"",
        size=1,
        request_id=request_id,
        fingerprint=fingerprint,
    )


def reasons(bench: Bench, *batch: tasks.Submission) -> list[Reason]:
    return [each.reason for each in bench.pool.submit_atomically(batch, bench.now)]


def test_all_or_none() -> None:
    bench = Bench()
    bench.submit("there")
    assert reasons(bench, *(wanted(name) for name in "abc")) == [Reason.QUEUE_FULL] * 3
    assert bench.pool.book.waiting == 1
    assert bench.pool.stats(bench.now).refused_total == 3
    assert reasons(bench, *(wanted(name) for name in "ab")) == [Reason.ACCEPTED] * 2


def test_one_request_id_for_two_tasks_refuses_the_batch() -> None:
    bench = Bench()
    batch = [wanted("a", "r", 1), wanted("b", "r", 2), wanted("c")]
    assert reasons(bench, *batch) == [Reason.REQUEST_ID_REUSED] * 3
    assert not bench.pool.book.tasks


def test_one_task_id_for_two_requests_refuses_the_batch() -> None:
    bench = Bench()
    assert reasons(bench, wanted("a", "r"), wanted("a", "s")) == [Reason.TASK_EXISTS] * 2
    assert reasons(bench, wanted("a"), wanted("a")) == [Reason.TASK_EXISTS] * 2
    assert not bench.pool.book.tasks


def test_each_refusal_is_its_own_if_it_has_one() -> None:
    bench = Bench()
    bench.submit("known")
    batch = [wanted("a"), wanted("known"), wanted("b", "r", 1), wanted("c", "r", 2)]
    assert reasons(bench, *batch) == [
        Reason.TASK_EXISTS,
        Reason.TASK_EXISTS,
        Reason.TASK_EXISTS,
        Reason.REQUEST_ID_REUSED,
    ]
    assert list(bench.pool.book.tasks) == ["known"]


@pytest.mark.parametrize("room", [1, 2])
def test_a_request_that_is_repeated_counts_once(room: int) -> None:
    bench = Bench(max_pending=room)
    batch = [wanted("a", "r", 1), wanted("b", "r", 1), wanted("c", "s", 1)]
    if room == 1:
        assert reasons(bench, *batch) == [Reason.UNSCHEDULABLE] * 3
    else:
        expected = [Reason.ACCEPTED, Reason.DUPLICATE, Reason.ACCEPTED]
        assert reasons(bench, *batch) == expected
        assert reasons(bench, *batch) == [Reason.DUPLICATE] * 3


def test_a_request_id_is_not_taken_for_a_task_id() -> None:
    bench = Bench(max_pending=1)
    assert reasons(bench, wanted("a"), wanted("b", "a")) == [Reason.UNSCHEDULABLE] * 2
    assert not bench.pool.book.tasks


def test_what_adds_nothing_needs_no_room() -> None:
    bench = Bench(max_pending=1)
    bench.worker("w")
    bench.submit("a", request_id="r", fingerprint=1)
    assert bench.assigned() == ["a"]
    bench.submit("b")
    bench.pool.fleet.stopping("w")
    bench.end("a", outcome.OutcomeKind.RELEASED)
    assert bench.pool.book.waiting == 2, "over the bound"
    assert reasons(bench, wanted("x", "r", 1)) == [Reason.DUPLICATE]
    assert reasons(bench) == []
