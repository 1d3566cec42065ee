"""Waiting for a task: segments, time-outs, a dispatcher that goes away."""

import pytest

from penstock import _task, _waiting, errors
from penstock.v1 import task_pb2

RUNNING = _task.from_wire(task_pb2.Task(name="t", state=task_pb2.Task.RUNNING))
OVER = _task.from_wire(task_pb2.Task(name="t", state=task_pb2.Task.FAILED))
DOWN = errors.Unavailable("nobody there")


def wait(timeout_seconds: float | None) -> _waiting.Wait:
    return _waiting.Wait("t", now=0.0, timeout_seconds=timeout_seconds, patience_seconds=10.0)


@pytest.mark.parametrize(
    ("timeout_seconds", "now", "segment"),
    [(None, 0.0, 60.0), (None, 1e6, 60.0), (90.0, 0.0, 60.0), (90.0, 60.0, 30.0), (0.0, 0.1, 0.0)],
)
def test_a_wait_is_a_chain_of_bounded_calls(
    timeout_seconds: float | None, now: float, segment: float
) -> None:
    assert wait(timeout_seconds).segment(now) == segment


def test_it_ends_with_the_task_however_that_ended_even_late() -> None:
    assert wait(1.0).answered(OVER, now=5.0)


def test_it_goes_on_until_its_time_has_passed() -> None:
    waiting = wait(100.0)
    assert not waiting.answered(RUNNING, now=60.0)
    with pytest.raises(errors.WaitTimeout, match=r"not over after 100 s: it is RUNNING") as raised:
        waiting.answered(RUNNING, now=100.0)
    assert raised.value.task is RUNNING
    assert isinstance(raised.value, TimeoutError)


def test_a_dispatcher_may_be_away_for_as_long_as_patience_lasts() -> None:
    waiting = wait(None)
    assert waiting.failed(DOWN, now=0.0, draw=1.0) == pytest.approx(0.1)
    assert waiting.failed(DOWN, now=9.0, draw=1.0) == pytest.approx(0.2)
    with pytest.raises(errors.Unavailable):
        waiting.failed(DOWN, now=9.9, draw=1.0)


def test_an_answer_renews_patience() -> None:
    waiting = wait(None)
    waiting.failed(DOWN, now=0.0, draw=1.0)
    waiting.answered(RUNNING, now=9.0)
    assert waiting.failed(DOWN, now=15.0, draw=1.0) == pytest.approx(0.1)


def test_a_call_held_for_too_long_counts_as_nobody_answering() -> None:
    waiting = wait(100.0)
    assert waiting.failed(errors.DeadlineExceeded("late"), now=65.0, draw=0.0) > 0


def test_a_call_held_beyond_the_time_is_a_time_out() -> None:
    with pytest.raises(errors.WaitTimeout, match="its state is not known"):
        wait(1.0).failed(errors.DeadlineExceeded("late"), now=6.0, draw=0.0)


def test_other_errors_end_it() -> None:
    with pytest.raises(errors.TaskNotFound):
        wait(None).failed(errors.TaskNotFound("no"), now=0.0, draw=0.0)
