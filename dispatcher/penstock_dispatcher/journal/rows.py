"""Records into rows. Rows of a kind gather, and are written together.

Kinds may be written in a fixed order (accepted, changed, deleted, forgotten) because a key is never
used twice. The cold records are few and are written as they come; a purge first writes what has
gathered.
"""

import functools
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Final

from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import schema, sums

_Row = tuple[Any, ...]
_Writer = Callable[["RowWriter", Any], None]

WAITS: Final = 0
"""`changes.state` of a task that was queued again."""
CANCELLING: Final = tasks.TaskState.CANCELLING.value
"""`changes.state` of a task that has not ended and must not start again."""
STATES: Final = {state.value: state for state in tasks.TaskState}
STATE_NUMBERS: Final = {state: number for number, state in STATES.items()}
DELETED_AT_ONCE: Final = 128
_NO_FAILURE: Final = (None, None, None, None)


def _itself(value: Any) -> Any:
    return value


# Whatever is no number, text or bytearray is looked for among adapters, and then asked whether it
# has one of its own: half a microsecond each, if there is none, six times a task.
for _type in (bytes, type(None)):
    sqlite3.register_adapter(_type, _itself)


@functools.cache
def _insert(head: str, columns: int) -> str:
    return f"{head} VALUES ({','.join('?' * columns)})"


class RowWriter:
    """Writes batches of records to one connection, inside transactions that its owner begins and
    ends.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._pools: dict[str, int] = {}
        self._accepted: list[_Row] = []
        self._changed: dict[int, _Row] = {}
        self._deleted: list[tuple[int]] = []
        self._forgotten: list[tuple[int]] = []
        self._checkpoints: dict[int, bytes] = {}
        self._stale_checkpoints: list[tuple[int]] = []
        self._checkpointed: set[int] = set()
        """Tasks that have a row in `checkpoints`: the others' ends need not look for one."""
        self.reload()

    def reload(self) -> None:
        """Know the pools' numbers as they are in the file, and drop what has gathered: to begin
        with, and after a rollback.
        """
        self._pools = dict(self._connection.execute("SELECT uid, id FROM pools"))
        found = self._connection.execute("SELECT key FROM checkpoints").fetchall()
        self._checkpointed = {key for (key,) in found}
        self._clear()

    def _clear(self) -> None:
        self._accepted, self._changed, self._deleted, self._forgotten = [], {}, [], []
        self._checkpoints, self._stale_checkpoints = {}, []

    def write(self, batch: Iterable[records.Record]) -> None:
        """Write every record."""
        for record in batch:
            # What a purged pool's workers still do is of no interest to anybody.
            if record[0] in self._pools or type(record) in _NEEDS_NO_POOL:
                _WRITERS[type(record)](self, record)
        self._flush()

    def _key(self, pool_uid: str, sequence: int) -> int:
        return self._pools[pool_uid] << schema.SEQUENCE_BITS | sequence

    def _flush(self) -> None:
        checkpoints = [(*row, sums.row(row)) for row in self._checkpoints.items()]
        self._insert_all("INSERT INTO tasks", self._accepted)
        self._insert_all("INSERT OR REPLACE INTO changes", list(self._changed.values()))
        self._for_keys("DELETE FROM checkpoints WHERE key = ?", self._stale_checkpoints)
        self._insert_all("INSERT OR REPLACE INTO checkpoints", checkpoints)
        for start in range(0, len(self._deleted), DELETED_AT_ONCE):
            # By and by: what goes makes room for the request ids that stay.
            keys = self._deleted[start : start + DELETED_AT_ONCE]
            self._for_keys(_KEEP_REQUESTS, keys)
            self._for_keys("DELETE FROM tasks WHERE key = ?", keys)
            self._for_keys("DELETE FROM changes WHERE key = ?", keys)
        self._for_keys("DELETE FROM requests WHERE key = ?", self._forgotten)
        self._for_keys(_FORGET_REQUESTS, self._forgotten)
        self._clear()

    def _insert_all(self, head: str, rows: list[_Row]) -> None:
        if rows:
            self._connection.executemany(_insert(head, len(rows[0])), rows)

    def _for_keys(self, statement: str, keys: list[tuple[int]]) -> None:
        if keys:
            self._connection.executemany(statement, keys)

    def _change(self, *row: Any) -> None:
        self._changed[row[0]] = row + (sums.change(row),)  # noqa: RUF005 - by way of no list

    def _summed(self, head: str, *row: Any) -> None:
        self._connection.execute(_insert(head, len(row) + 1), (*row, sums.row(row)))

    def _seal_pool(self, number: int) -> None:
        columns = ", ".join(schema.SMALL_TABLES["pools"])
        row = self._connection.execute(
            f"SELECT {columns} FROM pools WHERE id = ?",  # noqa: S608 - our names
            (number,),
        ).fetchone()
        self._connection.execute(
            "UPDATE pools SET row_sum = ? WHERE id = ?", (sums.row(row), number)
        )

    def _seal_task(self, key: int) -> None:
        """Sum up a task's row again, after something in it has changed in place."""
        run = self._connection.execute
        row = run("SELECT * FROM tasks WHERE key = ?", (key,)).fetchone()
        if row is not None:
            found, _ = sums.task(row[: sums.TASK_COLUMNS])
            run("UPDATE tasks SET row_sum = ? WHERE key = ?", (found, key))

    def _seal_change(self, key: int) -> None:
        """The same for what became of it."""
        run = self._connection.execute
        row = run("SELECT * FROM changes WHERE key = ?", (key,)).fetchone()
        if row is not None:
            found = sums.change(row[: sums.CHANGE_COLUMNS])
            run("UPDATE changes SET row_sum = ? WHERE key = ?", (found, key))

    # ------------------------------------------------------------ hot records

    def task_accepted(self, record: records.TaskAccepted) -> None:
        """A row begins."""
        key = self._key(record.pool_uid, record.sequence)
        columns: _Row = record
        row = (key, columns[1], columns[2]) + columns[4:]  # noqa: RUF005 - by way of no list
        self._accepted.append(row + sums.task(row))

    def task_requeued(self, record: records.TaskRequeued) -> None:
        """Replaces what became of it before."""
        key = self._key(record.pool_uid, record.sequence)
        self._change(
            key,
            WAITS,
            record.attempt,
            record.worker_losses,
            record.not_before,
            0,
            0,
            0,
            "",
            *failure_columns(record.failure),
            b"",
            "",
        )

    def task_redriven(self, record: records.TaskRedriven) -> None:
        """Its outcome is gone; its own row, which is there already, knows the tokens that count."""
        key = self._key(record.pool_uid, record.sequence)
        self._connection.execute(
            "UPDATE tasks SET token_min = ?, not_before = 0, expire_time = 0 WHERE key = ?",
            (record.token_min, key),
        )
        self._seal_task(key)
        self.task_requeued(
            records.TaskRequeued(
                record.pool_uid, record.sequence, record.task_id, 0, 0, 0, record.failure
            )
        )

    def task_updated(self, record: records.TaskUpdated) -> None:
        """What it came with, and what it waits for: rows that may have gathered."""
        self._flush()
        key = self._key(record.pool_uid, record.sequence)
        self._connection.execute(
            "UPDATE tasks SET priority = ?, not_before = ?, expire_time = ? WHERE key = ?",
            (record.priority, record.schedule_time, record.expire_time, key),
        )
        self._connection.execute(
            "UPDATE changes SET not_before = ? WHERE key = ? AND state = ?",
            (record.not_before, key, WAITS),
        )
        self._seal_task(key)
        self._seal_change(key)

    def task_cancelling(self, record: records.TaskCancelling) -> None:
        """Replaces what became of it before."""
        key = self._key(record.pool_uid, record.sequence)
        self._change(
            key,
            CANCELLING,
            record.attempt,
            record.worker_losses,
            0,
            0,
            0,
            0,
            "",
            *failure_columns(record.failure),
            b"",
            "",
        )

    def task_checkpointed(self, record: records.TaskCheckpointed) -> None:
        """The newest counts."""
        key = self._key(record.pool_uid, record.sequence)
        self._checkpoints[key] = record.checkpoint
        self._checkpointed.add(key)

    def task_ended(self, record: records.TaskEnded) -> None:
        """Replaces what became of it before. No attempt will need a checkpoint."""
        key = self._key(record.pool_uid, record.sequence)
        self._drop_checkpoint(key)
        # What is written as it stands goes by position: by name each is looked up, for each task.
        columns: _Row = record
        state, attempt, worker_losses = columns[3:6]
        self._change(
            key,
            STATE_NUMBERS[state],
            attempt,
            worker_losses,
            0,
            *columns[6:10],
            *failure_columns(record.failure),
            *columns[11:],
        )

    def _drop_checkpoint(self, key: int) -> None:
        if key in self._checkpointed:
            self._checkpointed.remove(key)
            self._checkpoints.pop(key, None)
            self._stale_checkpoints.append((key,))

    def task_deleted(self, record: records.TaskDeleted) -> None:
        """Both rows end; a request id stays."""
        key = self._key(record.pool_uid, record.sequence)
        self._drop_checkpoint(key)
        self._deleted.append((key,))

    def task_moved(self, record: records.TaskMoved) -> None:
        """Each part in its pool; the transaction holds them together."""
        for part in record.parts:
            if part.pool_uid in self._pools:
                _WRITERS[type(part)](self, part)

    def request_forgotten(self, record: records.RequestForgotten) -> None:
        """Wherever the id lies."""
        self._forgotten.append((self._key(record.pool_uid, record.sequence),))

    # ------------------------------------------------------------ cold records

    def session_opened(self, record: records.SessionOpened) -> None:
        """Again and again the same one, too."""
        number = self._pools[record.pool_uid]
        self._summed(
            "INSERT OR REPLACE INTO sessions",
            *(number, record.session_id, record.pod_name, record.pod_uid),
        )

    def session_closed(self, record: records.SessionClosed) -> None:
        """Idempotent."""
        self._connection.execute(
            "DELETE FROM sessions WHERE pool = ? AND session_id = ?",
            (self._pools[record.pool_uid], record.session_id),
        )

    def worker_drained(self, record: records.WorkerDrained) -> None:
        """Idempotent."""
        number = self._pools[record.pool_uid]
        self._summed("INSERT OR IGNORE INTO drained", number, record.pod_uid)

    def worker_forgotten(self, record: records.WorkerForgotten) -> None:
        """Idempotent."""
        self._connection.execute(
            "DELETE FROM drained WHERE pool = ? AND pod_uid = ?",
            (self._pools[record.pool_uid], record.pod_uid),
        )

    def pool_configured(self, record: records.PoolConfigured) -> None:
        """New or changed."""
        row = self._connection.execute(
            "INSERT INTO pools (uid, name, config) VALUES (?, ?, ?)"
            " ON CONFLICT (uid) DO UPDATE SET name = excluded.name, config = excluded.config"
            " RETURNING id",
            record,
        ).fetchall()
        self._pools[record.pool_uid] = row[0][0]
        self._seal_pool(row[0][0])

    def pool_latched(self, record: records.PoolLatched) -> None:
        """All latches at once."""
        number = self._pools[record.pool_uid]
        self._connection.execute(
            "UPDATE pools SET paused = ?, closed_time = ?, draining = ? WHERE id = ?",
            (record.paused, record.closed_time, record.draining, number),
        )
        self._seal_pool(number)

    def pool_purged(self, record: records.PoolPurged) -> None:
        """What gathered for it is written first, then all of it goes."""
        self._flush()
        number = self._pools.pop(record.pool_uid)
        # The tasks may be millions: they go later, in bounded steps (`SqliteJournal.compact`).
        self._summed("INSERT INTO purged", number)
        self._connection.execute("DELETE FROM pools WHERE id = ?", (number,))
        self._connection.execute("DELETE FROM sessions WHERE pool = ?", (number,))
        self._connection.execute("DELETE FROM drained WHERE pool = ?", (number,))
        self._checkpointed = {
            key for key in self._checkpointed if key >> schema.SEQUENCE_BITS != number
        }

    def operator_seen(self, record: records.OperatorSeen) -> None:
        """The highest counts."""
        self._connection.execute(
            "UPDATE meta SET value = max(value, ?) WHERE name = 'operator_epoch'", record
        )
        schema.seal_epochs(self._connection)


def failure_columns(failure: tasks.Failure | None) -> tuple[Any, ...]:
    """As they are written; four times None if there is none."""
    if failure is None:
        return _NO_FAILURE
    return failure.code, failure.reason, failure.message, failure.status


_KEEP_REQUESTS: Final = (
    "INSERT OR IGNORE INTO requests SELECT key, request_id, task_id, fingerprint, create_time,"
    " request_sum FROM tasks WHERE request_id <> '' AND key = ?"
)

_FORGET_REQUESTS: Final = "UPDATE tasks SET request_id = '', request_sum = 0 WHERE key = ?"

_WRITERS: Final[dict[type, _Writer]] = {
    records.TaskAccepted: RowWriter.task_accepted,
    records.TaskRequeued: RowWriter.task_requeued,
    records.TaskRedriven: RowWriter.task_redriven,
    records.TaskUpdated: RowWriter.task_updated,
    records.TaskCancelling: RowWriter.task_cancelling,
    records.TaskCheckpointed: RowWriter.task_checkpointed,
    records.TaskEnded: RowWriter.task_ended,
    records.TaskDeleted: RowWriter.task_deleted,
    records.TaskMoved: RowWriter.task_moved,
    records.RequestForgotten: RowWriter.request_forgotten,
    records.SessionOpened: RowWriter.session_opened,
    records.SessionClosed: RowWriter.session_closed,
    records.WorkerDrained: RowWriter.worker_drained,
    records.WorkerForgotten: RowWriter.worker_forgotten,
    records.PoolConfigured: RowWriter.pool_configured,
    records.PoolLatched: RowWriter.pool_latched,
    records.PoolPurged: RowWriter.pool_purged,
    records.OperatorSeen: RowWriter.operator_seen,
}
_NEEDS_NO_POOL: Final = frozenset({records.PoolConfigured, records.OperatorSeen})
