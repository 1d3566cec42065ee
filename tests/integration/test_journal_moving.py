"""The SQLite journal keeps a task that moved in one of both pools, with what had become of it."""

import pathlib

import pytest

from penstock_dispatcher.core import idempotency, records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface, sqlite
from rig import damage

OLD, NEW = "uid-old", "uid-new"
POOLS = [records.PoolConfigured(uid, "namespaces/a/pools/b", b"") for uid in (OLD, NEW)]
ACCEPTED = records.TaskAccepted(
    OLD, "t1", "u1", 5, "noop", 0, b"body", 4, 1_000, 0, 50, 4, "r1", 7, 9
)
FAILURE = tasks.Failure(2, "OSError", "no")
TRIED = records.TaskRequeued(OLD, 5, "t1", 1, 2, 30, FAILURE)
THERE = ACCEPTED._replace(pool_uid=NEW, sequence=1, token_min=77)
DEAD = records.TaskEnded(
    NEW, 1, "t1", tasks.TaskState.DEAD_LETTERED, 3, 1, 10, 20, 10, "pod-1", FAILURE, b"", ""
)
HALF = records.TaskCheckpointed(OLD, 5, "t1", b"half")
MOVED = records.TaskMoved(
    NEW,
    THERE,
    TRIED._replace(pool_uid=NEW, sequence=1),
    HALF._replace(pool_uid=NEW, sequence=1),
    records.TaskDeleted(OLD, 5, "t1"),
)


def loaded(
    folder: pathlib.Path, *batches: list[records.Record]
) -> tuple[damage.Kept, list[interface.StoredTask]]:
    """What the next run finds after these."""
    journal = sqlite.SqliteJournal(folder / "data", reserve_bytes=0)
    journal.open()
    for batch in batches:
        journal.append(batch)
    journal.close()
    return damage.load(folder / "data")


@pytest.mark.parametrize("split", [0, 1, 2, 3])
@pytest.mark.parametrize("change", [MOVED.change, DEAD, None])
def test_it_is_where_it_went_as_it_was(
    tmp_path: pathlib.Path, split: int, change: records.TaskRequeued | records.TaskEnded | None
) -> None:
    batch: list[records.Record] = [ACCEPTED, TRIED, HALF, MOVED._replace(change=change)]
    opened, (found,) = loaded(tmp_path, [*POOLS, *batch[:split]], batch[split:])
    assert (found.accepted, found.change) == (THERE, change)
    assert found.checkpoint == (b"" if change is DEAD else b"half")
    old, new = opened.pools
    (remembered,) = opened.requests
    assert remembered[1:] == (
        old.configured.pool_uid,
        "r1",
        idempotency.Request(5, "t1", 7, 1_000),
    )
    assert new.sequence_max == 1


def test_what_became_of_it_afterwards_counts(tmp_path: pathlib.Path) -> None:
    later = records.TaskRequeued(NEW, 1, "t1", 2, 2, 60, None)
    _, (found,) = loaded(tmp_path, [*POOLS, ACCEPTED, MOVED, later])
    assert found.change == later


def test_a_pool_that_is_forgotten_takes_nothing_of_it_along(tmp_path: pathlib.Path) -> None:
    gone = records.PoolPurged(OLD)
    for number, batches in enumerate(
        ([[*POOLS, ACCEPTED, MOVED, gone]], [[*POOLS, ACCEPTED], [gone, MOVED]])
    ):
        _, (found,) = loaded(tmp_path / str(number), *batches)
        assert found.accepted == THERE
