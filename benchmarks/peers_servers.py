"""The peers' servers and packages: fetched or built once into the cache, and started for a measure.

Nothing of this touches the project's own environment or its lock. Servers listen on a free port of
loopback, keep their data in a folder that is given, and are ended by their ids.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "hack"), str(ROOT / "hack" / "cluster")]

import builds  # noqa: E402
import locks  # noqa: E402
import packages  # noqa: E402
import paths  # noqa: E402
from processes import run_logged  # noqa: E402
from report import ClusterError, progress  # noqa: E402

from rig import figures  # noqa: E402
from rig.processes import free_port  # noqa: E402

PEERS = ROOT / "benchmarks" / "peers"
REQUIREMENTS = PEERS / "requirements.txt"
REDIS = {"redis-server": "redis-server"}
START_SECONDS_MAX = 20.0
CONNECT_SECONDS_MAX = 1.0


# ------------------------------------------------------------ set up


def python() -> pathlib.Path:
    """The interpreter of the environment that has the peers' packages; made when it is not there.

    Raises `ClusterError` with what the installer said.
    """
    key = hashlib.sha256(f"{sys.version} {REQUIREMENTS.read_text()}".encode()).hexdigest()[:12]
    folder = paths.under_cache("peers") / key
    interpreter, ready = folder / "bin" / "python", folder / "ready"
    with locks.exclusive("peers"):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            log = paths.under_cache("logs") / "peers.log"
            with progress("installing the peers' packages", expected_seconds=30) as tick:
                for command in _install(folder, interpreter):
                    run_logged(command, log=log, tick=tick, remedy=f"the whole output is in {log}")
            ready.touch()
    return interpreter


def _install(folder: pathlib.Path, interpreter: pathlib.Path) -> list[list[str]]:
    exactly = ["--quiet", "--require-hashes", "--no-deps", "-r", str(REQUIREMENTS)]
    uv = shutil.which("uv")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--python", str(interpreter), *exactly],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(interpreter), "-m", "pip", "install", "--disable-pip-version-check", *exactly],
    ]


def redis() -> str:
    """The Redis server's path, from Debian's package; `ClusterError` says what it needs."""
    packages.ensure(REDIS)
    found = packages.find("redis-server")
    assert found is not None
    return found


def nats() -> str:
    """The NATS server's path, built from its Go module; `ClusterError` says what it needs."""
    builds.ensure(["nats-server"])
    return str(builds.program("nats-server"))


def versions() -> dict[str, str]:
    """Of the servers that are here, by their own word."""
    found = {"redis-server": packages.find("redis-server"), "nats-server": _built("nats-server")}
    return {name: _version(path) for name, path in found.items() if path is not None}


def _built(name: str) -> str | None:
    path = builds.program(name)
    return None if path is None else str(path)


def _version(path: str) -> str:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=?(\d[\w.]*)", said)
    return found[1] if found else said.strip()


# ------------------------------------------------------------ servers


@contextlib.contextmanager
def process(
    command: Sequence[str], *, log: pathlib.Path, cwd: pathlib.Path | None = None, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its children in a group of their own, which ends with the block."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        _end(started)


def _end(started: subprocess.Popen[bytes]) -> None:
    # At once: nothing of it is needed any more. The leader is reaped last, so that until then its
    # id, which is the group's, is nobody else's.
    if started.returncode is None:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


@contextlib.contextmanager
def redis_server(folder: pathlib.Path, *, always: bool) -> Iterator[tuple[str, int]]:
    """A Redis with an append-only file, synced each second or `always`: its URL and its id."""
    port = free_port()
    command = [
        *(redis(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
        *("--save", "", "--appendonly", "yes"),
        *("--appendfsync", "always" if always else "everysec"),
    ]
    with process(command, log=folder / "redis.log") as started:
        _wait(started, port, b"PING\r\n", b"+PONG")
        yield f"redis://127.0.0.1:{port}/0", started.pid


@contextlib.contextmanager
def nats_server(folder: pathlib.Path, *, always: bool) -> Iterator[tuple[str, int]]:
    """A NATS with JetStream on disk, synced every 2 minutes or `always`: its URL and its id."""
    port = free_port()
    sync = "sync_interval: always" if always else ""
    configuration = folder / "nats.conf"
    configuration.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}"\n{sync} }}\n'
    )
    command = [nats(), "-c", str(configuration)]
    with process(command, log=folder / "nats.log") as started:
        _wait(started, port, b"", b"INFO ")
        yield f"nats://127.0.0.1:{port}", started.pid


def _wait(started: subprocess.Popen[bytes], port: int, say: bytes, expected: bytes) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if started.poll() is not None:
            break
        try:
            address = ("127.0.0.1", port)
            with socket.create_connection(address, CONNECT_SECONDS_MAX) as connection:
                connection.sendall(say)
                if connection.recv(64).startswith(expected):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise ClusterError(f"{pathlib.Path(str(started.args[0])).name} does not answer")  # type: ignore[index]


# ------------------------------------------------------------ memory


def memory_mib(*pids: int) -> float:
    """The memory of processes and their children; pages that some of them share count once."""
    return sum(map(figures.proportional_bytes, pids)) / figures.MIB
