"""Rows back into records: what `open` and `load_tasks` read. A row whose sum does not fit raises
`checking.Damaged`.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from penstock_dispatcher.core import idempotency, records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import checking, interface, rows, schema, sums

_SEQUENCE_MASK: Final = (1 << schema.SEQUENCE_BITS) - 1
_STATES: Final = {state.value: state for state in tasks.TaskState}


def pools(connection: sqlite3.Connection) -> tuple[interface.StoredPool, ...]:
    """Every pool, without its tasks."""
    _small(connection, "purged")
    return tuple(_pool(connection, row) for row in _small(connection, "pools", "ORDER BY id"))


def _small(
    connection: sqlite3.Connection, table: str, which: str = "", *values: Any
) -> list[tuple[Any, ...]]:
    """Rows of a small table."""
    columns = ", ".join(schema.SMALL_TABLES[table])
    found = connection.execute(
        f"SELECT {columns}, row_sum FROM {table} {which}",  # noqa: S608 - our names
        values,
    )
    return [_checked(sums.row, row[:-1], row[-1], table) for row in found.fetchall()]


def _checked(
    sum_of: Callable[[tuple[Any, ...]], Any], row: tuple[Any, ...], found: Any, table: str
) -> tuple[Any, ...]:
    if not sums.fits(sum_of, row, found):
        raise checking.Damaged(f"a row of {table} is not what was written: {str(row[0])[:64]}")
    return row


def _pool(connection: sqlite3.Connection, row: tuple[Any, ...]) -> interface.StoredPool:
    number, uid, name, config, paused, closed_time, draining = row
    span = (number << schema.SEQUENCE_BITS, (number + 1) << schema.SEQUENCE_BITS)
    highest = 0
    for table in ("tasks", "requests"):
        found = connection.execute(
            f"SELECT max(key) FROM {table} WHERE key >= ? AND key < ?",  # noqa: S608 - our names
            span,
        ).fetchone()[0]
        highest = max(highest, (found or 0) & _SEQUENCE_MASK)
    return interface.StoredPool(
        configured=records.PoolConfigured(uid, name, config),
        latched=records.PoolLatched(uid, bool(paused), closed_time, bool(draining)),
        sessions=tuple(
            records.SessionOpened(uid, *session)
            for _, *session in _small(connection, "sessions", "WHERE pool = ?", number)
        ),
        drained=tuple(
            records.WorkerDrained(uid, pod_uid)
            for _, pod_uid in _small(connection, "drained", "WHERE pool = ?", number)
        ),
        requests=tuple(
            (request_id, idempotency.Request(key & _SEQUENCE_MASK, task_id, fingerprint, time))
            for key, request_id, task_id, fingerprint, time in _requests(connection, span)
        ),
        sequence_max=highest,
    )


def _requests(connection: sqlite3.Connection, span: tuple[int, int]) -> list[tuple[Any, ...]]:
    found = connection.execute(
        "SELECT key, request_id, task_id, fingerprint, time, row_sum FROM requests"
        " WHERE key >= ? AND key < ? ORDER BY key",
        span,
    )
    return [_checked(sums.request, row[:-1], row[-1], "requests") for row in found.fetchall()]


def stored_tasks(
    connection: sqlite3.Connection, *, pool_uids: dict[int, str], after: int, limit: int
) -> list[interface.StoredTask]:
    """A page of tasks with keys above `after`. Tasks of purged pools are passed over."""
    found = connection.execute(
        "SELECT t.*, c.*, k.checkpoint, k.row_sum"
        " FROM tasks t LEFT JOIN changes c ON c.key = t.key"
        " LEFT JOIN checkpoints k ON k.key = t.key"
        " WHERE t.key > ? AND (t.key >> ?) NOT IN (SELECT id FROM purged)"
        " ORDER BY t.key LIMIT ?",
        (after, schema.SEQUENCE_BITS, limit),
    ).fetchall()
    return [_task(row, pool_uids) for row in found]


def _task(row: tuple[Any, ...], pool_uids: dict[int, str]) -> interface.StoredTask:
    submitted = row[: sums.TASK_COLUMNS]
    row_sum, request_sum, *change, checkpoint, checkpoint_sum = row[sums.TASK_COLUMNS :]
    key, task_id, uid, *rest = _checked(sums.task, submitted, (row_sum, request_sum), "tasks")
    pool_uid = pool_uids.get(key >> schema.SEQUENCE_BITS)
    if pool_uid is None:
        raise checking.Damaged(f"the pool of task {task_id} is missing")
    sequence = key & _SEQUENCE_MASK
    accepted = records.TaskAccepted(pool_uid, task_id, uid, sequence, *rest)
    if checkpoint is None:
        checkpoint = b""
    else:
        _checked(sums.row, (key, checkpoint), checkpoint_sum, "checkpoints")
    if change[0] is None:
        return interface.StoredTask(key, accepted, None, checkpoint)
    changed = _checked(sums.change, tuple(change[:-1]), change[-1], "changes")
    became = _change(accepted, changed)
    goes_on = isinstance(became, records.TaskRequeued)
    return interface.StoredTask(key, accepted, became, checkpoint if goes_on else b"")


def _change(
    accepted: records.TaskAccepted, row: tuple[Any, ...]
) -> records.TaskRequeued | records.TaskCancelling | records.TaskEnded:
    _, state, attempt, losses, not_before, start, end, execution, worker, *rest = row
    pool_uid, task_id, sequence = accepted.pool_uid, accepted.task_id, accepted.sequence
    *failed, result, content_type = rest
    failure = None if failed[0] is None else tasks.Failure(*failed)
    if state == rows.WAITS:
        return records.TaskRequeued(
            pool_uid, sequence, task_id, attempt, losses, not_before, failure
        )
    if state == rows.CANCELLING:
        return records.TaskCancelling(pool_uid, sequence, task_id, attempt, losses, failure)
    return records.TaskEnded(
        pool_uid,
        sequence,
        task_id,
        _STATES[state],
        attempt,
        losses,
        start,
        end,
        execution,
        worker,
        failure,
        result,
        content_type,
    )
