"""The SQLite journal keeps other terms, whatever else it was given in the same batch."""

import pathlib

import pytest

from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import sqlite

UID = "uid-1"
ACCEPTED = records.TaskAccepted(
    UID, "t1", "u1", 1, "noop", 0, b"body", 4, 1_000, 0, 50, 4, "r1", 7, 9
)
UPDATED = records.TaskUpdated(UID, 1, "t1", -8, 700, 90, 700)
REQUEUED = records.TaskRequeued(UID, 1, "t1", 2, 1, 300, tasks.Failure(2, "OSError", "no"))
KEPT = records.TaskUpdated(UID, 1, "t1", 5, 0, 50, 300)
"""The back-off of `REQUEUED` goes on."""
ENDED = records.TaskEnded(
    UID, 1, "t1", tasks.TaskState.CANCELLED, 2, 1, 10, 20, 10, "pod-1", None, b"", ""
)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("given", "terms", "change"),
    [
        ([UPDATED], (-8, 700, 90), None),
        ([UPDATED, KEPT], (5, 0, 50), None),
        ([REQUEUED, KEPT], (5, 0, 50), REQUEUED),
        ([REQUEUED, UPDATED], (-8, 700, 90), REQUEUED._replace(not_before=700)),
        ([UPDATED, REQUEUED], (-8, 700, 90), REQUEUED),
        ([REQUEUED, UPDATED, ENDED], (-8, 700, 90), ENDED),
    ],
)
def test_terms(
    tmp_path: pathlib.Path,
    together: bool,
    given: list[records.Record],
    terms: tuple[int, int, int],
    change: records.Record | None,
) -> None:
    journal = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    journal.open()
    journal.append([records.PoolConfigured(UID, "namespaces/a/pools/b", b"")])
    batch = [ACCEPTED, *given]
    for some in [batch] if together else [[record] for record in batch]:
        journal.append(some)
    journal.close()
    journal = sqlite.SqliteJournal(tmp_path / "data", reserve_bytes=0)
    journal.open()
    (found,) = journal.load_tasks(-1)
    journal.close()
    priority, not_before, expire_time = terms
    assert found.accepted == ACCEPTED._replace(
        priority=priority, not_before=not_before, expire_time=expire_time
    )
    assert found.change == change
