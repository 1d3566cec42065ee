"""Checkpoints in the SQLite journal: the newest of each task, until that ends."""

import pathlib
import sqlite3
from collections.abc import Iterable

from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import schema, sqlite
from rig import journalled

UID = "uid-1"
CONFIGURED = records.PoolConfigured(UID, "namespaces/a/pools/b", b"config")


def accepted(sequence: int) -> records.TaskAccepted:
    return journalled.accepted(UID, sequence, b"body")


def saved(sequence: int, content: bytes) -> records.TaskCheckpointed:
    return records.TaskCheckpointed(UID, sequence, f"t{sequence}", content)


def ended(sequence: int) -> records.TaskEnded:
    state = tasks.TaskState.SUCCEEDED
    return records.TaskEnded(
        UID, sequence, f"t{sequence}", state, 1, 0, 1, 2, 1, "pod", None, b"", ""
    )


def run(folder: pathlib.Path, *batches: Iterable[records.Record]) -> list[bytes]:
    """One run of a dispatcher: what it found, and then it appends."""
    journal = sqlite.SqliteJournal(folder, reserve_bytes=0)
    journal.open()
    found = [entry.checkpoint for entry in journal.load_tasks(-1)]
    for batch in batches:
        journal.append(list(batch))
    journal.close()
    return found


def rows(folder: pathlib.Path) -> int:
    connection = sqlite3.connect(folder / sqlite.FILE_NAME)
    (count,) = connection.execute("SELECT count(*) FROM checkpoints").fetchone()
    connection.close()
    return int(count)


def test_the_newest_is_kept_until_its_task_ends(tmp_path: pathlib.Path) -> None:
    requeued = records.TaskRequeued(UID, 2, "t2", 1, 0, 0, None)
    cancelling = records.TaskCancelling(UID, 4, "t4", 1, 0, None)
    large = b"\0" * 65_536
    run(
        tmp_path,
        [CONFIGURED, *(accepted(n) for n in (1, 2, 3, 4)), saved(1, b"a"), saved(1, b"b")],
        [saved(2, large), requeued, saved(4, b"e"), cancelling],
    )
    # Told and over within one batch; told in one run and over in another; told again.
    again = [saved(3, b"c"), ended(3), ended(1), saved(2, b"d")]
    assert run(tmp_path, again) == [b"b", large, b"", b""]
    assert rows(tmp_path) == 2
    assert run(tmp_path, [ended(2), ended(4)]) == [b"", b"d", b"", b""]
    assert rows(tmp_path) == 0
    assert run(tmp_path) == [b"", b"", b"", b""]


def test_a_file_of_before_is_taken_over(tmp_path: pathlib.Path) -> None:
    before = schema.MIGRATIONS.index(schema._know_checkpoints)
    connection = sqlite3.connect(tmp_path / sqlite.FILE_NAME)
    for step in schema.MIGRATIONS[:before]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {before}")
    connection.commit()
    connection.close()
    assert run(tmp_path, [CONFIGURED, accepted(1), saved(1, b"a")]) == []
    assert run(tmp_path) == [b"a"]
