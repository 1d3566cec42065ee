"""The SQLite journal keeps that a task which had ended waits again."""

import pathlib

import pytest

from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import sqlite

UID = "uid-1"
ACCEPTED = records.TaskAccepted(
    UID, "t1", "u1", 1, "noop", 0, b"body", 4, 1_000, 0, 50, 4, "r1", 7, 9
)
ENDED = records.TaskEnded(
    UID, 1, "t1", tasks.TaskState.DEAD_LETTERED, 3, 1, 10, 20, 10, "pod-1", None, b"", ""
)
FAILURE = tasks.Failure(2, "OSError", "no")
REDRIVEN = records.TaskRedriven(UID, 1, "t1", 1234, FAILURE)


@pytest.mark.parametrize("batches", [[[ENDED, REDRIVEN]], [[ENDED], [REDRIVEN]]])
@pytest.mark.parametrize("again", [False, True])
def test_it_has_no_outcome_no_time_to_start_by_and_newer_tokens(
    tmp_path: pathlib.Path, batches: list[list[records.Record]], again: bool
) -> None:
    journal = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    journal.open()
    journal.append([records.PoolConfigured(UID, "namespaces/a/pools/b", b""), ACCEPTED])
    for batch in batches:
        journal.append(batch)
    if again:
        journal.append([ENDED])
    journal.close()
    journal = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    journal.open()
    (found,) = journal.load_tasks(-1)
    journal.close()
    assert found.accepted == ACCEPTED._replace(expire_time=0, token_min=1234)
    waits = records.TaskRequeued(UID, 1, "t1", 0, 0, 0, FAILURE)
    assert found.change == (ENDED if again else waits)
