"""The oldest waiting task, whatever leaves and comes back."""

import random

from penstock_dispatcher.core import arrivals, settings
from penstock_dispatcher.core import task as tasks


def make_task(sequence: int) -> tasks.Task:
    return tasks.Task(
        id=f"t{sequence}",
        uid="",
        sequence=sequence,
        type="work",
        priority=0,
        body=b"",
        size=0,
        create_time=sequence,
        not_before=0,
        expire_time=0,
        execution_timeout_ns=1,
        retry=settings.RetryPolicy(),
        request_id="",
        state=tasks.TaskState.PENDING,
    )


def leave(line: arrivals.Arrivals, task: tasks.Task) -> None:
    task.ticket += 1
    line.left(task)


def test_the_oldest_is_the_first_that_still_waits() -> None:
    line = arrivals.Arrivals()
    assert line.oldest() is None
    one, two, three = (make_task(number) for number in (1, 2, 3))
    for task in (one, two, three):
        line.came(task)
    leave(line, two)
    assert line.oldest() is one
    leave(line, one)
    assert line.oldest() is three
    line.came(two)
    assert line.oldest() is two


def test_it_agrees_with_a_naive_one_and_keeps_little_of_what_has_left() -> None:
    rng = random.Random(7)
    line = arrivals.Arrivals()
    waiting: list[tasks.Task] = []
    away: list[tasks.Task] = []
    for sequence in range(1, 3000):
        match rng.randrange(4):
            case 0 | 1:
                task = make_task(sequence)
                waiting.append(task)
                line.came(task)
            case 2 if waiting:
                task = waiting.pop(rng.randrange(len(waiting)))
                leave(line, task)
                away.append(task)
            case 3 if away:
                task = away.pop(rng.randrange(len(away)))
                waiting.append(task)
                line.came(task)
        oldest = min(waiting, key=lambda task: task.sequence, default=None)
        assert line.oldest() is oldest
        assert line.dead_entries <= len(waiting) + 2 * 16
