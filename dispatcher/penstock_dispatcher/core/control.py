"""What may be changed of a task that waits: its priority, when it may start, and by when it must.

A change keeps the task's name and its place in the order of admission. It is a record of its own;
until that is durable the task lies outside the queue, so that it starts neither under the old terms
nor under ones that a crash could take back. What is held back after a restart stays held back: a
worker of before may be running it.
"""

import dataclasses

from penstock_dispatcher.core import effects, ledger, records
from penstock_dispatcher.core import task as tasks


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What decides about a start. Times in nanoseconds since the epoch, 0 = none."""

    priority: int
    schedule_time: int
    expire_time: int


def terms_of(task: tasks.Task) -> Terms:
    """Those in force."""
    return Terms(
        priority=task.priority, schedule_time=task.schedule_time, expire_time=task.expire_time
    )


def changeable(task: tasks.Task) -> bool:
    """It waits, and nobody has asked for it to stop."""
    return task.state in tasks.WAITING and not task.cancelling


def update(
    book: ledger.Ledger, task: tasks.Task, wanted: Terms, now: int, *, rescheduled: bool = False
) -> None:
    """Put other terms in force for a task that is changeable. A back-off that it waits out goes on,
    unless the time from which it may start is another one, or `rescheduled`: somebody has said it
    again.
    """
    assert changeable(task), "only what waits is changed"
    previous = task.state
    held = task.place is tasks.Place.HELD
    if not held:
        book.withdraw(task)
    if rescheduled or wanted.schedule_time != task.schedule_time:
        task.schedule_time = task.not_before = wanted.schedule_time
    task.priority, task.expire_time = wanted.priority, wanted.expire_time
    task.state = tasks.TaskState.DELAYED if task.not_before > now else tasks.TaskState.PENDING
    task.predicted_wait_ns = -1
    task.lsn = book.log.append(records.updated(book.pool_uid, task))
    told = effects.TaskChanged(task, previous, task.state)
    if held:
        book.held.put_off(task)
        book.tell_when_durable(task.lsn, told)
    else:
        book.commit_then_queue(task, told)
