"""Is this file what it was when it was written? Asked at each start, before anything is believed.

Structure first (SQLite's `quick_check`, which also finds rows that were lost with their page), then
the definitions of the tables, then what has no row of its own to hold a sum. The sums of all other
rows are compared where they are read (`reading`).
"""

import os
import pathlib
import sqlite3
from typing import Any, Final

from penstock_dispatcher.journal import schema, sums

WHAT_TO_DO: Final = (
    "nothing of it is used, so that nothing is lost or run by mistake. Restore a backup of the "
    "folder; or keep a copy of it and start once with --salvage, which leaves out what is damaged "
    "and says what that was; or move its journal.* files away to start empty"
)
NOT_SALVAGED: Final = (
    "it is more than single rows, which is all that --salvage can leave out. Restore a backup of "
    "the folder, or move its journal.* files away to start empty"
)
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_DAMAGE: Final = frozenset({
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM,
})  # fmt: skip


class Damaged(Exception):  # noqa: N818 - a state of the file
    """The file is not what was written; the message says where."""


def code_of(error: sqlite3.Error) -> int:
    """SQLite's primary code, 0 = Python's own complaint about what it read."""
    # Extended codes have the primary one in their lowest byte.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def shows_damage(error: sqlite3.Error, file: pathlib.Path, *, reading: bool) -> bool:
    """Does the error come from what is in the file? While it is read, anything that is not the
    system's fault does: no statement of ours fails on a sound file.
    """
    code = code_of(error)
    if code == sqlite3.SQLITE_READONLY:
        # A file can say of itself that only later versions may write it.
        return os.access(file, os.W_OK)
    return code in _DAMAGE or (reading and code not in _NO_DAMAGE)


def check_structure(connection: sqlite3.Connection) -> None:
    """Raises Damaged."""
    # The indexes, which quick_check passes over: only this table has one.
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    for check in ("quick_check(1)", "integrity_check(pools)"):
        if "pools" in check and "pools" not in tables:
            continue
        found = connection.execute(f"PRAGMA {check}").fetchone()[0]
        if found != "ok":
            raise Damaged(found)


def check_definitions(connection: sqlite3.Connection) -> None:
    """The tables are those that the migrations make. Raises Damaged."""
    with_sums = sqlite3.connect(":memory:", isolation_level=None)
    try:
        schema.migrate(with_sums)
        missing = _definitions(with_sums) - _definitions(connection)
    finally:
        with_sums.close()
    if missing:
        names = ", ".join(sorted(str(name) for _, name, *_ in missing))
        raise Damaged(f"the definition of {names} is not the one that was written")


def _definitions(connection: sqlite3.Connection) -> set[tuple[Any, ...]]:
    return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))


def check_counters(connection: sqlite3.Connection, *, acknowledged: int) -> None:
    """Epochs, numbers of pools, and commits, of which so many were acknowledged. Raises Damaged."""
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    if not {"epoch", "operator_epoch", "commits", "sum"} <= set(meta):
        raise Damaged("a counter is missing")
    if not sums.fits(sums.row, (meta["epoch"], meta["operator_epoch"]), meta["sum"]):
        raise Damaged("the epochs are not what was written")
    if meta["commits"] < acknowledged:
        raise Damaged(
            f"it ends with commit {meta['commits']}, and commit {acknowledged} was acknowledged:"
            " its end is missing, or an older copy was put in its place (if that was you, and on"
            " purpose, remove journal.mark)"
        )
    # A number that is given again would take over what is left of a purged pool.
    given = connection.execute(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'pools'), 0)"
    ).fetchone()[0]
    used = connection.execute(
        "SELECT max((SELECT coalesce(max(id), 0) FROM pools),"
        " (SELECT coalesce(max(id), 0) FROM purged),"
        " (SELECT coalesce(max(key) >> ?, 0) FROM tasks))",
        (schema.SEQUENCE_BITS,),
    ).fetchone()[0]
    if not isinstance(given, int) or given < used:
        raise Damaged("the number of the last pool is not what was written")


def check_outcomes(connection: sqlite3.Connection) -> None:
    """Nothing has become of a task that is not there. Raises Damaged."""
    found = connection.execute(
        "SELECT key FROM changes WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE key = changes.key)"
        " AND (key >> ?) NOT IN (SELECT id FROM purged) LIMIT 1",
        (schema.SEQUENCE_BITS,),
    ).fetchone()
    if found is not None:
        raise Damaged(f"the task of outcome {found[0]:x} is missing")
