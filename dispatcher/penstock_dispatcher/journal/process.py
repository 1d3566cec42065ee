"""The SQLite journal in a process of its own: what the event loop has of it.

A commit is a quarter of the work that a task makes. In a thread it would take turns with the loop
at one interpreter, and each statement would have to win that back from a busy loop; in a process it
runs beside the loop (decision 0029). `served` is the other end, and tells what goes over the
socket.

Everything is asked in order and answered in order, so nobody needs a lock: whoever no longer waits
leaves an answer that nobody hears. While a page of tasks is worked on here, the next one is read
there.

The two live and die together. If this process is killed, so is the other one, or it ends when it
sees the end of the socket; the next start waits some seconds for the file. If the other one is
killed, that is a journal that failed: nobody knows what it has written, and the next start reads
it.
"""

import asyncio
import collections
import json
import logging
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import interface, packing, reading, served, sqlite

_log = logging.getLogger(__name__)

PROGRAM: Final = ("-P", "-m", served.__name__)
CLOSE_SECONDS: Final = 10.0
"""How long the other process may take to end; then it is killed."""


class ProcessJournal:
    """See `interface.Journal`, and `sqlite.SqliteJournal` for what is given. `failed` is told as
    soon as the other process has ended, though nothing may be asked just then.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        pages_max: int = 0,
        reserve_bytes: int = sqlite.RESERVE_BYTES,
        salvage: bool = False,
        failed: Callable[[interface.JournalFailed], None] = lambda _: None,
    ) -> None:
        self._settings = json.dumps({
            "folder": str(folder),
            "pages_max": pages_max,
            "reserve_bytes": reserve_bytes,
            "salvage": salvage,
        })  # fmt: skip
        self._failed = failed
        self._process: subprocess.Popen[bytes] | None = None
        self._link: _Link | None = None
        self._pool_uids: dict[int, str] = {}
        self._asked_page: tuple[int, int, asyncio.Future[bytes]] | None = None
        """What is asked for, the key after which it begins, and its answer."""

    async def open(self) -> interface.Opened:
        """See `interface.Journal`."""
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(  # noqa: ASYNC220 - some milliseconds, at the start
                [sys.executable, *PROGRAM, str(descriptor), self._settings],
                pass_fds=(descriptor,),
                # Found where this program was found, and nowhere else.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # a terminal's Ctrl-C is for the dispatcher, which then ends it
            )
        loop = asyncio.get_running_loop()
        _, self._link = await loop.create_connection(lambda: _Link(self._failed), sock=ours)
        answer = await self._link.ask(served.OPEN)
        opened, self._pool_uids = packing.from_opened(answer)
        return opened

    def _opened(self) -> "_Link":
        assert self._link is not None, "open comes first"
        return self._link

    async def load_tasks(self, after: int) -> Sequence[interface.StoredTask]:
        """See `interface.Journal`."""
        rows: list[reading.TaskRow] = await self._page(served.LOAD_TASKS, after)
        if rows:
            self._ask_page(served.LOAD_TASKS, rows[-1][0][0])
        return reading.stored_tasks(rows, self._pool_uids)

    async def load_requests(self, after: int) -> Sequence[interface.StoredRequest]:
        """See `interface.Journal`."""
        rows: list[reading.RequestRow] = await self._page(served.LOAD_REQUESTS, after)
        if rows:
            self._ask_page(served.LOAD_REQUESTS, rows[-1][0])
        return reading.stored_requests(rows, self._pool_uids)

    async def _page(self, what: int, after: int) -> Any:
        if self._asked_page is None or self._asked_page[:2] != (what, after):
            self._ask_page(what, after)
        assert self._asked_page is not None, "it was asked just now"
        answer, self._asked_page = self._asked_page[2], None
        return packing.from_values(await answer)

    def _ask_page(self, what: int, after: int) -> None:
        self._asked_page = what, after, self._opened().ask(what, packing.values(after))

    def append(
        self, batch: Sequence[records.Record], *, follows: bool = False
    ) -> asyncio.Future[bytes]:
        """See `interface.Journal`."""
        return self._opened().ask(served.FOLLOW if follows else served.APPEND, packing.batch(batch))

    async def compact(self, now: int) -> bool:  # noqa: ARG002 - other journals need it
        """See `interface.Journal`."""
        more: bool = packing.from_values(await self._opened().ask(served.COMPACT))
        return more

    def full(self) -> bool:
        """See `interface.Journal`."""
        return self._link is not None and self._link.full

    async def close(self) -> None:
        """See `interface.Journal`."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._link is not None:
            self._link.end()
        try:
            status = await asyncio.to_thread(process.wait, CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            _log.error("the journal's process did not end in %.0f s: killed", CLOSE_SECONDS)
            process.kill()
            status = await asyncio.to_thread(process.wait)
        if status:
            _log.error("the journal's process ended with status %d", status)


class _Link(asyncio.Protocol):
    """The socket: what was asked, in order, and is not answered yet."""

    def __init__(self, failed: Callable[[interface.JournalFailed], None]) -> None:
        self.full = False
        self._failed = failed
        self._transport: asyncio.WriteTransport = None  # type: ignore[assignment]
        self._asked: collections.deque[asyncio.Future[bytes]] = collections.deque()
        self._received = bytearray()
        self._lost = self._ending = False
        self._why = interface.JournalFailed(
            "its process has ended: it was killed (for want of memory?), or could not start"
        )
        """Of everything that has no answer; what went wrong, once the other end has told."""

    def ask(self, what: int, body: bytes = b"") -> asyncio.Future[bytes]:
        """The answer raises StorageFull, JournalFailed."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._lost:
            answer.set_exception(self._why)
            return answer
        self._asked.append(answer)
        self._transport.write(served.ASKED.pack(what, len(body)) + body)
        return answer

    def end(self) -> None:
        """Nothing more will be asked."""
        self._ending = True
        if not self._lost:
            self._transport.write_eof()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From now on it can be asked."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Some of what is answered."""
        received = self._received
        received += data
        head = served.ANSWERED
        while len(received) >= head.size:
            how, full, size = head.unpack_from(received)
            if len(received) < head.size + size:
                return
            body = bytes(memoryview(received)[head.size : head.size + size])
            del received[: head.size + size]
            if how == served.SAY:
                _log.warning("%s", body.decode())
            else:
                self.full = full
                self._answer(how, body)

    def _answer(self, how: int, body: bytes) -> None:
        answer = self._asked.popleft()
        if how == served.FAILED:
            self._why = interface.JournalFailed(body.decode())
        if answer.done():  # nobody waits any more
            return
        if how == served.DONE:
            answer.set_result(body)
        elif how == served.STORAGE_FULL:
            answer.set_exception(interface.StorageFull(body.decode()))
        else:
            answer.set_exception(self._why)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it says no more
        """The process has ended."""
        self._lost = True
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(self._why)
                answer.exception()  # a page that was asked for in advance is nobody's
        self._asked.clear()
        if not self._ending:
            self._failed(self._why)
