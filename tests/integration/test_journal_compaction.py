"""The file and its log stay in proportion to what is alive, and commits do not wait for that."""

import pathlib
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import compaction, interface, sqlite
from rig import damage

UID = damage.POOLS[0].pool_uid
MIB = 1024 * 1024
BATCH = 200
STALL_SECONDS_MAX = 2.0


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> Iterator[sqlite.SqliteJournal]:
    made = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    made.open()
    made.append([damage.POOLS[0]])
    yield made
    made.close()


def append_all(journal: sqlite.SqliteJournal, batch: Iterable[Any], *, size: int) -> None:
    """In commits as `commits` makes them."""
    found = list(batch)
    count = max(1, min(BATCH, interface.COMMIT_BYTES_MAX // max(1, size)))
    for start in range(0, len(found), count):
        journal.append(found[start : start + count])


def pragma(journal: sqlite.SqliteJournal, name: str) -> int:
    return int(journal._opened().execute(f"PRAGMA {name}").fetchone()[0])


def living_bytes(journal: sqlite.SqliteJournal) -> int:
    """The bytes of every value in every row of tasks, outcomes and request ids."""
    connection, total = journal._opened(), 0
    for table in ("tasks", "changes", "requests"):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        each = " + ".join(
            f"CASE typeof({name}) WHEN 'integer' THEN 8 ELSE coalesce(length({name}), 0) END"
            for name in names
        )
        found = connection.execute(f"SELECT coalesce(sum({each}), 0) FROM {table}")
        total += found.fetchone()[0]
    return total


def stored_bytes(folder: pathlib.Path) -> int:
    return sum((folder / name).stat().st_size for name in (sqlite.FILE_NAME, sqlite.LOG_NAME))


def compacted(journal: sqlite.SqliteJournal) -> None:
    for _ in range(100_000):
        if not journal.compact():
            return
    raise AssertionError("compaction does not end")


def every_third(numbers: Sequence[int]) -> list[int]:
    """The worst for pages of three rows: each keeps one."""
    return [number for number in numbers if number % 3]


def most_of_them(numbers: Sequence[int]) -> list[int]:
    return random.Random(1).sample(list(numbers), len(numbers) * 9 // 10)


def oldest(numbers: Sequence[int]) -> list[int]:
    """As retention ends."""
    return list(numbers[: len(numbers) * 9 // 10])


@pytest.mark.parametrize(
    ("which", "count", "body", "result"),
    [
        (most_of_them, 12_000, 100, 300),
        (oldest, 12_000, 100, 300),
        (every_third, 8_000, 1_200, 0),
        (most_of_them, 6_000, 2_000, 0),
        (most_of_them, 40, MIB, MIB),
    ],
)
def test_the_file_is_in_proportion_to_what_is_alive(
    journal: sqlite.SqliteJournal,
    tmp_path: pathlib.Path,
    count: int,
    body: int,
    result: int,
    which: Any,
) -> None:
    folder = tmp_path / "data"
    sequence = 0
    for _ in range(2):  # filled, emptied, filled again
        numbers = range(sequence + 1, sequence + count + 1)
        sequence += count
        append_all(
            journal,
            (damage.accepted(UID, n, body=b"x" * body, request_id=f"r{n}") for n in numbers),
            size=body,
        )
        append_all(
            journal, (damage.ended(UID, n, result=b"r" * result) for n in numbers), size=result
        )
        gone = which(numbers)
        append_all(journal, (records.TaskDeleted(UID, n, f"t{n}") for n in gone), size=0)
        forgotten = (records.RequestForgotten(UID, n, f"r{n}") for n in gone)
        append_all(journal, forgotten, size=0)
        before = stored_bytes(folder)
        compacted(journal)
        living = living_bytes(journal)
        bound = compaction.LIVE_FACTOR_MAX * living + compaction.FLOOR_BYTES
        print(
            f"{before / MIB:.1f} MiB, then {stored_bytes(folder) / MIB:.1f}, alive {living / MIB}"
        )
        assert stored_bytes(folder) <= bound
    # Everything goes: what is left is the floor.
    append_all(
        journal, (records.TaskDeleted(UID, n, f"t{n}") for n in range(1, sequence + 1)), size=0
    )
    append_all(
        journal, (records.RequestForgotten(UID, n, "") for n in range(1, sequence + 1)), size=0
    )
    compacted(journal)
    assert living_bytes(journal) == 0
    assert stored_bytes(folder) <= compaction.FLOOR_BYTES


def test_a_step_gives_back_a_few_pages_and_commits_go_on_in_between(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    count, body = 60, MIB
    append_all(
        journal,
        (damage.accepted(UID, n, body=b"x" * body) for n in range(1, count + 1)),
        size=body,
    )
    before = stored_bytes(tmp_path / "data")
    journal.append([records.TaskDeleted(UID, n, f"t{n}") for n in range(1, count + 1)])
    free, sequence, longest = pragma(journal, "freelist_count"), count, 0.0
    assert free > count * body // sqlite.PAGE_BYTES
    more = True
    while more:
        began = time.monotonic()
        more = journal.compact()
        sequence += 1
        journal.append([damage.accepted(UID, sequence, body=b"x" * 100)])
        longest = max(longest, time.monotonic() - began)
        left = pragma(journal, "freelist_count")
        # All that a step may, or compaction would never catch up, and no more.
        assert not more or free - left >= compaction.VACUUM_PAGES_MAX
        assert free - left <= compaction.VACUUM_PAGES_MAX + 8
        free = left
    print(f"longest step and commit: {longest * 1000:.0f} ms")
    assert longest < STALL_SECONDS_MAX
    assert stored_bytes(tmp_path / "data") < before / 4
    journal.close()
    _, found = damage.load(tmp_path / "data")
    assert found[-1].accepted.sequence == sequence


def test_deleting_large_payloads_is_a_small_commit(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    """Where SQLite is built to blank what it deletes, this took a second and a log of 64 MiB."""
    for number in range(1, 65):
        journal.append([damage.accepted(UID, number, body=b"x" * MIB)])
    journal.append([records.TaskDeleted(UID, n, f"t{n}") for n in range(1, 65)])
    log = tmp_path / "data" / sqlite.LOG_NAME
    assert log.stat().st_size <= compaction.LOG_BYTES_MAX


def test_a_long_log_is_cut_to_its_limit(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    log = tmp_path / "data" / sqlite.LOG_NAME
    journal.append([damage.accepted(UID, 1, body=b"x" * (3 * compaction.LOG_BYTES_MAX))])
    assert log.stat().st_size > 3 * compaction.LOG_BYTES_MAX
    journal.append([damage.accepted(UID, 2, body=b"x")])
    assert log.stat().st_size <= compaction.LOG_BYTES_MAX


def test_the_rows_of_a_purged_pool_go_in_steps_of_few_bytes(
    journal: sqlite.SqliteJournal, tmp_path: pathlib.Path
) -> None:
    count = 4 * compaction.PURGE_BYTES_MAX // MIB
    gone = damage.PURGED.pool_uid
    journal.append([damage.PURGED, damage.accepted(UID, 1, body=b"stays")])
    for number in range(1, count + 1):
        journal.append([damage.accepted(gone, number, body=b"x" * MIB)])
    journal.append([records.PoolPurged(gone)])
    used = pragma(journal, "page_count")
    steps = 0
    while journal.compact():
        left = pragma(journal, "page_count") - pragma(journal, "freelist_count")
        assert used - left <= 1.1 * compaction.PURGE_BYTES_MAX // sqlite.PAGE_BYTES
        used, steps = left, steps + 1
    assert steps >= 4
    assert living_bytes(journal) < 1_000
    journal.close()
    _, (task,) = damage.load(tmp_path / "data")
    assert task.accepted.body == b"stays"
