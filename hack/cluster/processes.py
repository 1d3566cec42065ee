"""Running programs, and knowing again the ones that were started earlier.

A process id alone is not an identity: ids are reused, and a record may outlive
its process by a reboot. The kernel's start time of the process is the other
half. Whatever this package signals, it signals by such an identity, never by a
program's name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from report import ClusterError, Ticker

#: A program and its arguments.
Command = Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, for ever: its id, its start time in ticks, the boot it belongs to."""

    pid: int
    started_ticks: int
    boot: str


def identify(pid: int) -> Identity | None:
    """The identity of a living process; None when there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name may contain anything, brackets too: fields start after the last one.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        return None
    return Identity(pid=pid, started_ticks=int(fields[19]), boot=boot)


def alive(identity: Identity) -> bool:
    """Whether exactly that process still runs."""
    return identify(identity.pid) == identity


def children(pid: int) -> list[int]:
    """The ids of the direct children of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(word) for word in text.split()]


def kill(identity: Identity, *, timeout_seconds: float = 20.0) -> None:
    """End exactly that process, now, and wait until it is gone."""
    if not alive(identity):
        return
    os.kill(identity.pid, signal.SIGKILL)
    wait_gone(identity, timeout_seconds=timeout_seconds)


def wait_gone(identity: Identity, *, timeout_seconds: float) -> None:
    """Wait until the process has ended; an error when it does not."""
    deadline = time.monotonic() + timeout_seconds
    while alive(identity):
        if time.monotonic() > deadline:
            raise ClusterError(f"process {identity.pid} does not end")
        time.sleep(0.02)


def run(
    arguments: Command,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text_input: str | None = None,
    remedy: str = "",
    timeout_seconds: float | None = None,
) -> str:
    """Run a program to its end and return its output; raise with its last words when it fails."""
    try:
        done = subprocess.run(
            [str(word) for word in arguments],
            cwd=cwd,
            env=env,
            input=text_input,
            stdin=None if text_input is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{arguments[0]} is not installed", remedy=remedy) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"{arguments[0]} did not end within {timeout_seconds} s", remedy=remedy
        ) from error
    if done.returncode != 0:
        raise failed(arguments, done.returncode, done.stderr or done.stdout, remedy=remedy)
    return done.stdout


def succeeds(arguments: Command, *, timeout_seconds: float = 30.0) -> bool:
    """Whether a program exists, ends in time and exits with 0."""
    try:
        done = subprocess.run(
            [str(word) for word in arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=timeout_seconds,
        )
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def run_logged(
    arguments: Command,
    *,
    log: Path,
    tick: Ticker,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    remedy: str = "",
) -> None:
    """Run a long program with its output in a file, ticking; it never outlives us.

    It gets a session of its own, so that an interrupt from the keyboard reaches us
    first and the program and its children are then ended together.
    """
    with log.open("w") as output:
        try:
            process = subprocess.Popen(
                [str(word) for word in arguments],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise ClusterError(f"{arguments[0]} is not installed", remedy=remedy) from error
    try:
        while True:
            try:
                code = process.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                tick()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if code != 0:
        raise failed(arguments, code, log.read_text(errors="replace"), remedy=remedy)


def failed(arguments: Command, code: int, output: str, *, remedy: str = "") -> ClusterError:
    """The error for a program that ended with ``code``, with the last lines it said."""
    name = Path(str(arguments[0])).name
    words = " ".join([name, *(str(word) for word in arguments[1:4])])
    last = "\n".join(f"    {line}" for line in output.strip().splitlines()[-12:])
    return ClusterError(f"`{words} …` ended with {code}\n{last}".rstrip(), remedy=remedy)
