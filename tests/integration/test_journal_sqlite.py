"""The SQLite journal on a real file: what was appended is there after a crash, and nothing else."""

import itertools
import pathlib
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from penstock_dispatcher.core import idempotency, records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import compaction, filesystem, interface, schema, sqlite
from rig import damage

UID = "uid-1"
_COPIES = itertools.count()
CONFIGURED = records.PoolConfigured(UID, "namespaces/a/pools/b", b"config")


def accepted(sequence: int, uid: str = UID, **fields: Any) -> records.TaskAccepted:
    given: dict[str, Any] = {
        "pool_uid": uid,
        "task_id": f"t{sequence}",
        "uid": f"u{sequence}",
        "sequence": sequence,
        "type": "noop",
        "priority": -3,
        "body": b"\x00body",
        "size": 5,
        "create_time": 1_000 + sequence,
        "not_before": 2,
        "expire_time": 3,
        "execution_timeout_ns": 4,
        "request_id": f"r{sequence}",
        "fingerprint": -(2**63),
        "token_min": 2**63 - 1,
        "fairness_key": "tenant",
        "concurrency_key": "db",
        "slots": 7,
    }
    return records.TaskAccepted(**{**given, **fields})


def ended(sequence: int, **fields: Any) -> records.TaskEnded:
    given: dict[str, Any] = {
        "pool_uid": UID,
        "sequence": sequence,
        "task_id": f"t{sequence}",
        "state": tasks.TaskState.DEAD_LETTERED,
        "attempt": 3,
        "worker_losses": 1,
        "start_time": 5,
        "end_time": 6,
        "execution_time_ns": 7,
        "worker": "pod",
        "failure": tasks.Failure(13, "BOOM", "bad luck", b"status"),
        "result": b"result",
        "result_content_type": "x/y",
    }
    return records.TaskEnded(**{**given, **fields})


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> Iterator[sqlite.SqliteJournal]:
    made = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=4096)
    made.open()
    made.append([CONFIGURED])
    yield made
    made.close()


def crashed(journal: sqlite.SqliteJournal, tmp_path: pathlib.Path) -> sqlite.SqliteJournal:
    """A journal on a copy of the files as they are now: what a killed process leaves."""
    copy = tmp_path / f"copy-{next(_COPIES)}"
    shutil.copytree(tmp_path / "data", copy)
    return sqlite.SqliteJournal(copy, reserve_bytes=4096)


def test_every_field_of_every_record_survives_a_crash(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    requeued = records.TaskRequeued(
        UID, 2, "t2", 1, 2, 99, tasks.Failure(14, "WORKER_LOST", "gone")
    )
    cancelling = records.TaskCancelling(UID, 4, "t4", 1, 2, tasks.Failure(2, "OSError", "no"))
    batch: list[records.Record] = [
        accepted(1),
        accepted(2),
        accepted(3),
        accepted(4),
        requeued,
        ended(3),
        cancelling,
        records.SessionOpened(UID, "s1", "pod-1", "pod-uid-1"),
        records.SessionOpened(UID, "s2", "pod-2", "pod-uid-2"),
        records.SessionClosed(UID, "s2"),
        records.WorkerDrained(UID, "pod-uid-3"),
        records.WorkerDrained(UID, "pod-uid-4"),
        records.WorkerForgotten(UID, "pod-uid-4"),
        records.PoolLatched(UID, True, 77, True),
        records.OperatorSeen(5),
        records.OperatorSeen(4),
    ]
    journal.append(batch)
    opened, found = damage.read(crashed(journal, tmp_path))
    assert opened.operator_epoch == 5
    (pool,) = opened.pools
    assert pool.configured == CONFIGURED
    assert pool.latched == records.PoolLatched(UID, True, 77, True)
    assert pool.sessions == (records.SessionOpened(UID, "s1", "pod-1", "pod-uid-1"),)
    assert pool.drained == (records.WorkerDrained(UID, "pod-uid-3"),)
    assert pool.sequence_max == 4
    assert [(entry.accepted, entry.change) for entry in found] == [
        (accepted(1), None),
        (accepted(2), requeued),
        (accepted(3), ended(3)),
        (accepted(4), cancelling),
    ]


def test_the_last_change_of_a_task_counts_within_and_across_batches(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    first = records.TaskRequeued(UID, 1, "t1", 1, 0, 0, None)
    second = records.TaskRequeued(UID, 1, "t1", 2, 0, 0, None)
    journal.append([accepted(1), first, second])
    _, found = damage.read(crashed(journal, tmp_path))
    assert found[0].change == second
    journal.append([ended(1)])
    _, found = damage.read(crashed(journal, tmp_path))
    assert found[0].change == ended(1)


def test_a_deleted_task_leaves_its_request_id_until_that_is_forgotten(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    journal.append([accepted(1), accepted(2, request_id=""), accepted(3), ended(1)])
    journal.append(
        [
            records.TaskDeleted(UID, 1, "t1"),
            records.TaskDeleted(UID, 2, "t2"),
            records.RequestForgotten(UID, 3, "r3"),
        ]
    )
    opened, found = damage.read(crashed(journal, tmp_path))
    assert [one[1:] for one in opened.requests] == [
        (UID, "r1", idempotency.Request(1, "t1", -(2**63), 1_001))
    ]
    assert [entry.accepted.request_id for entry in found] == [""]
    journal.append([records.TaskDeleted(UID, 3, "t3"), records.RequestForgotten(UID, 1, "r1")])
    opened, found = damage.read(crashed(journal, tmp_path))
    assert (opened.requests, found) == ([], [])
    assert opened.pools[0].sequence_max == 0


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 1_000])
def test_batches_of_any_length_are_written_whole(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path, count: int
) -> None:
    journal.append([accepted(number) for number in range(1, count + 1)])
    journal.append([ended(number) for number in range(1, count + 1)])
    _, found = damage.read(crashed(journal, tmp_path))
    assert [entry.accepted.sequence for entry in found] == list(range(1, count + 1))
    assert all(entry.change is not None for entry in found)
    journal.append([records.TaskDeleted(UID, n, f"t{n}") for n in range(1, count + 1)])
    opened, found = damage.read(crashed(journal, tmp_path))
    assert found == []
    assert len(opened.requests) == count


def test_the_epoch_grows_with_every_start(tmp_path: pathlib.Path) -> None:
    epochs = []
    for _ in range(3):
        journal = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
        epochs.append((journal.open()).epoch)
        journal.close()
    assert epochs == [1, 2, 3]


def test_a_purged_pool_is_gone_at_once_and_its_rows_in_steps(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    other = records.PoolConfigured("uid-2", "namespaces/a/pools/c", b"")
    count = compaction.PURGE_ROWS_MAX + 10
    journal.append(
        [
            other,
            accepted(1, "uid-2"),
            records.SessionOpened(UID, "s", "p", "pu"),
            *(accepted(number) for number in range(1, count)),
            records.TaskCheckpointed(UID, 1, "t1", b"checkpoint"),
        ]
    )
    # What comes after the purge in the same batch belongs to nobody, or to the pool made anew.
    journal.append(
        [
            accepted(count),
            records.PoolPurged(UID),
            records.SessionClosed(UID, "s"),
            CONFIGURED,
            accepted(1, request_id="new"),
        ]
    )
    opened, found = damage.read(crashed(journal, tmp_path))
    assert {pool.configured for pool in opened.pools} == {CONFIGURED, other}
    assert [entry.accepted.request_id for entry in found] == ["r1", "new"]
    steps = 0
    while journal.compact():
        steps += 1
    assert steps >= 2
    connection = sqlite3.connect((crashed(journal, tmp_path))._folder / sqlite.FILE_NAME)
    assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (2,)
    assert connection.execute("SELECT count(*) FROM checkpoints").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM purged").fetchone() == (0,)
    connection.close()


def test_nothing_of_a_purged_pool_is_read(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    other = records.PoolConfigured("uid-2", "namespaces/a/pools/c", b"")
    journal.append([other, *(accepted(number) for number in range(1, 301))])
    journal.append([ended(number) for number in range(1, 300)])
    journal.append([records.TaskCheckpointed(UID, 300, "t300", b"checkpoint")])
    journal.append([records.PoolPurged(UID), accepted(1, "uid-2")])
    again = crashed(journal, tmp_path)
    again.open()
    read: list[Any] = []

    def count(_: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        read.append(row)
        return row

    again._opened().row_factory = count
    found = again.load_tasks(-1)
    again.close()
    assert [entry.accepted.pool_uid for entry in found] == ["uid-2"]
    assert len(read) == 1


# ---------------------------------------------------------------- refusals at the start


def test_a_second_process_is_refused(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOCK_SECONDS", 0.1)
    second = sqlite.SqliteJournal(tmp_path / "data")
    with pytest.raises(interface.JournalFailed, match="in use by another process"):
        second.open()
    second.close()


def test_the_file_of_an_older_version_is_taken_over(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    connection = sqlite3.connect(tmp_path / "data" / sqlite.FILE_NAME)
    schema.MIGRATIONS[0](connection)
    connection.execute("INSERT INTO pools (uid, name, config) VALUES (?, ?, ?)", CONFIGURED)
    connection.execute("UPDATE pools SET paused = 1")
    key = 1 << schema.SEQUENCE_BITS | 1
    row = (key, "t1", "u1", *accepted(1)[4:14])
    connection.execute(f"INSERT INTO tasks VALUES ({','.join('?' * len(row))})", row)
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    journal = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    opened, found = damage.read(journal)
    taken_over = accepted(1, token_min=0, fairness_key="", concurrency_key="", slots=1)
    assert [entry.accepted for entry in found] == [taken_over]
    assert opened.pools[0].latched == records.PoolLatched(UID, True, 0, False)


def test_a_newer_schema_is_refused_with_what_to_do(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    journal.close()
    connection = sqlite3.connect(tmp_path / "data" / sqlite.FILE_NAME)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    newer = sqlite.SqliteJournal(tmp_path / "data")
    with pytest.raises(interface.JournalFailed, match="written by a newer Penstock"):
        newer.open()
    newer.close()


def test_a_foreign_database_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    connection = sqlite3.connect(tmp_path / "data" / sqlite.FILE_NAME)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    journal = sqlite.SqliteJournal(tmp_path / "data")
    with pytest.raises(interface.JournalFailed, match="not a Penstock journal"):
        journal.open()
    journal.close()


def test_a_damaged_file_is_detected(journal: sqlite.SqliteJournal, tmp_path: pathlib.Path) -> None:
    for start in range(0, 2_000, 500):
        journal.append([accepted(start + n) for n in range(1, 501)])
    journal.close()
    file = tmp_path / "data" / sqlite.FILE_NAME
    content = bytearray(file.read_bytes())
    # The header of a page in the middle: as after a torn or misdirected write.
    page = len(content) // sqlite.PAGE_BYTES // 2 * sqlite.PAGE_BYTES
    content[page : page + 64] = b"\xff" * 64
    file.write_bytes(content)
    damaged = sqlite.SqliteJournal(tmp_path / "data")
    with pytest.raises(interface.JournalFailed, match=r"journal\.db"):
        damaged.open()
    damaged.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / sqlite.FILE_NAME).write_bytes(b"not a database, but long enough" * 100)
    journal = sqlite.SqliteJournal(tmp_path / "data")
    with pytest.raises(interface.JournalFailed, match="not a database"):
        journal.open()
    journal.close()


def test_a_network_file_system_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 1 0:1 / {tmp_path} rw - nfs4 server:/export rw\n")
    monkeypatch.setattr(filesystem, "MOUNTS", mounts)
    journal = sqlite.SqliteJournal(tmp_path / "data")
    with pytest.raises(interface.JournalFailed, match="nfs4, a network file system"):
        journal.open()
    journal.close()


# ---------------------------------------------------------------- no room


def fill(journal: sqlite.SqliteJournal, start: int = 1) -> int:
    """Append tasks until `full` says to close admission; returns the last sequence."""
    sequence = start
    while not journal.full():
        journal.append([accepted(sequence + n, body=b"x" * 1_000) for n in range(50)])
        sequence += 50
        assert sequence < 100_000
    return sequence - 1


def test_no_room_closes_admission_and_lets_completion_go_on(tmp_path: pathlib.Path) -> None:
    journal = sqlite.SqliteJournal(tmp_path / "data", pages_max=400, reserve_bytes=400 * 1024)
    journal.open()
    journal.append([CONFIGURED])
    last = fill(journal)
    # The batch that met the wall is durable: it went into the reserve, like what completes tasks.
    journal.append([ended(number, result=b"") for number in range(1, last + 1)])
    opened, found = damage.read(crashed(journal, tmp_path))
    assert len(found) == last
    assert all(entry.change is not None for entry in found)
    assert opened.pools[0].sequence_max == last
    # Retention makes room; the reserve is won back, and admission may open.
    journal.append([records.TaskDeleted(UID, n, f"t{n}") for n in range(1, last + 1)])
    while journal.compact():
        pass
    assert not journal.full()
    journal.close()


def test_when_the_reserve_is_used_up_nothing_of_a_batch_is_written(
    tmp_path: pathlib.Path,
) -> None:
    journal = sqlite.SqliteJournal(tmp_path / "data", pages_max=200, reserve_bytes=40 * 1024)
    journal.open()
    journal.append([CONFIGURED])
    last = fill(journal)
    batch = [accepted(last + 1 + n, body=b"x" * 1_000) for n in range(200)]
    with pytest.raises(interface.StorageFull):
        journal.append(batch)
    _, found = damage.read(crashed(journal, tmp_path))
    assert len(found) == last
    # The journal is as good as before: deletions make room, then the same batch goes through.
    journal.append([records.TaskDeleted(UID, n, f"t{n}") for n in range(1, last + 1)])
    journal.append(batch)
    journal.close()
