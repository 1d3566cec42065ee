"""The SQLite file's tables, and how an older file becomes a newer one.

A task's key is its pool's number (upper bits) and its admission sequence (lower bits): rows of one
pool lie together, in the order in which they came, so that inserts append, and deletions at the
end of retention empty whole pages. What becomes of a task is a row of its own in `changes`: a
large payload is not written again when its outcome comes.

A request id lives in its task's row, and moves to `requests` when that row is deleted before its
24 hours are over.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final

from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import sums

APPLICATION_ID: Final = 0x50454E53  # "PENS"
SEQUENCE_BITS: Final = 40
PAGE_ROWS: Final = 64
"""Rows in memory at once while all of them are looked at; each may have a large payload."""

_VERSION_1: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE pools (
  id INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
  config BLOB NOT NULL, paused INTEGER NOT NULL DEFAULT 0, closed_time INTEGER NOT NULL DEFAULT 0);
CREATE TABLE purged (id INTEGER PRIMARY KEY);
CREATE TABLE tasks (
  key INTEGER PRIMARY KEY, task_id TEXT NOT NULL, uid TEXT NOT NULL, type TEXT NOT NULL,
  priority INTEGER NOT NULL, body BLOB NOT NULL, size INTEGER NOT NULL,
  create_time INTEGER NOT NULL, not_before INTEGER NOT NULL, expire_time INTEGER NOT NULL,
  execution_timeout INTEGER NOT NULL, request_id TEXT NOT NULL, fingerprint INTEGER NOT NULL);
CREATE TABLE changes (
  key INTEGER PRIMARY KEY, state INTEGER NOT NULL, attempt INTEGER NOT NULL,
  worker_losses INTEGER NOT NULL, not_before INTEGER NOT NULL, start_time INTEGER NOT NULL,
  end_time INTEGER NOT NULL, execution_time INTEGER NOT NULL, worker TEXT NOT NULL,
  failure_code INTEGER, failure_reason TEXT, failure_message TEXT, failure_status BLOB,
  result BLOB NOT NULL, result_content_type TEXT NOT NULL);
CREATE TABLE requests (
  key INTEGER PRIMARY KEY, request_id TEXT NOT NULL, task_id TEXT NOT NULL,
  fingerprint INTEGER NOT NULL, time INTEGER NOT NULL);
CREATE TABLE sessions (
  pool INTEGER NOT NULL, session_id TEXT NOT NULL, pod_name TEXT NOT NULL, pod_uid TEXT NOT NULL,
  PRIMARY KEY (pool, session_id)) WITHOUT ROWID;
CREATE TABLE drained (
  pool INTEGER NOT NULL, pod_uid TEXT NOT NULL, PRIMARY KEY (pool, pod_uid)) WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 0), ('operator_epoch', 0);
"""


def _create(connection: sqlite3.Connection) -> None:
    for statement in _VERSION_1.split(";"):
        if statement.strip():
            connection.execute(statement)


def _know_lowest_tokens(connection: sqlite3.Connection) -> None:
    """Of tasks of before nothing is known: every claim of theirs is believed, as it was then.

    From this version on `changes.state` may also be CANCELLING: earlier ones would read an outcome.
    """
    connection.execute("ALTER TABLE tasks ADD COLUMN token_min INTEGER NOT NULL DEFAULT 0")


def _know_draining(connection: sqlite3.Connection) -> None:
    """Earlier versions knew no pool that drains."""
    connection.execute("ALTER TABLE pools ADD COLUMN draining INTEGER NOT NULL DEFAULT 0")


def _know_keys(connection: sqlite3.Connection) -> None:
    """Earlier versions left keys in the body. What may run again is read once; what has succeeded
    never will. They took no task of several slots.
    """
    for column in (
        "fairness_key TEXT NOT NULL DEFAULT ''",
        "concurrency_key TEXT NOT NULL DEFAULT ''",
        "slots INTEGER NOT NULL DEFAULT 1",
    ):
        connection.execute(f"ALTER TABLE tasks ADD COLUMN {column}")
    after = -1
    while True:
        page = connection.execute(
            "SELECT t.key, t.body FROM tasks t LEFT JOIN changes c ON c.key = t.key"
            " WHERE t.key > ? AND c.state IS NOT ? ORDER BY t.key LIMIT ?",
            (after, tasks.TaskState.SUCCEEDED.value, PAGE_ROWS),
        ).fetchall()
        if not page:
            return
        # Nothing else needs them, and without them the journal's process starts much faster.
        from google.protobuf import message

        from penstock.v1 import task_pb2

        for key, body in page:
            submitted = task_pb2.Task()
            with contextlib.suppress(message.DecodeError):  # then it has no key
                submitted.ParseFromString(body)
            if submitted.fairness_key or submitted.concurrency_key:
                connection.execute(
                    "UPDATE tasks SET fairness_key = ?, concurrency_key = ? WHERE key = ?",
                    (submitted.fairness_key, submitted.concurrency_key, key),
                )
        after = page[-1][0]


def _know_checkpoints(connection: sqlite3.Connection) -> None:
    """A row of its own for the few tasks that have one: it is written again and again."""
    connection.execute(
        "CREATE TABLE checkpoints (key INTEGER PRIMARY KEY, checkpoint BLOB NOT NULL)"
    )


def _know_sums(connection: sqlite3.Connection) -> None:
    """Sums for rows, and the number of commits. Rows of before are believed, and get theirs."""
    for table in (*KEYED_TABLES, *SMALL_TABLES):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN row_sum INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE tasks ADD COLUMN request_sum INTEGER NOT NULL DEFAULT 0")
    for table, (columns, sums_of) in KEYED_TABLES.items():
        wanted = "row_sum = ?, request_sum = ?" if table == "tasks" else "row_sum = ?"
        for page in pages(connection, table):
            found = [(sums_of(row[:columns]), row[0]) for row in page]
            connection.executemany(
                f"UPDATE {table} SET {wanted} WHERE key = ?",  # noqa: S608 - our names
                [(*(each if isinstance(each, tuple) else (each,)), key) for each, key in found],
            )
    for table, small in SMALL_TABLES.items():
        names = ", ".join(small)
        same = " AND ".join(f"{name} IS ?" for name in small)
        for row in connection.execute(f"SELECT {names} FROM {table}").fetchall():  # noqa: S608
            connection.execute(
                f"UPDATE {table} SET row_sum = ? WHERE {same}",  # noqa: S608 - our names
                (sums.row(row), *row),
            )
    connection.execute("INSERT INTO meta VALUES ('commits', 0), ('sum', 0)")
    seal_epochs(connection)


def pages(connection: sqlite3.Connection, table: str) -> Iterator[list[tuple[Any, ...]]]:
    """All rows of a keyed table, in their order, `PAGE_ROWS` at a time; they may be changed and
    deleted meanwhile.
    """
    after = -1
    while page := connection.execute(
        f"SELECT * FROM {table} WHERE key > ? ORDER BY key LIMIT {PAGE_ROWS}",  # noqa: S608
        (after,),
    ).fetchall():
        after = page[-1][0]
        yield page


def seal_epochs(connection: sqlite3.Connection) -> None:
    """Sum up the epochs again, after one of them has changed."""
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    found = sums.row((meta["epoch"], meta["operator_epoch"]))
    connection.execute("UPDATE meta SET value = ? WHERE name = 'sum'", (found,))


SMALL_TABLES: Final = {
    "pools": ("id", "uid", "name", "config", "paused", "closed_time", "draining"),
    "sessions": ("pool", "session_id", "pod_name", "pod_uid"),
    "drained": ("pool", "pod_uid"),
    "purged": ("id",),
}
"""Tables whose rows are summed up by `sums.row`, and the columns in the sum."""
KEYED_TABLES: Final[dict[str, tuple[int, Callable[[tuple[Any, ...]], Any]]]] = {
    "tasks": (sums.TASK_COLUMNS, sums.task),
    "changes": (sums.CHANGE_COLUMNS, sums.change),
    "requests": (sums.REQUEST_COLUMNS, sums.request),
    "checkpoints": (sums.CHECKPOINT_COLUMNS, sums.row),
}
"""Tables by task: how many columns are in the sum, and what sums them up; the sum, or both of
them, comes after those.
"""

MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    _create,
    _know_lowest_tokens,
    _know_draining,
    _know_keys,
    _know_checkpoints,
    _know_sums,
)
"""Number i leads from version i to version i + 1. Only ever appended to."""
VERSION: Final = len(MIGRATIONS)


class SchemaError(Exception):
    """The file is not one that this version can use; the message says why and what to do."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to `VERSION`, in one transaction. Raises SchemaError for a foreign or a newer
    file.
    """
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and owner != APPLICATION_ID:
        raise SchemaError(
            "the file is an SQLite database, but not a Penstock journal: "
            "choose another --data folder"
        )
    if found > VERSION:
        raise SchemaError(
            f"the journal has schema version {found}, this dispatcher knows versions up to "
            f"{VERSION}: it was written by a newer Penstock; run that version, or restore a backup "
            "made before the upgrade"
        )
    if found == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for step in MIGRATIONS[found:]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
