"""Undoing the delete of a pool: its tasks go over to the pool that has its name by now.

A task moves as it is, with its name, its body, its times and what was charged. Its place is after
everything that the pool has admitted, so that those that move keep their own order; like a requeue
it is not refused by the bound. Its lowest fencing token is raised: whatever a worker of the deleted
pool still has to say about it is out of date. All of that is one record: no crash finds a task in
both pools, or in neither.

What waits moves, and dead letters do. What runs, or may still run after a restart, stays with the
workers of its pool, and can move when it waits again. What the pool has already, by name or by
request id, stays too: somebody has submitted it again. Nothing is lost by a move: a dead letter
that the pool would not keep is left where it is.
"""

import enum

from penstock_dispatcher.core import afterlife, effects, idempotency, records
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks


class Move(enum.Enum):
    """What may become of one task of a deleted pool."""

    MOVES = "moves"
    STAYS = "stays"
    """It runs or may run, is over, or is gone by now."""
    TAKEN = "taken"
    """The pool has its name, or knows its request id."""


def restorable(closed: pools.Pool) -> int:
    """Tasks of a deleted pool that may move, as far as can be told without looking at each."""
    book = closed.book
    return book.waiting - len(book.held) + book.ended.dead_letters


def remaining(closed: pools.Pool) -> int:
    """Tasks of a deleted pool that are not over, and dead letters."""
    book = closed.book
    return book.waiting + len(closed.fleet.leases) + book.ended.dead_letters


def judge(task: tasks.Task, *, closed: pools.Pool, pool: pools.Pool, now: int) -> Move:
    """What becomes of the task if it is to go from `closed` to `pool`. Changes nothing."""
    if closed.book.tasks.get(task.id) is not task:
        return Move.STAYS
    if task.state is tasks.TaskState.DEAD_LETTERED:
        if not _would_keep(pool, task, now):
            return Move.STAYS
    elif not afterlife.purgeable(closed.book, task):
        return Move.STAYS
    if task.id in pool.book.tasks:
        return Move.TAKEN
    asked = _request(task, closed, now)
    if asked is not None and pool.book.requests.find(task.request_id, now) is not None:
        return Move.TAKEN
    return Move.MOVES


def _would_keep(pool: pools.Pool, task: tasks.Task, now: int) -> bool:
    room = pool.book.ended.dead_letters < pool.config.max_dead_letters
    return room and task.end_time + pool.config.dead_letter_retention_ns > now


def _request(task: tasks.Task, closed: pools.Pool, now: int) -> idempotency.Known | None:
    """What is remembered of the request that made the task, if anything is."""
    asked = closed.book.requests.find(task.request_id, now)
    return asked if asked is not None and asked.sequence == task.sequence else None


def move(task: tasks.Task, *, closed: pools.Pool, pool: pools.Pool, now: int) -> None:
    """Take a task that `MOVES` over. The deleted pool remembers its request id all the same."""
    book, asked = pool.book, _request(task, closed, now)
    if task.terminal:
        closed.book.ended.release(task)
    else:
        closed.book.withdraw(task)
    closed.book.let_go(task)
    deleted = records.TaskDeleted(closed.book.pool_uid, task.sequence, task.id)
    book.sequence += 1
    task.sequence = book.sequence
    task.fencing_token = book.tokens.coming
    if task.retry == closed.config.retry:
        task.retry = pool.config.retry  # it has none of its own
    book.take_in(task)
    if asked is None:
        task.request_id = ""
    else:
        book.requests.remember(task.request_id, task, tasks_there=len(book.tasks))
    task.lsn = book.log.append(
        records.TaskMoved(
            book.pool_uid,
            _accepted(task, book.pool_uid),
            _change(task, book.pool_uid),
            _checkpoint(task, book.pool_uid),
            deleted,
        )
    )
    task.predicted_wait_ns = -1
    told = effects.TaskChanged(task, None, task.state)
    if task.terminal:
        surplus = book.ended.keep(task, pool.config)
        assert not surplus, "no dead letter has to make room"
        book.tell_when_durable(task.lsn, told)
    else:
        book.commit_then_queue(task, told)


def _accepted(task: tasks.Task, pool_uid: str) -> records.TaskAccepted:
    """As it was submitted: what has become of it since is said beside."""
    return records.accepted(pool_uid, task)._replace(
        size=task.size - len(task.checkpoint), not_before=task.schedule_time
    )


def _checkpoint(task: tasks.Task, pool_uid: str) -> records.TaskCheckpointed | None:
    if not task.checkpoint:
        return None
    return records.TaskCheckpointed(pool_uid, task.sequence, task.id, task.checkpoint)


def _change(task: tasks.Task, pool_uid: str) -> records.TaskRequeued | records.TaskEnded | None:
    """What had become of it; None = nothing that its first record does not say."""
    if task.terminal:
        return records.ended(pool_uid, task)
    put_off = task.not_before != task.schedule_time
    if task.attempt or task.worker_losses or task.failure or put_off:
        return records.requeued(pool_uid, task)
    return None
