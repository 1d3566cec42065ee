"""Rows back into records: what `open` and `load_tasks` read."""

import sqlite3
from typing import Any, Final

from penstock_dispatcher.core import idempotency, records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface, rows, schema

_SEQUENCE_MASK: Final = (1 << schema.SEQUENCE_BITS) - 1
_STATES: Final = {state.value: state for state in tasks.TaskState}


def pools(connection: sqlite3.Connection) -> tuple[interface.StoredPool, ...]:
    """Every pool, without its tasks."""
    return tuple(
        _pool(connection, row)
        for row in connection.execute(
            "SELECT id, uid, name, config, paused, closed_time, draining FROM pools ORDER BY id"
        ).fetchall()
    )


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
            for session in connection.execute(
                "SELECT session_id, pod_name, pod_uid FROM sessions WHERE pool = ?", (number,)
            )
        ),
        drained=tuple(
            records.WorkerDrained(uid, pod_uid)
            for (pod_uid,) in connection.execute(
                "SELECT pod_uid FROM drained WHERE pool = ?", (number,)
            )
        ),
        requests=tuple(
            (request_id, idempotency.Request(key & _SEQUENCE_MASK, task_id, fingerprint, time))
            for key, request_id, task_id, fingerprint, time in connection.execute(
                "SELECT * FROM requests WHERE key >= ? AND key < ? ORDER BY key", span
            )
        ),
        sequence_max=highest,
    )


def stored_tasks(
    connection: sqlite3.Connection, *, pool_uids: dict[int, str], after: int, limit: int
) -> list[interface.StoredTask]:
    """A page of tasks with keys above `after`. Tasks of purged pools are passed over."""
    found = connection.execute(
        "SELECT t.key, t.task_id, t.uid, t.type, t.priority, t.body, t.size, t.create_time,"
        " t.not_before, t.expire_time, t.execution_timeout, t.request_id, t.fingerprint,"
        " t.token_min, t.fairness_key, t.concurrency_key, t.slots,"
        " c.state, c.attempt, c.worker_losses, c.not_before, c.start_time, c.end_time,"
        " c.execution_time, c.worker, c.failure_code, c.failure_reason, c.failure_message,"
        " c.failure_status, c.result, c.result_content_type, k.checkpoint"
        " FROM tasks t LEFT JOIN changes c ON c.key = t.key"
        " LEFT JOIN checkpoints k ON k.key = t.key"
        " WHERE t.key > ? AND (t.key >> ?) NOT IN (SELECT id FROM purged)"
        " ORDER BY t.key LIMIT ?",
        (after, schema.SEQUENCE_BITS, limit),
    ).fetchall()
    return [_task(row, pool_uids[row[0] >> schema.SEQUENCE_BITS]) for row in found]


def _task(row: tuple[Any, ...], pool_uid: str) -> interface.StoredTask:
    key, task_id, uid, *submitted = row[:17]
    sequence = key & _SEQUENCE_MASK
    accepted = records.TaskAccepted(pool_uid, task_id, uid, sequence, *submitted)
    state = row[17]
    checkpoint = row[31] or b""
    if state is None:
        return interface.StoredTask(key, accepted, None, checkpoint)
    attempt, losses, not_before, start, end, execution, worker = row[18:25]
    failure = None if row[25] is None else tasks.Failure(*row[25:29])
    if state == rows.WAITS:
        return interface.StoredTask(
            key,
            accepted,
            records.TaskRequeued(pool_uid, sequence, task_id, attempt, losses, not_before, failure),
            checkpoint,
        )
    if state == rows.CANCELLING:
        return interface.StoredTask(
            key,
            accepted,
            records.TaskCancelling(pool_uid, sequence, task_id, attempt, losses, failure),
        )
    return interface.StoredTask(
        key,
        accepted,
        records.TaskEnded(
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
            row[29],
            row[30],
        ),
    )
