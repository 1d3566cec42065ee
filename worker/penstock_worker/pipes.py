"""Pipes to and from a child, moved by the event loop. All descriptors are close-on-exec."""

import asyncio
import os
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

PIECE_BYTES: Final = 64 * 1024


class Reader:
    """The reading end of a pipe whose writing end, `theirs`, goes to a child."""

    def __init__(
        self, feed: Callable[[bytes], None], *, piece_bytes_max: int = PIECE_BYTES
    ) -> None:
        """`feed` takes each piece. To be made in the event loop."""
        self._feed, self._piece_bytes_max = feed, piece_bytes_max
        self._loop = asyncio.get_running_loop()
        self.theirs: int
        self._ours, self.theirs = os.pipe()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """The pipe has no writer any more."""

    def begin(self) -> None:
        """The child has its end: close ours of it, and read."""
        self._close_theirs()
        os.set_blocking(self._ours, False)
        self._loop.add_reader(self._ours, self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self._ours, self._piece_bytes_max)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if piece:
            self._feed(piece)
        else:
            self._loop.remove_reader(self._ours)
            if not self.ended.done():
                self.ended.set_result(None)

    def _close_theirs(self) -> None:
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._close_theirs()
        self._loop.remove_reader(self._ours)
        os.close(self._ours)
        self.ended.cancel()


class Writer:
    """The writing end of a pipe whose reading end, `theirs`, goes to a child.

    A child that does not read, or not all, is no error: it has its reasons.
    """

    def __init__(self, content: bytes) -> None:
        """To be made in the event loop."""
        self._left = memoryview(content)
        self._loop = asyncio.get_running_loop()
        self.theirs: int
        self._ours: int
        self.theirs, self._ours = os.pipe()

    def begin(self) -> None:
        """The child has its end: close ours of it, and write."""
        self._close_theirs()
        os.set_blocking(self._ours, False)
        if self._left:
            self._loop.add_writer(self._ours, self._write)
        else:
            self._close_ours()

    def _write(self) -> None:
        try:
            self._left = self._left[os.write(self._ours, self._left[:PIECE_BYTES]) :]
        except BlockingIOError:
            return
        except OSError:  # EPIPE: nobody reads
            self._left = memoryview(b"")
        if not self._left:
            self._close_ours()

    def _close_theirs(self) -> None:
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def _close_ours(self) -> None:
        if self._ours >= 0:
            self._loop.remove_writer(self._ours)
            os.close(self._ours)
            self._ours = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._close_theirs()
        self._close_ours()


async def all_read(*readers: Reader, seconds: float) -> bool:
    """Wait until nobody writes into them any more; not longer than `seconds`, and then False."""
    _, still_open = await asyncio.wait({each.ended for each in readers}, timeout=seconds)
    return not still_open
