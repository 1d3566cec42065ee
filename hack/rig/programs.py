"""The real programs on loopback, as people start them: `penstock dispatcher --config`,
`penstock …`, and `penstock-worker`, each a process of its own that is ended by its id.
"""

import contextlib
import os
import pathlib
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rig import processes

BIN = pathlib.Path(sys.executable).parent
PENSTOCK = str(BIN / "penstock")
WORKER = str(BIN / "penstock-worker")
END_SECONDS_MAX = 20.0
RUN_SECONDS_MAX = 60.0

Penstock = Callable[..., "subprocess.CompletedProcess[str]"]


class Standalone:
    """`penstock dispatcher --config` in a process of its own."""

    def __init__(self, folder: pathlib.Path, config: pathlib.Path, *options: str) -> None:
        self.address = f"127.0.0.1:{processes.free_port()}"
        self._command = [
            *(PENSTOCK, "dispatcher", "--config", str(config), "--data", str(folder / "data")),
            *("--listen", self.address, "--http", "", *options),
        ]
        self.start()

    def start(self) -> None:
        """Start; again on the same data and address after `stop` or `kill`."""
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_SECONDS_MAX)

    def kill(self) -> None:
        """kill -9, unless it has ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def environment(address: str, pool: str, **variables: str) -> dict[str, str]:
    """What leads programs to a dispatcher and a pool."""
    return {**os.environ, "PENSTOCK_ADDRESS": address, "PENSTOCK_POOL": pool, **variables}


def penstock(address: str, *, pool: str) -> Penstock:
    """A way to run `penstock ARGUMENTS` to its end: `run("list", stdin="…", VARIABLE="…")`."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> Any:
        return subprocess.run(
            [PENSTOCK, *arguments],
            input=stdin,
            env=environment(address, pool, **variables),
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS_MAX,
            check=False,
        )

    return run


@contextlib.contextmanager
def standalone(folder: pathlib.Path, manifest: str, pool: str) -> Iterator[Standalone]:
    """A dispatcher that serves the pools of a manifest, for the length of a block; ready."""
    config = folder / "pools.yaml"
    config.write_text(manifest)
    made = Standalone(folder, config)
    try:
        # The first call waits until the dispatcher serves: UNAVAILABLE is retried.
        assert penstock(made.address, pool=pool)("pools", "--request-timeout", "30").returncode == 0
        yield made
    finally:
        made.kill()


def in_a_terminal(*arguments: str, address: str, pool: str, seconds: float) -> tuple[int, str]:
    """Run `penstock ARGUMENTS` in a terminal of its own, and interrupt it after `seconds`; its exit
    status, and what was written there.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PENSTOCK, *arguments],
        env={**environment(address, pool), "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=processes.hear_interrupts,  # noqa: PLW1509 - no threads that matter here
    )
    os.close(theirs)
    written, deadline = b"", time.monotonic() + seconds
    os.set_blocking(ours, False)
    while True:
        try:
            written += os.read(ours, 65_536)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:  # its end is closed
            break
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            deadline += END_SECONDS_MAX
    os.close(ours)
    return process.wait(END_SECONDS_MAX), written.decode()


def failed(done: "subprocess.CompletedProcess[str]", status: int, *words: str) -> None:
    """It ended with this status, and one line that says these words."""
    assert done.returncode == status, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("penstock: ")
    for word in words:
        assert word in done.stderr, done.stderr


@contextlib.contextmanager
def workers(
    count: int, *, app: str, folder: pathlib.Path, address: str, pool: str, **variables: str
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Worker processes that serve `app` (module:attribute) of a folder, for a block."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(count):
            name = {"PENSTOCK_POD_NAME": f"worker-{number}", "PENSTOCK_POD_UID": f"uid-{number}"}
            started.append(
                subprocess.Popen(
                    [WORKER, app],
                    cwd=folder,
                    env=environment(address, pool, **name, **variables),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        yield started
    finally:
        for process in started:
            process.terminate()
        deadline = time.monotonic() + END_SECONDS_MAX
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()
