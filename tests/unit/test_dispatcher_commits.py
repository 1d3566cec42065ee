"""The commit loop ends loudly: whatever goes wrong in it, those who wait are told."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from penstock_dispatcher import commits
from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface
from rig import journalled


class BadJournal:
    """Raises what it is given, once something is appended."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def open(self) -> interface.Opened:
        return interface.Opened(epoch=1, operator_epoch=0, pools=())

    async def load_tasks(self, after: int) -> Sequence[interface.StoredTask]:
        return ()

    async def append(self, batch: Sequence[records.Record]) -> None:
        raise self.error

    async def compact(self, now: int) -> bool:
        return False

    def full(self) -> bool:
        return False

    async def close(self) -> None:
        pass


async def failure_of(journal: interface.Journal, committed: Callable[[], None]) -> BaseException:
    log = records.RecordLog()
    made = commits.Commits(log=log, journal=journal, committed=committed)
    running = asyncio.ensure_future(made.run())
    lsn = log.append(records.OperatorSeen(1))
    made.gather()
    waiting = asyncio.ensure_future(made.durable(lsn))
    async with asyncio.timeout(5):
        await asyncio.wait((waiting, running))
    if made.durable_lsn < lsn:
        assert isinstance(waiting.exception(), interface.JournalFailed)
    with pytest.raises(interface.JournalFailed):
        await made.durable(lsn + 1)
    error = made.failed.exception()
    assert isinstance(error, interface.JournalFailed)
    return error


@pytest.mark.parametrize(
    "error",
    [
        interface.JournalFailed("the disk is broken"),
        OverflowError("Python int too large to convert to SQLite INTEGER"),
        KeyError("uid"),
    ],
)
async def test_an_append_that_raises_anything_is_a_journal_that_failed(error: Exception) -> None:
    found = await failure_of(BadJournal(error), lambda: None)
    assert str(error) in str(found)
    assert found is error or found.__cause__ is error


async def test_a_fault_after_a_commit_is_told_too() -> None:
    class GoodJournal(BadJournal):
        async def append(self, batch: Sequence[records.Record]) -> None:
            pass

    def committed() -> None:
        raise RuntimeError("a fault")

    assert "a fault" in str(await failure_of(GoodJournal(RuntimeError()), committed))


async def test_a_commit_is_bounded_in_bytes_of_errors_too() -> None:
    sizes: list[int] = []

    class Measuring(BadJournal):
        async def append(self, batch: Sequence[records.Record]) -> None:
            sizes.append(len(batch))

    log = records.RecordLog()
    made = commits.Commits(log=log, journal=Measuring(RuntimeError()), committed=lambda: None)
    failure = tasks.Failure(2, "E", "", b"s" * 64 * 1024)
    for number in range(100):
        log.append(records.TaskRequeued("u", number, "t", 1, 0, 0, failure))
    running = asyncio.ensure_future(made.run())
    async with asyncio.timeout(5):
        await made.idle()
    running.cancel()
    assert sum(sizes) == 100
    assert max(sizes) * 64 * 1024 <= interface.COMMIT_BYTES_MAX


def record(number: int, *, accepted: bool, size: int = 0) -> records.Record:
    """A task was accepted, or has become something."""
    if accepted:
        return journalled.accepted("u", number, bytes(size))
    return records.TaskRequeued("u", number, "t", 1, 0, 0, tasks.Failure(2, "E", "", bytes(size)))


@pytest.mark.parametrize(("count", "size"), [(2_049, 0), (17, 1024 * 1024)])
async def test_a_journal_is_behind_with_what_tasks_become_and_not_with_new_ones(
    count: int, size: int
) -> None:
    class Journal(BadJournal):
        async def append(self, batch: Sequence[records.Record]) -> None:
            await asyncio.sleep(0)

    log = records.RecordLog()
    made = commits.Commits(log=log, journal=Journal(RuntimeError()), committed=lambda: None)
    for number in range(2 * count):
        log.append(record(number, accepted=True, size=size))
    made.gather()
    assert not made.behind, "a flood of submissions holds up nobody else"
    for number in range(count):
        log.append(record(number, accepted=False, size=size))
    made.gather()
    assert made.behind
    running = asyncio.ensure_future(made.run())
    async with asyncio.timeout(30):
        await made.idle()
    running.cancel()
    assert not made.behind
    assert made.backlog() == made._begun == made._begun_bytes == 0
