"""Group commit: the records that have gathered go to the journal in batches, one after the other.

While a commit is under way the next batch gathers; that is all the batching there is. As soon as it
is full it follows, so that the journal has work while a busy loop has not yet read its answer.
Callers that must be silent until their record is durable wait here, many on one future.

Records become durable in their order, and what is not durable yet lies in memory. So a journal that
is `behind` with what tasks become (workers end them faster than it writes, a slow disk, a full one)
holds dispatch back, as well as expiry and deletion.

A full disk delays (the same batches are tried again every `RETRY_SECONDS`, nothing after them can
pass); a failing one ends it all: `failed` carries the reason, and whoever waits is told. So does
anything else that goes wrong here: a dispatcher that no longer commits must end, not fall silent.
"""

import asyncio
import collections
import contextlib
import itertools
import logging
from collections.abc import Callable
from typing import Final

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import interface

_log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
COMMITS_MAX: Final = 2
"""Under way at once."""
BEHIND_RECORDS_MAX: Final = 4 * interface.COMMIT_RECORDS_MAX
BEHIND_BYTES_MAX: Final = 16 * interface.COMMIT_BYTES_MAX
"""Not durable yet, before nothing is begun any more that makes records; what runs may still end.
Enough to keep the journal busy: with more, a long queue and hungry workers would keep everybody
else's records waiting, and whoever submits, in whatever pool, waits behind them. A result may have
four commits' bytes.
"""


class _Commit:
    """A batch that the journal has. `begun`: how many of its records, and how many of their bytes,
    are of what tasks have become.
    """

    __slots__ = ("answer", "batch", "begun", "begun_bytes")

    def __init__(self, batch: list[records.Record], begun: int, begun_bytes: int) -> None:
        self.batch = batch
        self.begun = begun
        self.begun_bytes = begun_bytes
        self.answer: asyncio.Future[object]


class _Group:
    """Callers whose records lie close together: they learn of their durability at once."""

    __slots__ = ("first", "future", "last")

    def __init__(self, lsn: int) -> None:
        self.first = self.last = lsn
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()


def _size(record: records.Record) -> int:
    """Bytes of the parts that may be large."""
    if type(record) is records.TaskAccepted:
        return len(record.body)
    if type(record) is records.TaskEnded:
        failure = record.failure
        return len(record.result) + (len(failure.status) if failure else 0)
    if type(record) is records.TaskCheckpointed:
        return len(record.checkpoint)
    if (
        isinstance(record, records.TaskRequeued | records.TaskRedriven | records.TaskCancelling)
        and record.failure
    ):
        return len(record.failure.status)
    if type(record) is records.TaskMoved:
        return sum(map(_size, record.parts))
    return 0


class Commits:
    """Moves records from `log` to `journal`; `committed` is called after each commit."""

    def __init__(
        self, *, log: records.RecordLog, journal: interface.Journal, committed: Callable[[], None]
    ) -> None:
        self.durable_lsn = 0
        self.stuck = False
        """The last commit found no room at all."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = log
        self._journal = journal
        self._committed = committed
        self._queue: collections.deque[records.Record] = collections.deque()
        self._sizes: collections.deque[int] = collections.deque()
        self._waiting_bytes = 0
        """Of what is in the queue: of each record, and together."""
        self._begun = self._begun_bytes = 0
        """Of what was gathered and is not durable yet, all but accepted tasks."""
        self._under_way: collections.deque[_Commit] = collections.deque()
        self._gathered = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._groups: collections.deque[_Group] = collections.deque()

    def gather(self) -> None:
        """Take over what the log holds; cheap if that is nothing."""
        if len(self._log):
            taken = self._log.take()
            self._queue.extend(taken)
            for record in taken:
                size = _size(record)
                self._sizes.append(size)
                self._waiting_bytes += size
                if type(record) is not records.TaskAccepted:
                    self._begun += 1
                    self._begun_bytes += size
            self._idle.clear()
            self._gathered.set()
            if self._under_way:
                try:
                    self._follow()
                except Exception as error:
                    self.fail(error)

    @property
    def behind(self) -> bool:
        """More is not durable yet than should be: nothing that makes records should be begun.
        Accepted tasks do not count: who submits waits for them, and holds up nobody else.
        """
        return self._begun > BEHIND_RECORDS_MAX or self._begun_bytes > BEHIND_BYTES_MAX

    def backlog(self) -> int:
        """Records not yet durable."""
        return self._log.last - self.durable_lsn

    async def durable(self, lsn: int) -> None:
        """Return when record `lsn` is durable. Raises JournalFailed."""
        if lsn <= self.durable_lsn:
            return
        if self.failed.done():
            raise interface.JournalFailed("the journal has failed")
        group = self._groups[-1] if self._groups else None
        if group is None or lsn - group.first >= interface.COMMIT_RECORDS_MAX:
            group = _Group(lsn)
            self._groups.append(group)
        group.last = max(group.last, lsn)
        # Shielded: a caller that goes away must not take the others with it.
        await asyncio.shield(group.future)

    async def idle(self) -> None:
        """Return when everything that was gathered is durable. Raises JournalFailed."""
        self.gather()
        waiting = asyncio.ensure_future(self._idle.wait())
        try:
            await asyncio.wait((waiting, self.failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self.failed.done():
            await self.failed

    async def run(self) -> None:
        """Commit for ever."""
        try:
            while True:
                await self._gathered.wait()
                self._gathered.clear()
                while self._queue or self._under_way:
                    if not self._under_way:
                        self._begin()
                        self._follow()
                    count = await self._first()
                    if self.failed.done():
                        return
                    self._follow()
                    self.durable_lsn += count
                    # Work goes out before answers do: its frame leaves 0.2 ms earlier.
                    self._committed()
                    self._release()
                self._idle.set()
        except Exception as error:
            self.fail(error)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Nothing follows any more, and nobody hears of what is under way."""
        for commit in self._under_way:
            if not commit.answer.cancel() and not commit.answer.cancelled():
                commit.answer.exception()
        self._under_way.clear()

    def _follow(self) -> None:
        """Begin with what makes full commits. Never after a failure: what was to come before them
        may be missing.
        """
        while (
            self._full()
            and len(self._under_way) < COMMITS_MAX
            and not self.stuck
            and not self.failed.done()
        ):
            self._begin()

    def _full(self) -> bool:
        return (
            len(self._queue) >= interface.COMMIT_RECORDS_MAX
            or self._waiting_bytes >= interface.COMMIT_BYTES_MAX
        )

    def _begin(self) -> None:
        commit = self._next()
        commit.answer = self._append(commit, follows=bool(self._under_way))
        self._under_way.append(commit)

    def _append(self, commit: _Commit, *, follows: bool) -> asyncio.Future[object]:
        return asyncio.ensure_future(self._journal.append(commit.batch, follows=follows))

    def _next(self) -> _Commit:
        queue, sizes = self._queue, self._sizes
        batch: list[records.Record] = []
        room = interface.COMMIT_BYTES_MAX
        begun = begun_bytes = 0
        while queue and len(batch) < interface.COMMIT_RECORDS_MAX:
            if sizes[0] > room and batch:
                break
            record, size = queue.popleft(), sizes.popleft()
            batch.append(record)
            room -= size
            self._waiting_bytes -= size
            if type(record) is not records.TaskAccepted:
                begun += 1
                begun_bytes += size
        return _Commit(batch, begun, begun_bytes)

    async def _first(self) -> int:
        """Returns how many records are durable by the first commit that is under way."""
        while True:
            try:
                await self._under_way[0].answer
            except interface.StorageFull:
                self.stuck = True
                await self._again()
            else:
                self.stuck = False
                # Nobody keeps it: it would stay in memory until there is another one.
                commit = self._under_way.popleft()
                self._begun -= commit.begun
                self._begun_bytes -= commit.begun_bytes
                return len(commit.batch)

    async def _again(self) -> None:
        """All of what is under way, after the first found no room; what followed was refused."""
        for commit in itertools.islice(self._under_way, 1, None):
            with contextlib.suppress(interface.StorageFull):
                await commit.answer
        await asyncio.sleep(RETRY_SECONDS)
        await self._journal.compact(0)
        for place, commit in enumerate(self._under_way):
            commit.answer = self._append(commit, follows=place > 0)

    def _release(self) -> None:
        while self._groups and self._groups[0].last <= self.durable_lsn:
            future = self._groups.popleft().future
            if not future.done():
                future.set_result(None)

    def fail(self, cause: Exception) -> None:
        """Nothing goes on from here: tell everybody who waits. Idempotent."""
        if self.failed.done():
            return
        if isinstance(cause, interface.JournalFailed):
            error = cause
        else:
            _log.error("a fault of the dispatcher", exc_info=cause)
            error = interface.JournalFailed(f"a fault of the dispatcher: {cause!r}")
            error.__cause__ = cause
        self.failed.set_exception(error)
        self.failed.exception()  # somebody may never ask; that is no reason for a warning
        while self._groups:
            future = self._groups.popleft().future
            if not future.done():
                future.set_exception(error)
                future.exception()
