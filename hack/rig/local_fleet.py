"""`penstock up` in a process of its own, as tests and the demo run it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import penstock
from rig import processes

PROGRAM = str(pathlib.Path(sys.executable).with_name("penstock"))
LOOK_SECONDS = 0.05
STARTED = re.compile(r"started (\S+), process (\d+)")
TERMINATED = re.compile(r"SIGTERM received running=(\d+)")
_Found = TypeVar("_Found")


class NotYetError(AssertionError):
    """Something did not become so in time."""


def eventually(look: Callable[[], _Found], *, seconds: float = 30.0, what: str = "") -> _Found:
    """The first answer that counts as true. Raises NotYetError."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise NotYetError(f"{what or look} is not so after {seconds:g} s")
        time.sleep(LOOK_SECONDS)
    return found


class LocalFleet:
    """A fleet whose state is in `folder`; `start` it, as often as is wanted."""

    def __init__(
        self, folder: pathlib.Path, manifest: pathlib.Path, *, app_dir: pathlib.Path | None = None
    ) -> None:
        self.state = folder / "state"
        self.output = folder / "up.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.arguments = ["--file", str(manifest), "--state", str(self.state)]
        self.arguments += ["--app-dir", str(app_dir)] if app_dir else []
        self.variables = {
            name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")
        }

    def start(self) -> None:
        """Start it; returns when it is ready."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [PROGRAM, "up", *self.arguments],
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=processes.hear_interrupts,  # noqa: PLW1509 - no threads that matter
            )
        eventually(self._ready, seconds=60, what="the fleet's being ready")

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise NotYetError(f"it has ended: {self.output.read_text()[-2000:]}")
        record = self.record()
        # One that was killed has left its record.
        return bool(record.get("ready")) and record["pid"] == self.process.pid

    def record(self) -> dict[str, Any]:
        """What the fleet says of itself; empty = nothing."""
        try:
            found: dict[str, Any] = json.loads((self.state / "fleet.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def client(self) -> penstock.SyncClient:
        """A client of its only pool."""
        record = self.record()
        return penstock.SyncClient(record["address"], pool=record["pools"][0])

    def send(self, number: signal.Signals) -> None:
        """Send `up` a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, *, seconds: float = 30.0) -> int:
        """Its exit status, once it has ended."""
        assert self.process is not None
        return self.process.wait(seconds)

    def end(self) -> None:
        """Whatever it does: over."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def workers(self) -> dict[str, int]:
        """Process ids of all workers that were ever started, by name."""
        found = (self.state / "logs" / "fleet.log").read_text()
        return {name: int(pid) for name, pid in STARTED.findall(found)}

    def runs(self, task: penstock.Task) -> bool:
        """A worker has begun the task: the dispatcher calls it RUNNING a moment before."""
        logs = (self.state / "logs").glob("*.log")
        return any(f"task started task={task.name}" in log.read_text() for log in logs)

    def terminated(self) -> list[int]:
        """How many tasks ran in each worker that got SIGTERM, from their own logs."""
        logs = (self.state / "logs").glob("*.log")
        return [int(count) for log in logs for count in TERMINATED.findall(log.read_text())]
