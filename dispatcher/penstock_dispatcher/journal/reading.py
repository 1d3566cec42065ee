"""Rows back into records: what `open` and `load_tasks` read. A row whose sum does not fit raises
`checking.Damaged`.

Tasks are many: what is read of them goes from the journal's process to the dispatcher as rows, and
becomes records there.
"""

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Final

from penstock_dispatcher.core import idempotency, records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import checking, interface, rows, schema, sums

TaskRow = tuple[tuple[Any, ...], tuple[Any, ...] | None, tuple[Any, ...] | None]
"""A task's rows of `tasks`, `changes` and `checkpoints`, without their sums."""
RequestRow = tuple[Any, ...]
"""Key, request id, task id, fingerprint, time."""
_SEQUENCE_MASK: Final = (1 << schema.SEQUENCE_BITS) - 1
_BODY: Final = 5
"""Of a row of `tasks`."""


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
        sequence_max=highest,
    )


def request_rows(connection: sqlite3.Connection, *, after: int) -> list[RequestRow]:
    """A page of request ids with keys above `after`, checked."""
    found = connection.execute(
        "SELECT key, request_id, task_id, fingerprint, time, row_sum FROM requests"
        " WHERE key > ? AND (key >> ?) IN (SELECT id FROM pools) ORDER BY key LIMIT ?",
        (after, schema.SEQUENCE_BITS, interface.LOAD_REQUESTS_MAX),
    )
    return [_checked(sums.request, row[:-1], row[-1], "requests") for row in found.fetchall()]


def stored_requests(
    rows_: Iterable[RequestRow], pool_uids: dict[int, str]
) -> list[interface.StoredRequest]:
    """What `request_rows` has read."""
    return [
        interface.StoredRequest(
            key,
            pool_uids[key >> schema.SEQUENCE_BITS],
            request_id,
            idempotency.Request(key & _SEQUENCE_MASK, task_id, fingerprint, time),
        )
        for key, request_id, task_id, fingerprint, time in rows_
    ]


def task_rows(
    connection: sqlite3.Connection, *, pool_uids: dict[int, str], after: int
) -> list[TaskRow]:
    """A page of tasks with keys above `after`, checked. Tasks of purged pools are passed over."""
    found: list[tuple[Any, ...]] = []
    size = 0
    for row in connection.execute(
        "SELECT * FROM tasks WHERE key > ? AND (key >> ?) NOT IN (SELECT id FROM purged)"
        " ORDER BY key LIMIT ?",
        (after, schema.SEQUENCE_BITS, interface.LOAD_TASKS_MAX),
    ):
        submitted = row[: sums.TASK_COLUMNS]
        _checked(sums.task, submitted, row[sums.TASK_COLUMNS :], "tasks")
        if submitted[0] >> schema.SEQUENCE_BITS not in pool_uids:
            raise checking.Damaged(f"the pool of task {submitted[1]} is missing")
        found.append(submitted)
        size += len(submitted[_BODY])
        if size > interface.LOAD_BYTES_MAX:
            break
    if not found:
        return []
    # Not joined: most tasks have nothing there, and each empty column costs as much as a full one.
    changes, last = _by_key(connection, "changes", after=after, last=found[-1][0])
    checkpoints, last = _by_key(connection, "checkpoints", after=after, last=last)
    return [(row, changes.get(row[0]), checkpoints.get(row[0])) for row in found if row[0] <= last]


_OF_TASKS: Final = {"changes": (sums.change, 13), "checkpoints": (sums.row, 1)}
"""Tables with what belongs to a task: what sums up a row, and the column that may be large."""


def _by_key(
    connection: sqlite3.Connection, table: str, *, after: int, last: int
) -> tuple[dict[int, tuple[Any, ...]], int]:
    """Rows of keys up to `last`, or up to the one where they are large enough for a page."""
    sum_of, large = _OF_TASKS[table]
    found: dict[int, tuple[Any, ...]] = {}
    size = 0
    for row in connection.execute(
        f"SELECT * FROM {table} WHERE key > ? AND key <= ?"  # noqa: S608 - our names
        # They may be many, and are given back little by little.
        " AND (key >> ?) NOT IN (SELECT id FROM purged) ORDER BY key",
        (after, last, schema.SEQUENCE_BITS),
    ):
        found[row[0]] = _checked(sum_of, row[:-1], row[-1], table)
        size += len(row[large])
        if size > interface.LOAD_BYTES_MAX:
            return found, row[0]
    return found, last


def stored_tasks(rows_: Iterable[TaskRow], pool_uids: dict[int, str]) -> list[interface.StoredTask]:
    """What `task_rows` has read."""
    return [_task(row, change, checkpoint, pool_uids) for row, change, checkpoint in rows_]


def _task(
    row: tuple[Any, ...],
    change: tuple[Any, ...] | None,
    checkpoint: tuple[Any, ...] | None,
    pool_uids: dict[int, str],
) -> interface.StoredTask:
    key, task_id, uid = row[:3]
    pool_uid = pool_uids[key >> schema.SEQUENCE_BITS]
    accepted = records.TaskAccepted(pool_uid, task_id, uid, key & _SEQUENCE_MASK, *row[3:])
    became = None if change is None else _change(accepted, change)
    if checkpoint is None or not (became is None or isinstance(became, records.TaskRequeued)):
        return interface.StoredTask(key, accepted, became)
    return interface.StoredTask(key, accepted, became, checkpoint[1])


def _change(
    accepted: records.TaskAccepted, row: tuple[Any, ...]
) -> records.TaskRequeued | records.TaskCancelling | records.TaskEnded:
    _, state, attempt, losses, not_before, start, end, execution, worker = row[:9]
    pool_uid, task_id, sequence = accepted.pool_uid, accepted.task_id, accepted.sequence
    *failed, result, content_type = row[9:]
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
        rows.STATES[state],
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
