"""A file of schema version 3 gets the columns of keys and slots, filled from what it has."""

import pathlib
import sqlite3
from typing import Any

import pytest

from penstock.v1 import task_pb2
from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import schema, sqlite
from rig import damage

UID = "uid-1"
WAITS = 0


@pytest.fixture
def version_3(tmp_path: pathlib.Path) -> sqlite3.Connection:
    """A file as version 3 left it, with a pool."""
    (tmp_path / "data").mkdir()
    connection = sqlite3.connect(tmp_path / "data" / sqlite.FILE_NAME, isolation_level=None)
    for step in schema.MIGRATIONS[:3]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 3")
    connection.execute("INSERT INTO pools (uid, name, config) VALUES (?, 'n', x'')", (UID,))
    return connection


def insert(connection: sqlite3.Connection, sequence: int, body: bytes, state: int | None) -> None:
    key = 1 << schema.SEQUENCE_BITS | sequence
    row = (key, f"t{sequence}", "u", "noop", 0, body, 0, 1, 0, 0, 1, "", 0, 5)
    connection.execute(f"INSERT INTO tasks VALUES ({','.join('?' * len(row))})", row)
    if state is not None:
        change = (key, state, 1, 0, 0, 0, 9, 0, "", None, None, None, None, b"", "")
        connection.execute(f"INSERT INTO changes VALUES ({','.join('?' * len(change))})", change)


def accepted(tmp_path: pathlib.Path) -> list[records.TaskAccepted]:
    _, found = damage.load(tmp_path / "data")
    return [entry.accepted for entry in found]


def test_what_may_run_again_has_the_keys_of_its_body(
    version_3: sqlite3.Connection, tmp_path: pathlib.Path
) -> None:
    def body(**fields: Any) -> bytes:
        return task_pb2.Task(type="noop", **fields).SerializeToString()

    both = body(fairness_key="tenant", concurrency_key="db")
    cases: list[tuple[bytes, int | None, tuple[str, str]]] = [
        (both, None, ("tenant", "db")),
        (body(), None, ("", "")),
        (body(fairness_key="ä", slots=1), WAITS, ("ä", "")),
        (both, tasks.TaskState.CANCELLING.value, ("tenant", "db")),
        (both, tasks.TaskState.DEAD_LETTERED.value, ("tenant", "db")),
        (both, tasks.TaskState.SUCCEEDED.value, ("", "")),
        (b"\xff not a task", None, ("", "")),
    ]
    # More than a page, so that the last cases lie on another one.
    for sequence in range(1, schema.PAGE_ROWS + 1):
        insert(version_3, sequence, body(), None)
    first = schema.PAGE_ROWS + 1
    for sequence, (content, state, _) in enumerate(cases, first):
        insert(version_3, sequence, content, state)
    version_3.close()
    found = accepted(tmp_path)
    keys = [(task.fairness_key, task.concurrency_key, task.slots) for task in found]
    assert keys == [("", "", 1)] * schema.PAGE_ROWS + [(*wanted, 1) for _, _, wanted in cases]
    assert {task.token_min for task in found} == {5}, "nothing else has changed"


def test_it_happens_once(version_3: sqlite3.Connection, tmp_path: pathlib.Path) -> None:
    insert(version_3, 1, task_pb2.Task(fairness_key="k").SerializeToString(), None)
    version_3.close()
    assert accepted(tmp_path) == accepted(tmp_path)
    connection = sqlite3.connect(tmp_path / "data" / sqlite.FILE_NAME)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    connection.close()
