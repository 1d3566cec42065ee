"""The two files through which a command tells of its progress, and saves its checkpoint.

They lie in a folder that lives as long as the attempt, and are looked at now and then: a command
needs nothing but `>` and `mv`. A checkpoint is taken when the file is another one or has changed;
so it should be written beside, and moved into place, or half of one may be taken. Of the progress
the last line counts.

A command may put anything there; nothing that it puts is waited for.
"""

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from penstock_worker import task as tasks
from penstock_worker import told as tolds

logger = logging.getLogger("penstock.worker")

CHECKPOINT_VARIABLE: Final = "PENSTOCK_TASK_CHECKPOINT"
PROGRESS_VARIABLE: Final = "PENSTOCK_TASK_PROGRESS"
PROGRESS_BYTES_MAX: Final = 4096
"""Read of the progress, from its end."""
FALLBACK_FOLDER: Final = "/dev/shm"  # noqa: S108 - in a container with a read-only root it is there
_Seen = tuple[int, int, int]


class Files:
    """Of one attempt. Without a place to write to there are none, and a line in the log says so."""

    def __init__(self, task: tasks.Task, *, make: Callable[[], str] | None = None) -> None:
        """`make` gives a new folder, or raises OSError."""
        self._task = task
        self._folder: Path | None = None
        self._seen: dict[str, _Seen] = {}
        try:
            self._folder = Path((make or _folder)())
            if task.checkpoint:
                path = self._folder / "checkpoint"
                path.write_bytes(task.checkpoint)
                self._changed(path.stat(), "checkpoint")
        except OSError as error:
            self.close()
            logger.warning(
                "no folder for progress and checkpoints can be had task=%s: %s; give the worker a"
                " writable TMPDIR",
                task.name,
                error,
            )

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name them."""
        if self._folder is None:
            return {}
        return {
            CHECKPOINT_VARIABLE: str(self._folder / "checkpoint"),
            PROGRESS_VARIABLE: str(self._folder / "progress"),
        }

    def look(self) -> None:
        """Tell what has changed since the last time."""
        try:
            checkpoint = self._read("checkpoint", tolds.CHECKPOINT_BYTES_MAX + 1)
            if checkpoint:
                self._task.told.save(checkpoint)
        except (OSError, ValueError) as error:
            logger.warning("the checkpoint is not saved task=%s: %s", self._task.name, error)
        try:
            lines = self._read("progress", PROGRESS_BYTES_MAX, from_end=True).splitlines()
            line = next((line for line in reversed(lines) if line.strip()), b"")
            if line:
                fraction, _, message = line.decode(errors="backslashreplace").strip().partition(" ")
                self._task.told.progress(float(fraction), message.strip())
        except (OSError, ValueError) as error:
            logger.warning(
                "progress is not understood task=%s: %s; write a number from 0 to 1, a space, and"
                " a text",
                self._task.name,
                error,
            )

    def _read(self, name: str, bytes_max: int, *, from_end: bool = False) -> bytes:
        """What a file holds, if it has changed; at most so much of it."""
        if self._folder is None:
            return b""
        try:
            # Neither a pipe nor a link that somebody has put there holds us up, or leads us astray.
            descriptor = os.open(
                self._folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            return b""
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not self._changed(found, name):
                return b""
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{name} is no plain file")
            if from_end:
                file.seek(max(0, found.st_size - bytes_max))
            return file.read(bytes_max)

    def _changed(self, found: os.stat_result, name: str) -> bool:
        seen = found.st_ino, found.st_size, found.st_mtime_ns
        before, self._seen[name] = self._seen.get(name), seen
        return before != seen

    def close(self) -> None:
        """Remove them. Idempotent."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()


def _folder() -> str:
    with contextlib.suppress(OSError):
        return tempfile.mkdtemp(prefix="penstock-task-")
    return tempfile.mkdtemp(prefix="penstock-task-", dir=FALLBACK_FOLDER)
