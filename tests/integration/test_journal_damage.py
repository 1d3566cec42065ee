"""A damaged journal is loaded with exactly what was acknowledged, or refused with what to do."""

import pathlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import interface, mark, schema, sqlite, sums
from rig import damage

SEEDS = range(12)
PLACES = [
    *((sqlite.FILE_NAME, how) for how in damage.FILE),
    *((sqlite.LOG_NAME, how) for how in damage.LOG),
]
_Damage = Callable[[bytearray, Any], None]


@pytest.fixture(params=[True, False], ids=["moved", "in the log"])
def crashed(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    return damage.crashed_folder(tmp_path, seed=1, moved=request.param)


@pytest.mark.parametrize(
    ("name", "how"), PLACES, ids=[f"{name}-{how.__name__}" for name, how in PLACES]
)
def test_damage_is_never_served(
    crashed: pathlib.Path, tmp_path: pathlib.Path, name: str, how: _Damage
) -> None:
    sound = shutil.copytree(crashed, tmp_path / "sound")
    expected = damage.load(sound)
    assert len(expected[1]) == 300
    for seed in SEEDS:
        copy = shutil.copytree(crashed, tmp_path / f"{seed}")
        damage.damage(copy / name, how, seed=seed)
        try:
            found = damage.load(copy)
        except interface.JournalFailed as refused:
            said = str(refused)
            assert said.startswith(str(copy / sqlite.FILE_NAME)), (seed, said)
            remedies = ("Restore a backup", "choose another --data folder", "run that version")
            assert any(remedy in said for remedy in remedies), (seed, said)
        else:
            assert found == expected, seed
        shutil.rmtree(copy)


ROWS = [
    ("tasks", "priority = priority + 1"),
    ("tasks", "body = zeroblob(length(body))"),
    ("tasks", "request_id = request_id || '-'"),
    ("tasks", "fingerprint = fingerprint + 1"),
    ("tasks", "expire_time = 0"),
    ("tasks", "token_min = token_min - 1"),
    ("changes", "state = 4"),
    ("changes", "attempt = attempt + 1"),
    ("changes", "result = x''"),
    ("changes", "failure_message = 'good luck'"),
    ("changes", "key = key + 1000"),
    ("requests", "task_id = 't0'"),
    ("requests", "time = 0"),
    ("checkpoints", "checkpoint = x''"),
    ("checkpoints", "key = key + 20"),
    ("pools", "config = x''"),
    ("pools", "paused = 0"),
    ("sessions", "pod_uid = 'other'"),
    ("drained", "pod_uid = pod_uid || 'x'"),
    ("purged", "id = id + 100"),
    ("meta", "value = value - 1"),
    ("sqlite_sequence", "seq = 1"),
]


@pytest.mark.parametrize(("table", "change"), ROWS, ids=[" ".join(row) for row in ROWS])
def test_every_kind_of_row_is_checked(tmp_path: pathlib.Path, table: str, change: str) -> None:
    """Changed behind the journal's back: SQLite itself finds nothing wrong with it."""
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    connection = sqlite3.connect(folder / sqlite.FILE_NAME)
    where = {"tasks": "request_id <> ''", "meta": "name = 'epoch'"}.get(table, "TRUE")
    row = connection.execute(f"SELECT * FROM {table} WHERE {where}").fetchone()
    names = [each[1] for each in connection.execute(f"PRAGMA table_info({table})")]
    same = " AND ".join(f"{name} IS ?" for name in names)
    assert connection.execute(f"UPDATE {table} SET {change} WHERE {same}", row).rowcount == 1
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.commit()
    connection.close()
    with pytest.raises(interface.JournalFailed, match=r"is damaged .* Restore a backup"):
        damage.load(folder)


SALVAGED = [
    ("tasks", "priority = priority + 1", ["uid-0/t20"]),
    ("tasks", "task_id = CAST(x'ff' AS TEXT)", ["uid-0/t20"]),
    ("changes", "state = 4", ["uid-0/t20"]),
    ("requests", "task_id = 't0'", []),
    ("sessions", "pod_uid = 'other'", []),
    ("drained", "pod_uid = pod_uid || 'x'", []),
    ("pools", "config = x''", [f"uid-0/t{n}" for n in range(20, 120)]),
    ("purged", "id = id + 100", []),
    ("sqlite_sequence", "seq = 1", []),
]


@pytest.mark.parametrize(("table", "change", "gone"), SALVAGED)
def test_salvage_leaves_out_what_is_damaged_and_nothing_else(
    tmp_path: pathlib.Path,
    table: str,
    change: str,
    gone: list[str],
) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    _, sound = damage.load(shutil.copytree(folder, tmp_path / "sound"))
    connection = sqlite3.connect(folder / sqlite.FILE_NAME)
    names = [each[1] for each in connection.execute(f"PRAGMA table_info({table})")]
    row = connection.execute(f"SELECT * FROM {table}").fetchone()
    same = " AND ".join(f"{name} IS ?" for name in names)
    assert connection.execute(f"UPDATE {table} SET {change} WHERE {same}", row).rowcount == 1
    connection.commit()
    connection.close()
    said: list[str] = []
    _, found = damage.load(folder, salvage=True, say=said.append)
    kept = {f"{one.accepted.pool_uid}/{one.accepted.task_id}": one for one in found}
    expected = {f"{one.accepted.pool_uid}/{one.accepted.task_id}": one for one in sound}
    assert kept == {name: one for name, one in expected.items() if name not in gone}
    assert table == "sqlite_sequence" or f"left out: a row of {table}" in " ".join(said)
    # From then on it is sound.
    said.clear()
    _, again = damage.load(folder)
    assert again == found
    damage.load(folder, salvage=True, say=said.append)
    assert said == []
    # Nothing is left of what is gone, nor found by whoever gets its place.
    connection = sqlite3.connect(folder / sqlite.FILE_NAME)
    for belongs in ("changes", "checkpoints"):
        lost = f"SELECT key FROM {belongs} WHERE key NOT IN (SELECT key FROM tasks)"
        assert connection.execute(lost).fetchall() == []
    connection.close()


def test_salvage_leaves_out_a_checkpoint_and_keeps_its_task(tmp_path: pathlib.Path) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    _, sound = damage.load(shutil.copytree(folder, tmp_path / "sound"))
    connection = sqlite3.connect(folder / sqlite.FILE_NAME)
    (key,) = connection.execute("SELECT min(key) FROM checkpoints").fetchone()
    connection.execute("UPDATE checkpoints SET checkpoint = x'00' WHERE key = ?", (key,))
    connection.commit()
    connection.close()
    said: list[str] = []
    _, found = damage.load(folder, salvage=True, say=said.append)
    assert found == [one._replace(checkpoint=b"") if one.key == key else one for one in sound]
    assert found != sound
    (line,) = said
    assert line.startswith("left out: a row of checkpoints: namespaces/a/pools/p0/tasks/t60")
    _, again = damage.load(folder)
    assert again == found


def test_salvage_goes_on_without_the_end_of_the_log(tmp_path: pathlib.Path) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    (folder / sqlite.LOG_NAME).unlink()
    with pytest.raises(interface.JournalFailed, match="its end is missing"):
        damage.load(folder)
    said: list[str] = []
    damage.load(folder, salvage=True, say=said.append)
    (line,) = said
    assert "commits are missing" in line
    damage.load(folder)


def test_a_broken_structure_is_not_salvaged(tmp_path: pathlib.Path) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    damage.damage(folder / sqlite.FILE_NAME, damage.cut_at_block, seed=1)
    with pytest.raises(interface.JournalFailed, match=r"more than single rows.* Restore a backup"):
        damage.load(folder, salvage=True)


def test_a_log_without_its_end_lacks_what_was_acknowledged(tmp_path: pathlib.Path) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=False)
    (folder / sqlite.LOG_NAME).unlink()
    with pytest.raises(interface.JournalFailed, match=r"ends with commit \d+, and commit \d+ was"):
        damage.load(folder)


@pytest.mark.parametrize("what", ["removed", "emptied", "an older copy"])
def test_a_file_that_is_not_the_latest_is_refused(tmp_path: pathlib.Path, what: str) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    file = folder / sqlite.FILE_NAME
    if what == "an older copy":
        journal = sqlite.SqliteJournal(folder, reserve_bytes=0)
        journal.open()
        journal.close()
        shutil.copy(file, tmp_path / "backup")
        journal = sqlite.SqliteJournal(folder, reserve_bytes=0)
        journal.open()
        journal.append([records.OperatorSeen(77)])
        journal.close()
        shutil.copy(tmp_path / "backup", file)
    else:
        (folder / sqlite.LOG_NAME).unlink()
        file.unlink()
        if what == "emptied":
            file.touch()
    with pytest.raises(interface.JournalFailed, match=r"on purpose, remove journal\.mark"):
        damage.load(folder)
    (folder / sqlite.MARK_NAME).unlink()
    damage.load(folder)


def test_a_commit_that_was_never_acknowledged_may_be_missing(tmp_path: pathlib.Path) -> None:
    live = tmp_path / "live"
    journal = sqlite.SqliteJournal(live, reserve_bytes=0)
    journal.open()
    journal.append([damage.POOLS[0]])
    log = live / sqlite.LOG_NAME
    before = log.stat().st_size
    mark_before = (live / sqlite.MARK_NAME).read_bytes()
    journal.append([damage.accepted("uid-0", n, body=b"x" * 9_000) for n in range(1, 20)])
    torn = shutil.copytree(live, tmp_path / "torn")
    journal.close()
    # As if the process had died before the last commit was synced, or its mark was written.
    (torn / sqlite.MARK_NAME).write_bytes(mark_before)
    with (torn / sqlite.LOG_NAME).open("rb+") as file:
        file.truncate(before + 5_000)
    opened, found = damage.load(torn)
    assert [pool.configured for pool in opened.pools] == [damage.POOLS[0]]
    assert found == []


@pytest.mark.parametrize("content", [b"", b"\0" * 12, b"short", b"\xff" * 12])
def test_a_mark_that_cannot_be_read_tells_nothing(tmp_path: pathlib.Path, content: bytes) -> None:
    folder = damage.crashed_folder(tmp_path, seed=1, moved=True)
    (folder / sqlite.MARK_NAME).write_bytes(content)
    _, found = damage.load(folder)
    assert len(found) == 300
    again = mark.Mark(folder / sqlite.MARK_NAME)
    assert again.read() == 0 or content == b""
    again.close()


def test_rows_of_an_older_file_get_their_sums(tmp_path: pathlib.Path) -> None:
    sound = damage.crashed_folder(tmp_path, seed=1, moved=True)
    expected = damage.load(sound)
    file = sound / sqlite.FILE_NAME
    version = schema.MIGRATIONS.index(schema._know_sums)
    connection = sqlite3.connect(file, isolation_level=None)
    for table in (*schema.SMALL_TABLES, "tasks", "changes", "requests", "checkpoints"):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN row_sum")
    connection.execute("ALTER TABLE tasks DROP COLUMN request_sum")
    connection.execute("DELETE FROM meta WHERE name IN ('commits', 'sum')")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    (sound / sqlite.MARK_NAME).unlink()
    opened, found = damage.load(sound)
    assert (opened[2:], found) == (expected[0][2:], expected[1])


def test_a_dispatcher_that_refuses_a_journal_says_so_in_one_line(dispatcher_process: Any) -> None:
    dispatcher_process.configure()
    assert dispatcher_process.terminate() == 0
    file = dispatcher_process.folder / "data" / sqlite.FILE_NAME
    connection = sqlite3.connect(file)
    connection.execute("UPDATE pools SET config = x'00'")
    connection.commit()
    connection.close()
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "penstock_dispatcher", "--listen", "127.0.0.1:0", "--http", ""),
            *("--data", str(file.parent)),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert "the journal cannot be used" in line
    assert "a row of pools is not what was written" in line
    assert "Restore a backup" in line
    assert "Traceback" not in done.stderr


def test_a_sum_depends_on_every_column() -> None:
    row = (1, "t", "u", "type", 2, b"body", 4, 5, 6, 7, 8, "request", 9, 10, "fair", "cap", 11)
    assert len(row) == sums.TASK_COLUMNS
    seen = {sums.task(row)}
    for at, column in enumerate(row):
        other = column + 1 if isinstance(column, int) else column[:-1]
        seen.add(sums.task((*row[:at], other, *row[at + 1 :])))
    assert len(seen) == 1 + sums.TASK_COLUMNS
    outcome = (1, 5, 2, 3, 4, 5, 6, 7, "pod", 13, "reason", "message", b"status", b"result", "x/y")
    assert len(outcome) == sums.CHANGE_COLUMNS
    others = {sums.change(outcome)}
    for at, value in enumerate(outcome):
        other = value + 1 if isinstance(value, int) else value[:-1]
        others.add(sums.change((*outcome[:at], other, *outcome[at + 1 :])))
    assert len(others) == 1 + sums.CHANGE_COLUMNS
