"""What may become of a task that has ended: it is queued again, or deleted before its time.

A redrive keeps the task's name, its body and its place in the order of admission, and begins
everything else anew: no attempt and no loss is charged, and it no longer has to start by a certain
time. Its lowest fencing token is raised, durably: whatever a worker still has to say about an
attempt of before is out of date.
"""

from typing import Final

from penstock_dispatcher.core import effects, ledger, records
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
    task.not_before = task.expire_time = 0
    task.start_time = task.end_time = task.execution_time_ns = 0
    task.worker = ""
    task.fencing_token = book.tokens.newest + 1
    task.lsn = book.log.append(
        records.TaskRedriven(
            book.pool_uid, task.sequence, task.id, task.fencing_token, task.failure
        )
    )
    book.commit_then_queue(task, effects.TaskChanged(task, previous))
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
