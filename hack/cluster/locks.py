"""Advisory file locks, so that two runs never build or start the same thing at once.

The kernel drops a lock when its holder dies, however it dies; there are no
stale locks. Python's file descriptors are not inherited by children, so a
daemon that outlives us does not keep the lock either.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import paths
from report import say


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock ``name``; wait for its present holder, saying so once."""
    path = paths.under_cache("locks") / name
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            say(f"waiting for process {file.read().strip() or '?'}, which holds the {name} lock")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
