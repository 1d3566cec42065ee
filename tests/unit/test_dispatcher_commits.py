"""The commit loop ends loudly: whatever goes wrong in it, those who wait are told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio

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

    async def load_requests(self, after: int) -> Sequence[interface.StoredRequest]:
        return ()

    async def append(self, batch: Sequence[records.Record], *, follows: bool = False) -> None:
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
        async def append(self, batch: Sequence[records.Record], *, follows: bool = False) -> None:
            pass

    def committed() -> None:
        raise RuntimeError("a fault")

    assert "a fault" in str(await failure_of(GoodJournal(RuntimeError()), committed))


async def test_a_commit_is_bounded_in_bytes_of_errors_too() -> None:
    sizes: list[int] = []

    class Measuring(BadJournal):
        async def append(self, batch: Sequence[records.Record], *, follows: bool = False) -> None:
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
        async def append(self, batch: Sequence[records.Record], *, follows: bool = False) -> None:
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


# ---------------------------------------------------------------- one behind the other


class SlowJournal:
    """Answers when it is told to, and has the sizes of what it was asked to append."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool, asyncio.Future[None]]] = []
        self.compacted = 0

    def append(
        self, batch: Sequence[records.Record], *, follows: bool = False
    ) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked.append((len(batch), follows, answer))
        return answer

    async def compact(self, now: int) -> bool:
        self.compacted += 1
        return False

    @property
    def batches(self) -> list[tuple[int, bool]]:
        """How many records, and whether they follow."""
        return [(count, follows) for count, follows, _ in self.asked]

    async def says(self, number: int, error: Exception | None = None) -> None:
        """Answer what was asked as the `number`th, and let that be heard."""
        answer = self.asked[number][2]
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)
        for _ in range(5):
            await asyncio.sleep(0)


class Slow:
    """Commits over a slow journal, and records to commit."""

    def __init__(self) -> None:
        self.journal, self.log = SlowJournal(), records.RecordLog()
        self.commits = commits.Commits(
            log=self.log,
            journal=self.journal,  # type: ignore[arg-type] - it is never opened
            committed=lambda: None,
        )
        self.running = asyncio.ensure_future(self.commits.run())

    async def gather(self, count: int, *, size: int = 0) -> None:
        for number in range(count):
            self.log.append(record(number, accepted=False, size=size))
        self.commits.gather()
        await asyncio.sleep(0)


FULL = interface.COMMIT_RECORDS_MAX


@pytest_asyncio.fixture
async def slow() -> AsyncIterator[Slow]:
    made = Slow()
    yield made
    made.running.cancel()


async def test_a_full_batch_follows_before_the_first_has_its_answer(slow: Slow) -> None:
    await slow.gather(1)
    await slow.gather(FULL - 1)
    assert slow.journal.batches == [(1, False)], "what is not full waits, and grows"
    await slow.gather(1)
    await slow.gather(2 * FULL)
    assert slow.journal.batches == [(1, False), (FULL, True)], "two at once, not more"
    assert slow.commits.durable_lsn == 0
    await slow.journal.says(0)
    assert slow.commits.durable_lsn == 1
    assert slow.journal.batches[2:] == [(FULL, True)]
    await slow.journal.says(1)
    await slow.journal.says(2)
    assert slow.commits.durable_lsn == 1 + 2 * FULL
    assert slow.journal.batches[3:] == [(FULL, True)]
    await slow.journal.says(3)
    assert slow.commits.backlog() == slow.commits._begun == 0
    await slow.gather(2)
    assert slow.journal.batches[4:] == [(2, False)], "nothing is under way that it could follow"


async def test_bytes_make_a_batch_full_too(slow: Slow) -> None:
    await slow.gather(1)
    await slow.gather(15, size=64 * 1024)
    assert slow.journal.batches == [(1, False)]
    await slow.gather(9, size=64 * 1024)
    assert slow.journal.batches == [(1, False), (16, True)]
    await slow.journal.says(0)
    await slow.journal.says(1)
    await slow.journal.says(2)
    assert slow.journal.batches[2:] == [(8, False)]
    assert slow.commits._waiting_bytes == 0


async def test_two_begin_together_if_there_is_so_much(slow: Slow) -> None:
    await slow.gather(2 * FULL + 1)
    assert slow.journal.batches == [(FULL, False), (FULL, True)]


async def test_what_follows_a_batch_without_room_is_tried_again_behind_it(slow: Slow) -> None:
    full = interface.StorageFull("no room")
    await slow.gather(1)
    await slow.gather(FULL)
    await slow.journal.says(0, full)
    assert slow.commits.stuck
    await slow.gather(2 * FULL)
    await asyncio.sleep(1.5 * commits.RETRY_SECONDS)
    assert slow.journal.batches == [(1, False), (FULL, True)], "nothing new meanwhile"
    assert slow.journal.compacted == 0, "not before all of it is known to be refused"
    await slow.journal.says(1, full)
    async with asyncio.timeout(10 * commits.RETRY_SECONDS):
        while not slow.journal.compacted:
            await asyncio.sleep(0.05)
    assert slow.journal.batches[2:] == [(1, False), (FULL, True)], "the same, in their order"
    assert slow.commits.durable_lsn == 0
    await slow.journal.says(2)
    assert (slow.commits.durable_lsn, slow.commits.stuck) == (1, False)
    await slow.journal.says(3)
    assert slow.commits.durable_lsn == 1 + FULL
    assert slow.journal.batches[4:] == [(FULL, True), (FULL, True)]


async def test_what_follows_may_fail_by_itself(slow: Slow) -> None:
    await slow.gather(1)
    await slow.gather(FULL)
    await slow.journal.says(0)
    await slow.gather(FULL)
    await slow.journal.says(1, interface.JournalFailed("the disk is broken"))
    assert "the disk is broken" in str(slow.commits.failed.exception())
    assert slow.running.done()
    assert slow.commits.durable_lsn == 1
    assert slow.journal.asked[2][2].cancelled(), "nobody hears of it any more"


@pytest.mark.parametrize("gathered", ["while one is under way", "before one ends"])
async def test_nothing_is_committed_behind_a_batch_that_could_not_be_given(
    slow: Slow, gathered: str
) -> None:
    """Else what builds on its records would be durable without them."""
    append = slow.journal.append

    def fault(batch: Sequence[records.Record], *, follows: bool = False) -> asyncio.Future[None]:
        slow.journal.append = append  # type: ignore[method-assign]
        raise OverflowError("a number without end")

    await slow.gather(1)
    if gathered == "before one ends":
        await slow.gather(2 * FULL)
        slow.journal.append = fault  # type: ignore[method-assign]
        await slow.journal.says(0)
    else:
        slow.journal.append = fault  # type: ignore[method-assign]
        await slow.gather(FULL)
    asked = len(slow.journal.asked)
    await slow.gather(FULL)
    error = slow.commits.failed.exception()
    assert isinstance(error, interface.JournalFailed)
    assert isinstance(error.__cause__, OverflowError)
    if gathered == "while one is under way":
        await slow.journal.says(0)
    await slow.gather(FULL)
    assert slow.running.done()
    assert len(slow.journal.asked) == asked


async def test_nothing_is_given_to_the_journal_after_the_end(slow: Slow) -> None:
    """It may be closed by then."""
    await slow.gather(1)
    slow.running.cancel()
    await asyncio.wait((slow.running,))
    await slow.gather(FULL)
    assert slow.journal.batches == [(1, False)]
    assert not slow.commits.failed.done()
