"""Processes that we start: each with a log of its own, in a session of its own (a terminal's Ctrl-C
reaches only us), and dead as soon as we are (`guard`).

The end of one is heard through a pidfd, without a thread. A log that grows beyond `LOG_BYTES_MAX`
is put aside as `….old.log`, replacing the one before.
"""

import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from penstock_operator.local import guard

LOG_BYTES_MAX: Final = 16 * 1024 * 1024
LOGS_MAX: Final = 200
"""Files of workers kept in a folder of logs; the oldest go first."""
ASIDE: Final = ".old.log"
NEVER_DELETED: Final = frozenset({"dispatcher.log", "fleet.log", "up.log"})
TAIL_BYTES: Final = 8192
SIGNAL_BASE: Final = 128
"""A process that a signal has ended has this much more than its number as exit code, in pods too.
"""


class Child:
    """A process. `ended` is called once, from the loop, when it has ended. Raises OSError."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: pathlib.Path,
        log: pathlib.Path,
        ended: Callable[["Child"], None],
    ) -> None:
        self.log = log
        self.exit_code: int | None = None
        """None = it runs."""
        self._ended = ended
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), *arguments],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._pidfd = os.pidfd_open(self._process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = self._process.wait()
        self.exit_code = SIGNAL_BASE - code if code < 0 else code
        self._ended(self)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def terminate(self) -> None:
        """Ask it to end."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)

    def kill(self) -> None:
        """End it, and what it has started in its session."""
        if self.exit_code is None:
            # Not reaped yet, so the number is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def end_words(self) -> str:
        """How it ended, with the last line that it said."""
        code = self.exit_code or 0
        how = f"exit status {code}"
        if code > SIGNAL_BASE and code - SIGNAL_BASE in set(signal.Signals):
            how = f"killed by {signal.Signals(code - SIGNAL_BASE).name}"
        said = last_line(self.log)
        return f"{how}: {said}" if said else how


def last_line(log: pathlib.Path) -> str:
    """The last line in a log that says something; empty = there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def tidy(folder: pathlib.Path) -> None:
    """Put logs aside that have become too large, and keep the newest ones only."""
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in logs:
        if not path.name.endswith(ASIDE) and path.stat().st_size > LOG_BYTES_MAX:
            shutil.copyfile(path, path.with_suffix(ASIDE))
            # It is open for appending: the next line is written at the start.
            os.truncate(path, 0)
    for path in [path for path in logs if path.name not in NEVER_DELETED][LOGS_MAX:]:
        path.unlink(missing_ok=True)
