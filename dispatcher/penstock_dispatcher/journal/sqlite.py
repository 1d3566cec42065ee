"""The journal in one SQLite file: the default. Its verbs are those of `interface.Journal`, but they
block, and `compact` asks for no time: `served` calls them, in a process of its own.

One connection, exclusively locked before its first read; write-ahead log with `synchronous=FULL`,
both read back, because SQLite ignores what it cannot do. A commit that returns has been synced.

Room: a *reserve* file lies beside the journal. When the disk (or `pages_max`) is full the reserve
is given up, the refused batch is written again in its place, and `full` tells that admission
should close; what completes tasks goes on in that room. `compact` wins the reserve back when there
is space again.

The log is moved into the file (a checkpoint) as soon as it has `CHECKPOINT_PAGES`, by the commit
that made it so long: SQLite's own way of doing that would pass over a failed write or sync.

Damage: every row has a sum (`sums`), and a *mark* beside the file (`mark`) tells how far it was
acknowledged. A file that fits neither is refused at the start, or as soon as it shows (`checking`).

Any other error of the file is final: see `interface`.
"""

import contextlib
import os
import pathlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import (
    checking,
    compaction,
    filesystem,
    interface,
    mark,
    reading,
    rows,
    salvage,
    schema,
    wal,
)

FILE_NAME: Final = "journal.db"
LOG_NAME: Final = f"{FILE_NAME}-wal"
RESERVE_NAME: Final = "journal.reserve"
MARK_NAME: Final = "journal.mark"
RESERVE_BYTES: Final = 16 * 1024 * 1024
PAGE_BYTES: Final = 4096
CACHE_KIB: Final = 16 * 1024
CHECKPOINT_PAGES: Final = 1_000
"""Pages in the write-ahead log; one commit may go beyond, so its file has a few more."""
LOCK_SECONDS: Final = 5.0
"""How long a start waits for the file: whoever had it before may have been killed, and its last
commit may still be on its way to the disk."""
_LOCK_STEP_SECONDS: Final = 0.02
_COUNT_COMMIT: Final = "UPDATE meta SET value = ? WHERE name = 'commits'"
_T = TypeVar("_T")


class SqliteJournal:
    """A journal in `folder`, which is made if it is missing. `pages_max` bounds the file, in pages
    of 4 KiB, 0 = the disk does. `salvage`: use a damaged one without what is damaged, and `say`
    what that is.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        pages_max: int = 0,
        reserve_bytes: int = RESERVE_BYTES,
        salvage: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._pages_max = pages_max
        self._reserve_bytes = reserve_bytes
        self._salvage = salvage
        self._say = say
        self._connection: sqlite3.Connection | None = None
        self._writer: rows.RowWriter | None = None
        self._log: wal.Log | None = None
        self._mark: mark.Mark | None = None
        self._commits = 0
        self._appended = True
        """The last batch that was given was written."""
        self._gives_back = False
        self.pool_uids: dict[int, str] = {}
        """By number, as they were when it was opened."""
        self._full = False

    # ------------------------------------------------------------ verbs

    def open(self) -> interface.Opened:
        """See `interface.Journal`."""
        with self._telling(reading=True):
            return self._open()

    def load_tasks(self, after: int) -> Sequence[interface.StoredTask]:
        """See `interface.Journal`."""
        return reading.stored_tasks(self.load_rows(after), self.pool_uids)

    def load_rows(self, after: int) -> Sequence[reading.TaskRow]:
        """The same, as it is read."""
        with self._telling(reading=True):
            return reading.task_rows(self._opened(), pool_uids=self.pool_uids, after=after)

    def load_requests(self, after: int) -> Sequence[interface.StoredRequest]:
        """See `interface.Journal`."""
        return reading.stored_requests(self.load_request_rows(after), self.pool_uids)

    def load_request_rows(self, after: int) -> Sequence[reading.RequestRow]:
        """The same, as it is read."""
        with self._telling(reading=True):
            return reading.request_rows(self._opened(), after=after)

    def append(self, batch: Sequence[records.Record], *, follows: bool = False) -> None:
        """See `interface.Journal`."""
        if follows and not self._appended:
            raise interface.StorageFull("there was none for what comes before")
        self._appended = False
        with self._telling():
            self._with_reserve(lambda: self._commit(batch))
            self._appended = True
            self._checkpoint()

    def compact(self) -> bool:
        """See `interface.Journal`."""
        with self._telling():
            more = self._compact()
            # The file becomes shorter only when what was given back is moved into it.
            self._checkpoint(now=self._gives_back and not more)
            self._gives_back = more
            return more

    def full(self) -> bool:
        """See `interface.Journal`."""
        return self._full

    def close(self) -> None:
        """See `interface.Journal`."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
        if self._log is not None:
            self._log.close()
        if self._mark is not None:
            self._mark.close()

    @contextlib.contextmanager
    def _telling(self, *, reading: bool = False) -> Iterator[None]:
        """What goes wrong inside is told as `interface` says."""
        file = self._folder / FILE_NAME
        try:
            yield
        except sqlite3.Error as error:
            if checking.shows_damage(error, file, reading=reading):
                raise self._damaged(error) from error
            raise interface.JournalFailed(f"{file}: {error}") from error
        except (checking.Damaged, UnicodeDecodeError) as error:
            # SQLite's complaints may quote what they are about.
            raise self._damaged(error) from error
        except (OSError, schema.SchemaError) as error:
            raise interface.JournalFailed(f"{file}: {error}") from error

    def _damaged(self, error: Exception) -> interface.JournalFailed:
        remedy = checking.NOT_SALVAGED if self._salvage else checking.WHAT_TO_DO
        return interface.JournalFailed(f"{self._folder / FILE_NAME} is damaged ({error}): {remedy}")

    # ------------------------------------------------------------ opening

    def _opened(self) -> sqlite3.Connection:
        assert self._connection is not None, "open comes first"
        return self._connection

    def _open(self) -> interface.Opened:
        self._folder.mkdir(parents=True, exist_ok=True)
        network = filesystem.network_type(self._folder)
        if network:
            raise interface.JournalFailed(
                f"{self._folder} lies on {network}, a network file system, where locks and syncs "
                "cannot be relied on: use a local or block volume"
            )
        closed = filesystem.read_only(self._folder, (FILE_NAME, LOG_NAME, MARK_NAME))
        if closed:
            raise interface.JournalFailed(
                f"{closed} is read-only for this process (user {os.getuid()}): mount its volume "
                "for writing, or give the folder and all in it to that user"
            )
        try:
            connection = self._with_reserve(self._connect_in_time)
        except interface.StorageFull as error:
            raise interface.JournalFailed(
                f"{self._folder} has no room to start in ({error}): make room, then start again"
            ) from error
        self._connection = connection
        self._log = wal.Log(
            self._folder / LOG_NAME,
            page_bytes=connection.execute("PRAGMA page_size").fetchone()[0],
        )
        self._writer = rows.RowWriter(connection)
        self._reserve()
        checking.check_outcomes(connection)
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        self.pool_uids = dict(connection.execute("SELECT id, uid FROM pools"))
        return interface.Opened(
            epoch=meta["epoch"],
            operator_epoch=meta["operator_epoch"],
            pools=reading.pools(connection),
        )

    def _connect_in_time(self) -> sqlite3.Connection:
        deadline = time.monotonic() + LOCK_SECONDS
        while (connection := self._connect()) is None:
            if time.monotonic() > deadline:
                raise interface.JournalFailed(
                    f"{self._folder / FILE_NAME} is in use by another process"
                )
            time.sleep(_LOCK_STEP_SECONDS)
        return connection

    def _connect(self) -> sqlite3.Connection | None:
        """A connection that is ready for use, None = somebody else has the file. Raises
        StorageFull, JournalFailed.
        """
        connection = sqlite3.connect(self._folder / FILE_NAME, timeout=0, isolation_level=None)
        try:
            self._prepare(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            if _is(error, sqlite3.SQLITE_FULL):
                raise interface.StorageFull(str(error)) from error
            if _is(error, sqlite3.SQLITE_BUSY):
                return None
            raise
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        run = connection.execute
        # Before the first read: the lock then covers the whole life of the connection, and the
        # shared-memory index (whose reset was buggy up to 3.51.2) is never used.
        run("PRAGMA locking_mode = EXCLUSIVE")
        run(f"PRAGMA page_size = {PAGE_BYTES}")
        run("PRAGMA auto_vacuum = INCREMENTAL")
        wanted = {
            "journal_mode": ("WAL", "wal"),
            "synchronous": ("FULL", 2),
            "wal_autocheckpoint": (0, 0),
            # Debian's SQLite blanks what is deleted: a log of 256 MiB for 256 payloads of 1 MiB.
            "secure_delete": (0, 0),
            "journal_size_limit": (compaction.LOG_BYTES_MAX, compaction.LOG_BYTES_MAX),
        }
        for name, (value, effect) in wanted.items():
            run(f"PRAGMA {name} = {value}")
            found = run(f"PRAGMA {name}").fetchone()[0]
            if found != effect:
                raise interface.JournalFailed(f"SQLite refused {name}={value}: it is {found}")
        run(f"PRAGMA cache_size = -{CACHE_KIB}")
        checking.check_structure(connection)
        schema.migrate(connection)
        checking.check_definitions(connection)
        if self._mark is None:
            self._mark = mark.Mark(self._folder / MARK_NAME)
        if self._salvage:
            self._leave_out_damaged(connection, self._mark)
        checking.check_counters(connection, acknowledged=self._mark.read())
        if self._pages_max:
            run(f"PRAGMA max_page_count = {self._pages_max}")
        # Also takes the exclusive lock for good.
        run("BEGIN IMMEDIATE")
        run("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
        schema.seal_epochs(connection)
        run("COMMIT")
        self._commits = run("SELECT value FROM meta WHERE name = 'commits'").fetchone()[0]

    def _leave_out_damaged(self, connection: sqlite3.Connection, mark_: mark.Mark) -> None:
        run = connection.execute
        run("BEGIN IMMEDIATE")
        salvage.leave_out_damaged(connection, lambda what: self._say(f"left out: {what}"))
        run("COMMIT")
        commits = run("SELECT value FROM meta WHERE name = 'commits'").fetchone()[0]
        if commits < mark_.read():
            self._say(f"left out: the last {mark_.read() - commits} commits are missing")
        mark_.write(commits)

    def _with_reserve(self, work: Callable[[], _T]) -> _T:
        """Do what may need the reserve: it is given up when there is no room. Raises StorageFull if
        that does not help, or was done already.
        """
        try:
            return work()
        except interface.StorageFull:
            if self._full:
                raise
            self._full = True
            self._give_up_reserve()
            return work()

    def _commit(self, batch: Sequence[records.Record]) -> None:
        connection = self._opened()
        assert self._writer is not None, "open comes first"
        assert self._mark is not None, "open comes first"
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._writer.write(batch)
            connection.execute(_COUNT_COMMIT, (self._commits + 1,))
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if not _is(error, sqlite3.SQLITE_FULL):
                raise
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._writer.reload()
            raise interface.StorageFull(str(error)) from error
        self._commits += 1
        self._mark.write(self._commits)

    def _checkpoint(self, *, now: bool = False) -> None:
        """Move the log into the file, `now` or if it is long. What it holds is durable, moved or
        not.
        """
        assert self._log is not None, "open comes first"
        if now or self._log.reaches(CHECKPOINT_PAGES):
            # Without room it stays where it is, and is tried again after the next commit.
            with contextlib.suppress(interface.StorageFull):
                self._with_reserve(self._move_log)

    def _move_log(self) -> None:
        try:
            found = self._opened().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.OperationalError as error:
            if not _is(error, sqlite3.SQLITE_FULL):
                raise
            raise interface.StorageFull(str(error)) from error
        busy, pages, moved = found
        if busy or moved < pages:
            raise interface.JournalFailed(
                f"{self._folder / FILE_NAME}: {moved} of {pages} pages of its write-ahead log could"
                " be moved: another process reads the file"
            )

    def _compact(self) -> bool:
        connection = self._opened()
        try:
            if self._full:
                self._reserve()
            return compaction.step(connection)
        except sqlite3.OperationalError as error:
            if not _is(error, sqlite3.SQLITE_FULL):
                raise
            return False

    # ------------------------------------------------------------ the reserve

    def _reserve(self) -> None:
        """Win the reserve (back); leaves `full` set if there is no room for it."""
        reserve_pages = self._reserve_bytes // PAGE_BYTES
        if self._pages_max:
            connection = self._opened()
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            if pages - free > self._pages_max - reserve_pages:
                self._full = True
                return
            connection.execute(f"PRAGMA max_page_count = {self._pages_max - reserve_pages}")
        if not self._reserve_bytes:
            self._full = False
            return
        path = self._folder / RESERVE_NAME
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size != self._reserve_bytes:
                os.posix_fallocate(descriptor, 0, self._reserve_bytes)
        except OSError:
            path.unlink()
            self._full = True
        else:
            self._full = False
        finally:
            os.close(descriptor)

    def _give_up_reserve(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / RESERVE_NAME).unlink()
        if self._pages_max and self._connection is not None:
            self._connection.execute(f"PRAGMA max_page_count = {self._pages_max}")


def _is(error: sqlite3.Error, code: int) -> bool:
    return checking.code_of(error) == code
