"""Worker processes of any mode, for tests: started, watched through their log, and ended."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

from rig import processes


@dataclasses.dataclass
class WorkerProcess:
    """A worker process; its log is what people and tests read."""

    process: subprocess.Popen[bytes]
    log: pathlib.Path
    http_port: int

    def lines(self, text: str) -> list[str]:
        """Lines of the log that contain `text`."""
        return [line for line in self.log.read_text().splitlines() if text in line]

    def until(self, text: str, seconds: float = 15.0) -> None:
        """Wait until the log has a line with `text`."""
        deadline = time.monotonic() + seconds
        while not self.lines(text):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.log.read_text()}"
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def exit_status(self, seconds: float = 15.0) -> int:
        """Wait for its end."""
        return self.process.wait(seconds)

    def ready(self) -> int:
        """The status of /readyz."""
        with contextlib.suppress(urllib.error.HTTPError):
            url = f"http://127.0.0.1:{self.http_port}/readyz"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        return 503


class Workers:
    """Starts worker processes in a folder; `close` ends whatever is left of them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._started: list[WorkerProcess] = []

    def start(
        self, address: str, *arguments: str, slots: int = 1, **environment: str
    ) -> WorkerProcess:
        """Start one for the pool `demo` with these arguments and variables."""
        log, port = self.folder / f"worker-{len(self._started)}.log", processes.free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "penstock_worker", *arguments],
                cwd=self.folder,
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    "PENSTOCK_ADDRESS": address,
                    "PENSTOCK_POOL": "demo",
                    "PENSTOCK_SLOTS": str(slots),
                    "PENSTOCK_HTTP_PORT": str(port),
                    **environment,
                },
            )
        made = WorkerProcess(process, log, port)
        self._started.append(made)
        return made

    def close(self) -> None:
        """Kill those that still run."""
        for each in self._started:
            if each.process.poll() is None:
                each.process.kill()
                each.process.wait()


def below(pid: int) -> list[int]:
    """Process ids of all descendants of a process, zombies among them."""
    children: dict[int, list[int]] = {}
    for each, parent, _ in _all():
        children.setdefault(parent, []).append(each)
    found, waiting = [], [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def state(pid: int) -> str:
    """The state letter of a process (`Z` = zombie); empty if there is none."""
    return next((letter for each, _, letter in _all() if each == pid), "")


def _all() -> list[tuple[int, int, str]]:
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            letter, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            found.append((int(stat.parent.name), int(parent), letter))
    return found
