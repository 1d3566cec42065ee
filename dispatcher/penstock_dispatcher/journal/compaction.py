"""Giving room back: the file and its log stay within four times of what is alive, plus a floor.

Deleting leaves pages free, which later rows use again; what is free beyond `FREE_SHARE_MAX` goes
back to the disk. A page that has lost some of its rows stays until two thirds of it are empty
(SQLite then merges it with its neighbours): at worst, pages hold a third of what they could, and
the file is a quarter longer than they are. The log has a limit, to which it is cut when it begins
anew; the next commit may make it longer again.

Each step is short, because commits wait for it: they share one process.
"""

import sqlite3
from typing import Final

from penstock_dispatcher.journal import schema

VACUUM_PAGES_MAX: Final = 64
"""Pages given back in one step: about 5 ms."""
FREE_SHARE_MAX: Final = 0.2
"""Free pages beyond this share of the file are given back; fewer are soon used again."""
FREE_PAGES_MIN: Final = 1_024
"""So many may always be free."""
LOG_BYTES_MAX: Final = 8 * 1024 * 1024
LIVE_FACTOR_MAX: Final = 4
FLOOR_BYTES: Final = 12 * 1024 * 1024
"""File and log together have at most `LIVE_FACTOR_MAX` times the bytes of living rows, and so many
more: pages that are free for the next rows, and the log."""
PURGE_ROWS_MAX: Final = 1_000
"""Rows deleted in one step."""
PURGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Payload and result bytes deleted in one step; a single larger row goes alone."""

_LARGE: Final = {
    "tasks": "length(body)",
    "changes": "length(result)",
    "requests": "0",
    "checkpoints": "0",
}


def step(connection: sqlite3.Connection) -> bool:
    """One step; True = there is more to do."""
    if _purge_some(connection):
        return True
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    if free <= max(FREE_PAGES_MIN, pages * FREE_SHARE_MAX):
        return False
    # The pragma gives one page back each time it is stepped, and has no rows to fetch: only a
    # script is stepped to its end.
    connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})")
    return True


def _purge_some(connection: sqlite3.Connection) -> bool:
    """Delete some rows of a purged pool. True = there was something to do."""
    found = connection.execute("SELECT id FROM purged LIMIT 1").fetchone()
    if found is None:
        return False
    span = (found[0] << schema.SEQUENCE_BITS, (found[0] + 1) << schema.SEQUENCE_BITS)
    for table, large in _LARGE.items():
        keys = _some(
            connection.execute(
                f"SELECT key, {large} FROM {table}"  # noqa: S608 - our names
                f" WHERE key >= ? AND key < ? ORDER BY key LIMIT {PURGE_ROWS_MAX}",
                span,
            ).fetchall()
        )
        if keys:
            connection.execute(
                f"DELETE FROM {table} WHERE key >= ? AND key <= ?",  # noqa: S608 - our names
                (keys[0], keys[-1]),
            )
            return True
    connection.execute("DELETE FROM purged WHERE id = ?", found)
    return True


def _some(rows: list[tuple[int, int]]) -> list[int]:
    """The first keys, so many that their bytes are few."""
    taken: list[int] = []
    size = 0
    for key, large in rows:
        size += large
        if size > PURGE_BYTES_MAX and taken:
            break
        taken.append(key)
    return taken
