"""The SQLite journal and its disk: the log is moved in time, a failed move is final, and a full
disk is no reason not to start.
"""

import pathlib
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface, sqlite, wal
from rig import journalled, small_disk

UID = "uid-1"
CONFIGURED = records.PoolConfigured(UID, "namespaces/a/pools/b", b"config")
LOG_BYTES_MAX = (sqlite.CHECKPOINT_PAGES + 100) * (sqlite.PAGE_BYTES + wal.FRAME_HEADER_BYTES)


def accepted(sequence: int, size: int = 1_000) -> records.TaskAccepted:
    return journalled.accepted(UID, sequence, b"x" * size)


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> Iterator[sqlite.SqliteJournal]:
    made = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=4096)
    made.open()
    made.append([CONFIGURED])
    yield made
    made.close()


def test_the_length_of_the_log_is_known(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    log = wal.Log(tmp_path / "data" / sqlite.LOG_NAME, page_bytes=sqlite.PAGE_BYTES)
    sequence = 1
    # Rounds of other lengths leave frames of before behind the newest one.
    for commits in (1, 40, 3, 1, 25):
        for _ in range(commits):
            journal.append([accepted(sequence + n) for n in range(20)])
            sequence += 20
        row = journal._opened().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        busy, pages, moved = row
        assert not busy
        assert pages == moved > 0
        assert log.reaches(pages)
        assert not log.reaches(pages + 1)
    log.close()
    log.close()


def test_the_log_stays_short_under_steady_load(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    for start in range(1, 20_000, 100):
        journal.append([accepted(start + n) for n in range(100)])
        assert (tmp_path / "data" / sqlite.LOG_NAME).stat().st_size < LOG_BYTES_MAX
    # It was moved, not only written over.
    assert (tmp_path / "data" / sqlite.FILE_NAME).stat().st_size > 15_000_000


@pytest.fixture
def file_bytes_max() -> Iterator[int]:
    """No file of this process may grow beyond that: writing there fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = LOG_BYTES_MAX + 1024 * 1024
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_log_that_cannot_be_moved_is_final(tmp_path: pathlib.Path, file_bytes_max: int) -> None:
    journal = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    journal.open()
    journal.append([CONFIGURED])
    appended = 0

    def fill() -> None:
        nonlocal appended
        for start in range(1, 20_000, 100):
            journal.append([accepted(start + n) for n in range(100)])
            appended = start + 99

    with pytest.raises(interface.JournalFailed, match=r"journal\.db: disk I/O error"):
        fill()
    # At once, and not when there is no room for the log either.
    assert (tmp_path / "data" / sqlite.LOG_NAME).stat().st_size < LOG_BYTES_MAX
    journal.close()
    resource.setrlimit(
        resource.RLIMIT_FSIZE,
        (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]),
    )
    again = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    assert again.open().pools[0].sequence_max >= appended > 0
    again.close()


# ---------------------------------------------------------------- a real full disk


def start_on_a_full_disk(folder: pathlib.Path) -> None:
    reserve_bytes = 1024 * 1024
    journal = sqlite.SqliteJournal(folder, reserve_bytes=reserve_bytes)
    journal.open()
    journal.append([CONFIGURED, *(accepted(n) for n in range(1, 101))])
    journal.close()
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    journal = sqlite.SqliteJournal(folder, reserve_bytes=reserve_bytes)
    opened = journal.open()
    assert opened.epoch == 2
    assert journal.full()
    assert len(journal.load_tasks(-1)) == 100
    # What completes tasks goes on, in the room that the reserve had.
    end = records.TaskEnded(
        UID, 1, "t1", tasks.TaskState.SUCCEEDED, 1, 0, 1, 2, 3, "pod", None, b"r" * 100_000, ""
    )
    journal.append([end])
    journal.compact()
    assert journal.full()
    filler.unlink()
    journal.compact()
    assert not journal.full()
    assert (folder / sqlite.RESERVE_NAME).stat().st_size == reserve_bytes
    journal.close()


def start_without_a_reserve(folder: pathlib.Path) -> None:
    (folder / "filler").write_bytes(b"x" * (4 * 1024 * 1024 - 8 * 1024))
    journal = sqlite.SqliteJournal(folder, reserve_bytes=0)
    with pytest.raises(interface.JournalFailed, match="make room, then start again"):
        journal.open()
    journal.close()


@pytest.mark.parametrize("test", [start_on_a_full_disk, start_without_a_reserve])
def test_a_full_disk_at_the_start(test: Any, tmp_path: pathlib.Path) -> None:
    small_disk.run(test, __file__, tmp_path / "disk", mib=4)
