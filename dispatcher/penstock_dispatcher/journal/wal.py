"""How long SQLite's write-ahead log is.

SQLite moves the log into the file by itself, and keeps quiet about errors of that; so the journal
does it, and has to know when. The size of the log's file does not tell: after each checkpoint it is
written again from its start. But every frame carries the salt of its round, which the header has,
too (https://www.sqlite.org/fileformat2.html#the_write_ahead_log): the log has reached a frame if
their salts are the same.
"""

import os
import pathlib
from typing import Final

HEADER_BYTES: Final = 32
HEADER_SALT_AT: Final = 16
FRAME_HEADER_BYTES: Final = 24
FRAME_SALT_AT: Final = 8
SALT_BYTES: Final = 8


class Log:
    """The log at `path`, which must be there; for as long as its database is open."""

    def __init__(self, path: pathlib.Path, *, page_bytes: int) -> None:
        self._frame_bytes = FRAME_HEADER_BYTES + page_bytes
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def reaches(self, frames: int) -> bool:
        """Does it hold at least so many frames (pages) that were written since it began anew?"""
        last = HEADER_BYTES + (frames - 1) * self._frame_bytes
        found = os.pread(self._descriptor, SALT_BYTES, last + FRAME_SALT_AT)
        return found == os.pread(self._descriptor, SALT_BYTES, HEADER_SALT_AT) != b""

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
