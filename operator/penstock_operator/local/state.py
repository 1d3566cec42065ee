"""The folder of a local fleet: its lock, its record, and how others find and signal it.

    lock          held by the running fleet (flock): the kernel takes it back when that ends
    fleet.json    who runs: process id and start time, address, pools; gone when it has ended
    workers.json  which workers there were: those of a fleet that was killed are reported gone
    journal/      the dispatcher's; tasks outlive the fleet
    logs/         one file for each process

A process is itself only if its id *and* its start time are those of the record: ids are used again.
Standard library only, and quick to import: every command of the command line looks here.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import select
import signal
from collections.abc import Iterator, Mapping
from typing import Final, Self

VARIABLE: Final = "PENSTOCK_STATE"
"""Names the folder, for the fleet and for those who look for it."""
_START_TIME_FIELD: Final = 19
"""Of /proc/PID/stat, counted after the program's name."""


class InUse(Exception):  # noqa: N818  it says what is so
    """Another fleet runs in this folder. `pid` 0 = it has not said who it is yet."""

    def __init__(self, path: pathlib.Path, pid: int) -> None:
        super().__init__(f"{path} is in use by process {pid or '(starting)'}")
        self.path = path
        self.pid = pid


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A running fleet. `ready`: every pool has had its minimum of workers."""

    pid: int
    start_time: int
    address: str = ""
    pools: tuple[str, ...] = ()
    ready: bool = False
    problem: str = ""


def root(environ: Mapping[str, str]) -> pathlib.Path:
    """Where the folders of local fleets are."""
    given = pathlib.Path(environ.get("XDG_STATE_HOME", ""))
    home = pathlib.Path(environ.get("HOME", "/"))
    return (given if given.is_absolute() else home / ".local" / "state") / "penstock"


def default_folder(environ: Mapping[str, str], *, namespace: str, pool: str) -> pathlib.Path:
    """The folder of a fleet whose first pool is this one."""
    name = pool if namespace == "default" else f"{namespace}.{pool}"
    return root(environ) / name


def start_time(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None = there is none, or it is a zombie."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[_START_TIME_FIELD - 1])


class Folder:
    """One fleet's folder."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.journal = path / "journal"
        self.logs = path / "logs"
        self._record = path / "fleet.json"
        self._workers = path / "workers.json"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for the length of a block. Raises InUse, OSError."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.mkdir(exist_ok=True)
        with (self.path / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                said = lock.read().strip()
                raise InUse(self.path, int(said) if said.isdecimal() else 0) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            self._record.unlink(missing_ok=True)  # of one that could not clean up
            try:
                yield
            finally:
                self._record.unlink(missing_ok=True)
                lock.truncate(0)

    def write(self, record: Record) -> None:
        """Say who runs here, in one step."""
        _write(self._record, dataclasses.asdict(record))

    def read(self) -> Record | None:
        """Who runs here; None = nobody that lives."""
        try:
            found = json.loads(self._record.read_text())
            record = Record(**{**found, "pools": tuple(found["pools"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return record if start_time(record.pid) == record.start_time else None

    def remember(self, workers: Mapping[str, Mapping[str, str]]) -> None:
        """Which workers run now: by pool, UID to name."""
        _write(self._workers, workers)

    def remembered(self) -> dict[str, dict[str, str]]:
        """What was remembered last; empty = nothing, or nothing that can be read."""
        try:
            found: dict[str, dict[str, str]] = json.loads(self._workers.read_text())
        except (OSError, ValueError):
            return {}
        return found


def _write(path: pathlib.Path, value: object) -> None:
    made = path.with_suffix(".new")
    made.write_text(json.dumps(value))
    made.replace(path)


def running(environ: Mapping[str, str]) -> list[tuple[Folder, Record]]:
    """The fleets that run: the one that PENSTOCK_STATE names, else all in the usual place."""
    named = environ.get(VARIABLE)
    try:
        paths = [pathlib.Path(named)] if named else sorted(root(environ).iterdir())
    except OSError:
        return []
    folders = [Folder(path) for path in paths]
    return [(folder, record) for folder in folders if (record := folder.read()) is not None]


class Process:
    """A process of a record, held fast: signals reach it or nobody. Use as a context manager.

    Raises ProcessLookupError.
    """

    def __init__(self, record: Record) -> None:
        self._fd = os.pidfd_open(record.pid)
        if start_time(record.pid) != record.start_time:
            os.close(self._fd)
            raise ProcessLookupError(record.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def ended(self, *, seconds: float) -> bool:
        """Wait for its end, for so long."""
        readable, _, _ = select.select([self._fd], [], [], seconds)
        return bool(readable)
