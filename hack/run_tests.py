"""`make test`: set up, lint, types, then every test, on a real cluster too.

Started with nothing but Python's standard library, in a fresh clone. What takes long when nothing
is cached, building the cluster's tools and the images, goes on at low priority while the rest of
the machine lints; pytest starts when it is done, so that no timing test shares its cores with a
compiler.

Nothing stops the run early: a failed phase is counted and the next one runs. The tests come last,
those on the cluster beside all others, because they mostly wait for it. A table of all phases and
a line that counts the tests end the output. The exit status is the first failure's.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CLUSTER = ROOT / "hack" / "cluster"
#: In this order: quick ones first.
KINDS = ("unit", "typing", "property", "simulation", "integration", "chart")
CLUSTER_KINDS = ("e2e",)
OUTCOMES = ("passed", "failed", "skipped")
WAIT_LINE_SECONDS = 30.0
#: What `hack/cluster` says when this machine can have no cluster at all.
CLUSTER_IMPOSSIBLE = 3


@dataclass(frozen=True, slots=True)
class Phase:
    """One line of the table."""

    name: str
    seconds: float
    result: str


class Run:
    """The phases so far, and the first failure."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.exit_code = 0

    def add(self, name: str, started: float, code: int, result: str = "") -> None:
        """Count a phase that has ended."""
        said = result or ("ok" if code == 0 else f"FAILED ({code})")
        self.phases.append(Phase(name, time.monotonic() - started, said))
        self.exit_code = self.exit_code or code

    def step(self, name: str, *command: str | Path) -> int:
        """Run one command to its end, its output going where ours goes."""
        print(f"── {name}", flush=True)
        started = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        self.add(name, started, code)
        return code


@contextmanager
def background(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Build the cluster's tools and the images; ended with us, whatever happens."""
    script = 'set -e; "$0" "$1" tools; "$0" "$1" images'
    command = ["nice", "-n", "10", "bash", "-c", script, sys.executable, str(CLUSTER)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def await_builds(run: Run, process: subprocess.Popen[bytes], log: Path, started: float) -> None:
    """Wait for the builds, saying now and then what they are at."""
    print("── cluster tools and images", flush=True)
    while True:
        try:
            code = process.wait(timeout=WAIT_LINE_SECONDS)
            break
        except subprocess.TimeoutExpired:
            print(f"   {_last_line(log)}", flush=True)
    if code == CLUSTER_IMPOSSIBLE:
        run.add("cluster builds", started, 0, "none possible")
        print(f"   {_last_line(log)}", flush=True)
        return
    if code != 0:
        print(log.read_text(errors="replace"), flush=True)
    run.add("cluster builds", started, code)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "starting"


@dataclass(frozen=True, slots=True)
class Tests:
    """One pytest process. `said` is where its output goes; None = where ours goes."""

    process: subprocess.Popen[bytes]
    phases: Path
    said: Path | None = None

    def outcomes(self) -> list[dict[str, Any]]:
        """What its plugin has written."""
        return json.loads(self.phases.read_text()) if self.phases.exists() else []


def start_pytest(scratch: Path, *kinds: str, aside: bool) -> Tests:
    """Start pytest on some kinds of test."""
    name = "-".join(kinds[:1])
    phases = scratch / f"{name}.json"
    path = os.pathsep.join(filter(None, [str(ROOT / "hack"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PENSTOCK_PHASES": str(phases), "PYTHONPATH": path}
    folders = [f"tests/{kind}" for kind in kinds if any((ROOT / "tests" / kind).glob("*.py"))]
    command = [str(BIN / "python"), "-m", "pytest", "-p", "pytest_phases", *folders, *sys.argv[1:]]
    said = scratch / f"{name}.log" if aside else None
    # Ctrl-C reaches it too, and it stops what its fixtures have started.
    with said.open("wb") if said else contextlib.nullcontext() as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT if out else None,
        )
    return Tests(process, phases, said)


def run_pytest(run: Run, scratch: Path) -> None:
    """Run all tests, and print the table."""
    print(f"── pytest {' '.join(KINDS)}; meanwhile, {' '.join(CLUSTER_KINDS)}", flush=True)
    started = time.monotonic()
    both = [
        start_pytest(scratch, *CLUSTER_KINDS, aside=True),
        start_pytest(scratch, *KINDS, aside=False),
    ]
    try:
        for tests in reversed(both):
            code = _await(tests)  # of both, or what one of them said would be lost
            run.exit_code = run.exit_code or code
    except SystemExit:  # we got SIGTERM, which reached only us
        for tests in both:
            tests.process.terminate()
        for tests in both:
            tests.process.wait()
        raise
    rows = [row for tests in reversed(both) for row in tests.outcomes()]
    print("── phases", flush=True)
    for phase in run.phases:
        print(f"{phase.name:<20} {phase.seconds:>8.1f} s   {phase.result}")
    for row in rows:
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(row["outcomes"].items()))
        print(f"{row['name']:<20} {row['seconds']:>8.1f} s   {told}")
    print(f"{'all tests':<20} {time.monotonic() - started:>8.1f} s", flush=True)
    counts = [sum(row["outcomes"].get(name, 0) for row in rows) for name in OUTCOMES]
    print(", ".join(f"{count} {name}" for count, name in zip(counts, OUTCOMES, strict=True)))


def _await(tests: Tests) -> int:
    """Wait for its end, saying now and then where it is; its exit status."""
    while True:
        with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
            code = tests.process.wait(timeout=WAIT_LINE_SECONDS if tests.said else None)
            break
        if tests.said:
            print(f"   {_last_line(tests.said)}", flush=True)
    if tests.said:
        print(tests.said.read_text(errors="replace"), flush=True)
    return code


def main() -> int:
    """Return the exit status of the first phase that failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = Run()
    if run.step("setup", ROOT / "hack" / "venv.sh") != 0:
        return run.exit_code
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as folder:
        scratch = Path(folder)
        log = scratch / "builds.log"
        started = time.monotonic()
        with background(log) as builds:
            run.step("lint", "make", "lint")
            run.step("types", "make", "types")
            await_builds(run, builds, log, started)
        run_pytest(run, scratch)
    failed = [phase.name for phase in run.phases if phase.result.startswith("FAILED")]
    if failed:
        print(f"make test: FAILED: {', '.join(failed)}", flush=True)
    return run.exit_code


if __name__ == "__main__":
    sys.exit(main())
