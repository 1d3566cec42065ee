"""One round of a system: what is measured, and how, for Penstock and for its peers alike.

Every figure has a server of its own, which begins empty. Submissions are measured while no worker
is there; the other figures after a warm-up.
"""

import contextlib
import json
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import peers_servers
from harness import STEP_SECONDS_MAX, Bench, bench, first_line, result
from roles import common

RATE = 200
SLOTS, LATENCY_SLOTS = 1000, 16
POLL_SECONDS = 0.02
#: With one sync a round trip; elsewhere threads of one process only wait for one another.
ALWAYS_THREADS = 10


@dataclass(frozen=True, slots=True)
class Load:
    """How much. `tasks` are for throughput; `latency_tasks` are sent at `RATE` a second."""

    warm_up: int
    tasks: int
    latency_tasks: int
    seconds: int


FULL = Load(warm_up=500, tasks=30_000, latency_tasks=2_000, seconds=5)
QUICK = Load(warm_up=50, tasks=3_000, latency_tasks=200, seconds=1)


@dataclass(frozen=True, slots=True)
class Figures:
    """One round of one system. Throughput a second, latency in ms, memory in MiB; None = not
    measured.
    """

    end_to_end: float
    one_by_one: float
    many: float
    p50_ms: float | None
    p99_ms: float | None
    memory_mib: float


# ------------------------------------------------------------ Penstock


def penstock_sdk(load: Load) -> Figures:
    """As people use it: the SDK and `penstock-worker`."""
    with bench() as at:
        at.start()
        one = result(at.role("sdk_caller", seconds=load.seconds, bytes=100))
    with bench() as at:
        at.start()
        many = result(at.role("sdk_producer", tasks=load.tasks, bytes=100))
    with bench() as at:
        at.start()
        worker = at.worker(SLOTS)
        at.until(lambda: at.stats().slots_total == SLOTS)
        result(at.role("sdk_producer", tasks=load.warm_up, bytes=100))
        at.until(lambda: at.stats().succeeded_total >= load.warm_up)
        submitted = result(at.role("sdk_producer", tasks=load.tasks, bytes=100))
        wanted = load.warm_up + load.tasks
        ended = at.until(lambda: at.stats().succeeded_total >= wanted, step=POLL_SECONDS)
        memory = peers_servers.memory_mib(at.pid, worker.pid)
    latency = _penstock_latency(load)
    return Figures(
        end_to_end=load.tasks / (ended - submitted["began"]),
        one_by_one=one["accepted_per_second"],
        many=load.tasks / (many["ended"] - many["began"]),
        p50_ms=latency["p50_ms"],
        p99_ms=latency["p99_ms"],
        memory_mib=memory,
    )


def _penstock_latency(load: Load) -> dict[str, float]:
    with bench() as at:
        at.start()
        stamps, wanted = at.folder / "stamps.json", load.warm_up + load.latency_tasks
        worker = at.worker(LATENCY_SLOTS, BENCH_STAMPS=str(stamps))
        at.until(lambda: at.stats().slots_total == LATENCY_SLOTS)
        result(at.role("pacer", tasks=wanted, rate=RATE))
        at.until(lambda: at.stats().succeeded_total >= wanted)
        worker.terminate()
        worker.wait(STEP_SECONDS_MAX)
        return common.milliseconds(json.loads(stamps.read_text())[load.warm_up :])


def penstock_wire(load: Load) -> Figures:
    """The least that speaks the wire: what the dispatcher can do without our SDK around it."""
    with bench() as at:
        at.start()
        one = result(at.role("callers", callers=1, seconds=load.seconds, bytes=100, pause=0))
    with bench() as at:
        at.start()
        many = result(at.role("producer", tasks=load.tasks, batch=100, bytes=100))
    with bench() as at:
        at.start()
        submitted, ended, memory = _penstock_wire_end_to_end(at, load)
    return Figures(
        end_to_end=load.tasks / (ended - submitted["began"]),
        one_by_one=one["accepted_per_second"],
        many=load.tasks / (many["ended"] - many["began"]),
        p50_ms=None,
        p99_ms=None,
        memory_mib=memory,
    )


def _penstock_wire_end_to_end(at: Bench, load: Load) -> tuple[dict[str, Any], float, float]:
    # The worker counts one task more than there are, so that it stays to be weighed.
    wanted = load.warm_up + load.tasks
    worker = at.role("workers", workers=1, slots=SLOTS, tasks=wanted + 1)
    first_line(worker)
    result(at.role("producer", tasks=load.warm_up, batch=100, bytes=100))
    at.until(lambda: at.stats().succeeded_total >= load.warm_up)
    submitted = result(at.role("producer", tasks=load.tasks, batch=100, bytes=100))
    ended = at.until(lambda: at.stats().succeeded_total >= wanted, step=POLL_SECONDS)
    return submitted, ended, peers_servers.memory_mib(at.pid, worker.pid)


# ------------------------------------------------------------ peers


@dataclass(frozen=True, slots=True)
class Peer:
    """A system of others: its server, and the programs of `peers` for it.

    The worker is arguments for the Python of the peers' environment. `latency_worker` is for where
    throughput and latency want different settings. `always`: the server syncs every write; then
    producers that block submit from several threads, so that they share its syncs.
    """

    server: Callable[..., AbstractContextManager[tuple[str, int]]]
    producer: str
    worker: tuple[str, ...]
    latency_worker: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    always: bool = False

    def measure(self, load: Load) -> Figures:
        """One round; a tenth of the tasks where every write is synced, which takes its time."""
        if self.always:
            load = replace(load, tasks=load.tasks // 10)
        with self._at(load, load.tasks) as at:
            one = at.produce("one")
        with self._at(load, load.tasks) as at:
            many = at.produce("many")
        with self._at(load, load.tasks) as at, at.work(self.worker) as worker:
            submitted = at.produce("with-worker")
            done = at.done()
            memory = peers_servers.memory_mib(at.server, worker.pid)
        with (
            self._at(load, load.latency_tasks) as at,
            at.work(self.latency_worker or self.worker),
        ):
            at.produce("paced")
            latency = common.milliseconds(at.done()["seconds"])
        return Figures(
            end_to_end=load.tasks / (done["ended"] - submitted["began"]),
            one_by_one=one["per_second"],
            many=many["per_second"],
            p50_ms=latency["p50_ms"],
            p99_ms=latency["p99_ms"],
            memory_mib=memory,
        )

    @contextlib.contextmanager
    def _at(self, load: Load, tasks: int) -> Iterator["_Running"]:
        with tempfile.TemporaryDirectory(prefix="penstock-peer-") as name:
            folder = pathlib.Path(name)
            (folder / "data").mkdir()
            with self.server(folder / "data", always=self.always) as (url, server):
                variables = {
                    **self.variables,
                    "BENCH_URL": url,
                    "BENCH_REPORT": str(folder),
                    "BENCH_WARM_UP": str(load.warm_up),
                    "BENCH_TASKS": str(tasks),
                    "BENCH_SECONDS": str(load.seconds),
                    "BENCH_RATE": str(RATE),
                    "BENCH_THREADS": str(ALWAYS_THREADS if self.always else 1),
                }
                yield _Running(self, folder, server, variables)


@dataclass(frozen=True, slots=True)
class _Running:
    """A peer's server with nothing in it, and what is started around it."""

    peer: Peer
    folder: pathlib.Path
    server: int
    variables: dict[str, str]

    def produce(self, mode: str) -> dict[str, Any]:
        """Run the producer to its end; what it said."""
        log = self.folder / "producer.log"
        command = [str(peers_servers.python()), self.peer.producer, mode]
        with peers_servers.process(
            command, log=log, cwd=peers_servers.PEERS, **self.variables
        ) as producer:
            status = producer.wait(STEP_SECONDS_MAX)
        said = log.read_text(errors="replace").splitlines()
        if status or not said:
            last = said[-1] if said else "nothing"
            raise RuntimeError(f"{self.peer.producer} {mode} ended with status {status}: {last}")
        values: dict[str, Any] = json.loads(said[-1])
        return values

    def work(self, arguments: tuple[str, ...]) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Start the worker. It may be told of tasks before it is there: they wait."""
        command = [str(peers_servers.python()), *arguments]
        log = self.folder / "worker.log"
        return peers_servers.process(command, log=log, cwd=peers_servers.PEERS, **self.variables)

    def done(self) -> dict[str, Any]:
        """Wait until the worker has run all tasks; what it said of them."""
        file, deadline = self.folder / "done", time.monotonic() + STEP_SECONDS_MAX
        while not file.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker for {self.peer.producer} did not run all tasks")
            time.sleep(POLL_SECONDS)
        values: dict[str, Any] = json.loads(file.read_text())
        return values
