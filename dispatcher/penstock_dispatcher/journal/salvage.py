"""`--salvage`: leave out of a damaged journal what is not sound, and say of each part what it was.

For a file whose structure is whole: rows whose sum does not fit are deleted. A task goes together
with its outcome: if either is damaged nobody knows whether it may still run. Without a checkpoint
of its own it stays: its next attempt begins anew. What hangs on a pool that is damaged or missing
goes with it. The end of the log, if it is missing, cannot be brought
back; the mark is set to what is there.

Not salvaged: the epochs. With a lower one than before, workers of before would outrank new leases.
"""

import itertools
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from penstock_dispatcher.journal import schema, sums

_WHOLE: Final = ("tasks", "changes")
"""Rows of a task that go together."""
_Told = Callable[[str], None]


def leave_out_damaged(connection: sqlite3.Connection, told: _Told) -> None:
    """Delete what is damaged, inside the caller's transaction."""
    # Damaged text is no UTF-8; it must not keep its row from being read, and left out.
    connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    try:
        for table, columns in schema.SMALL_TABLES.items():
            _small(connection, table, columns, told)
        for table in schema.KEYED_TABLES:
            _keyed(connection, table, told)
        _orphans(connection, told)
        connection.execute(
            "UPDATE sqlite_sequence SET seq = max("
            "(SELECT coalesce(max(id), 0) FROM pools), (SELECT coalesce(max(id), 0) FROM purged),"
            " (SELECT coalesce(max(key) >> ?, 0) FROM tasks), CAST(seq AS INTEGER))"
            " WHERE name = 'pools'",
            (schema.SEQUENCE_BITS,),
        )
    finally:
        connection.text_factory = str


def _small(
    connection: sqlite3.Connection, table: str, columns: tuple[str, ...], told: _Told
) -> None:
    same = " AND ".join(f"{name} IS ?" for name in columns)
    rows = connection.execute(f"SELECT {', '.join(columns)}, row_sum FROM {table}").fetchall()  # noqa: S608
    for *row, found in rows:
        if not sums.fits(sums.row, tuple(row), found):
            told(f"a row of {table}: {_readable(row)}")
            connection.execute(f"DELETE FROM {table} WHERE {same}", row)  # noqa: S608


def _readable(row: list[Any]) -> str:
    return ascii([value for value in row if not isinstance(value, bytes)])


def _keyed(connection: sqlite3.Connection, table: str, told: _Told) -> None:
    columns, sums_of = schema.KEYED_TABLES[table]
    for row in itertools.chain.from_iterable(schema.pages(connection, table)):
        given = row[columns:]
        if not sums.fits(sums_of, row[:columns], given if len(given) > 1 else given[0]):
            key = row[0]
            told(f"a row of {table}: {_task(connection, key)}")
            for each in _WHOLE if table in _WHOLE else (table,):
                connection.execute(f"DELETE FROM {each} WHERE key = ?", (key,))  # noqa: S608


def _task(connection: sqlite3.Connection, key: int) -> str:
    number = key >> schema.SEQUENCE_BITS
    pool = connection.execute("SELECT name FROM pools WHERE id = ?", (number,)).fetchone()
    task = connection.execute("SELECT task_id FROM tasks WHERE key = ?", (key,)).fetchone()
    name = pool[0] if pool else f"pool number {number}"
    return ascii(f"{name}/tasks/{task[0] if task else '?'}")[1:-1]


def _orphans(connection: sqlite3.Connection, told: _Told) -> None:
    of_no_pool = (
        f"(key >> {schema.SEQUENCE_BITS}) NOT IN"  # noqa: S608 - our names
        " (SELECT id FROM pools UNION ALL SELECT id FROM purged)"
    )
    for table, lost in (
        ("tasks", of_no_pool),
        ("requests", of_no_pool),
        ("changes", "NOT EXISTS (SELECT 1 FROM tasks WHERE key = changes.key)"),
        ("checkpoints", "NOT EXISTS (SELECT 1 FROM tasks WHERE key = checkpoints.key)"),
    ):
        count = connection.execute(f"DELETE FROM {table} WHERE {lost}").rowcount  # noqa: S608
        if count:
            told(f"{count} rows of {table}, whose pool or task is missing")
