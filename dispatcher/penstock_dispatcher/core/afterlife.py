"""What may become of a task that has ended: it is queued again, or deleted before its time. And of
one that waits: it may be purged, which ends and deletes it.

A redrive keeps the task's name, its body and its place in the order of admission, and begins
everything else anew: no attempt and no loss is charged, and it no longer has to start by a certain
time. Its lowest fencing token is raised, durably: whatever a worker still has to say about an
attempt of before is out of date.
"""

from typing import Final

from penstock_dispatcher.core import effects, ledger, records
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks

REDRIVABLE: Final = frozenset({tasks.TaskState.FAILED, tasks.TaskState.DEAD_LETTERED})


def redrive(book: ledger.Ledger, task: tasks.Task) -> bool:
    """Queue a task that failed again; like every requeue it is never refused. False = it has not
    failed.
    """
    if task.state not in REDRIVABLE:
        return False
    previous = task.state
    book.ended.release(task)
    task.state = tasks.TaskState.PENDING
    task.attempt = task.worker_losses = 0
    task.not_before = task.schedule_time = task.expire_time = 0
    task.start_time = task.end_time = task.execution_time_ns = 0
    task.worker = ""
    task.fencing_token = book.tokens.coming
    task.lsn = book.log.append(
        records.TaskRedriven(
            book.pool_uid, task.sequence, task.id, task.fencing_token, task.failure
        )
    )
    book.commit_then_queue(task, effects.TaskChanged(task, previous, task.state))
    return True


def delete(book: ledger.Ledger, task: tasks.Task) -> bool:
    """Forget a task that has ended; its request id is remembered all the same. False = it has not
    ended.
    """
    if not task.terminal:
        return False
    book.ended.release(task)
    book.delete(task)
    return True


def purgeable(book: ledger.Ledger, task: tasks.Task) -> bool:
    """It is still there and waits, and no worker of before a restart may be running it."""
    waits = task.place in (tasks.Place.QUEUED, tasks.Place.COMMITTING)
    return waits and book.tasks.get(task.id) is task


def purge(pool: pools.Pool, task: tasks.Task, now: int) -> None:
    """Cancel a task that is purgeable, which whoever waits for it is told, and forget it."""
    assert purgeable(pool.book, task), "only what waits is purged"
    pool.cancel(task, "purged", now)
    # For want of memory, or of a retention of nothing, it may be gone already.
    if pool.book.tasks.get(task.id) is task:
        delete(pool.book, task)
