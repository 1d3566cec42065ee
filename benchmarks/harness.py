"""A dispatcher under test as a process of its own, and the processes of `roles` around it."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "hack"))

import grpc  # noqa: E402

from penstock.v1 import pool_service_pb2, pool_service_pb2_grpc  # noqa: E402
from rig import dispatchers, figures, processes, wire  # noqa: E402

PENDING_MAX, PENDING_BYTES_MAX = 2_000_000, 1 << 30
STEP_SECONDS_MAX = 300.0
# What is installed has its bytecode: no start is to compile the sources again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `better` is ">" where more is better; `target` in the same unit."""

    name: str
    what: str
    value: float
    unit: str
    better: str
    target: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """The target is met."""
        return self.value >= self.target if self.better == ">" else self.value <= self.target


class Bench:
    """A dispatcher under test, and the processes around it. All end with the block."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.dispatcher = dispatchers.DispatcherProcess(folder)
        self._others: list[subprocess.Popen[str]] = []

    def start(self, pools: int = 1, **fields: Any) -> None:
        """Start it, with its pools in force."""
        self.dispatcher.start()
        fields = {"max_pending": PENDING_MAX, "max_pending_bytes": PENDING_BYTES_MAX, **fields}
        names = [wire.POOL] if pools == 1 else [f"{wire.POOL}-{n}" for n in range(pools)]
        configs = [wire.pool_config(name, uid=f"uid-{name}", **fields) for name in names]
        self.dispatcher.configure(*configs)

    def role(self, name: str, *, pool: str = wire.POOL, **numbers: int) -> subprocess.Popen[str]:
        """Start one of `roles`."""
        options = [f"--{key}={value}" for key, value in numbers.items()]
        address = self.dispatcher.address
        return self._popen(
            [
                sys.executable,
                "-m",
                f"roles.{name}",
                "--address",
                address,
                "--pool",
                pool,
                *options,
            ]
        )

    def worker(self, slots: int, pool: str = "demo", **environment: str) -> subprocess.Popen[str]:
        """Start a worker as people do, without its two log lines a task."""
        return self._popen(
            [sys.executable, "-m", "penstock_worker", "roles.handlers:worker"],
            PENSTOCK_ADDRESS=self.dispatcher.address,
            PENSTOCK_POOL=pool,
            PENSTOCK_SLOTS=str(slots),
            PENSTOCK_HTTP_PORT=str(processes.free_port()),
            PENSTOCK_LOG_LEVEL="warning",
            **environment,
        )

    def _popen(self, command: list[str], **environment: str) -> subprocess.Popen[str]:
        made = subprocess.Popen(
            command,
            cwd=ROOT / "benchmarks",
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PENSTOCK_NAMESPACE": "default", **environment},
        )
        self._others.append(made)
        return made

    def stats(self, pool: str = wire.POOL) -> Any:
        """The pool's."""
        with grpc.insecure_channel(self.dispatcher.address) as channel:
            stub = pool_service_pb2_grpc.PoolServiceStub(channel)
            return stub.GetPool(pool_service_pb2.GetPoolRequest(name=pool)).stats

    def pause(self, paused: bool, pool: str = wire.POOL) -> None:
        """Stop dispatch, or let it go on."""
        with grpc.insecure_channel(self.dispatcher.address) as channel:
            stub = pool_service_pb2_grpc.PoolServiceStub(channel)
            if paused:
                stub.PausePool(pool_service_pb2.PausePoolRequest(name=pool))
            else:
                stub.ResumePool(pool_service_pb2.ResumePoolRequest(name=pool))

    def until(self, condition: Callable[[], bool], step: float = 0.05) -> float:
        """Wait; returns the time when it was seen."""
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("a step of the benchmark did not end")
            time.sleep(step)
        return time.time_ns() / 1e9

    @property
    def pid(self) -> int:
        """The dispatcher's."""
        assert self.dispatcher.process is not None
        return self.dispatcher.process.pid

    def cpu_seconds(self) -> float:
        """The dispatcher's processor time so far."""
        return figures.cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        """The dispatcher's memory; what its two processes share counts once."""
        return figures.proportional_bytes(self.pid)

    def close(self) -> None:
        """End what was started."""
        for each in self._others:
            if each.poll() is None:
                each.kill()
            each.wait()
        if self.dispatcher.process is not None and self.dispatcher.process.poll() is None:
            self.dispatcher.kill()


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """One in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        made = Bench(pathlib.Path(folder))
        try:
            yield made
        finally:
            made.close()


def result(role: subprocess.Popen[str]) -> dict[str, Any]:
    """What it says last, once it has ended."""
    out, _ = role.communicate(timeout=STEP_SECONDS_MAX)
    if role.returncode:
        raise RuntimeError(f"{role.args!r} ended with status {role.returncode}")
    said: dict[str, Any] = json.loads(out.splitlines()[-1])
    return said


def first_line(role: subprocess.Popen[str]) -> None:
    """Wait until it says something."""
    assert role.stdout is not None
    role.stdout.readline()
