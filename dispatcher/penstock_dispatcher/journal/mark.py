"""How far the journal was acknowledged, told outside of it.

A log whose end is cut off or damaged looks to SQLite like one whose last commit a crash cut short:
it passes over the rest and says nothing, and a file of zero bytes is a new, empty one. So the
number of commits lies in the file, and, as soon as they are durable, in a *mark* beside it. A file
that knows of fewer commits than its mark lacks something that was acknowledged.

The mark is never synced: that would double the price of a commit. It outlives the process, whatever
kills that; after a loss of power it may be some seconds old, and then tells less, but never too
much: it is written after the commit. One that cannot be read tells nothing.
"""

import errno
import os
import pathlib
import struct
import zlib
from typing import Final

_NUMBER: Final = struct.Struct("<Q")
_MARK: Final = struct.Struct("<QI")
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Mark:
    """The mark at `path`, which is made if it is missing."""

    def __init__(self, path: pathlib.Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """Commits that were acknowledged, 0 = nothing is known."""
        content = os.pread(self._descriptor, _MARK.size, 0)
        if len(content) != _MARK.size:
            return 0
        commits, found = _MARK.unpack(content)
        return int(commits) if found == _sum(commits) else 0

    def write(self, commits: int) -> None:
        """So many commits are durable. Raises OSError, but not for want of room: an older mark is
        true as well.
        """
        try:
            os.pwrite(self._descriptor, _MARK.pack(commits, _sum(commits)), 0)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sum(commits: int) -> int:
    return zlib.crc32(_NUMBER.pack(commits))
