"""`make test`: set up, lint, types, then every test in one pytest run, on a real cluster too.

Started with nothing but Python's standard library, in a fresh clone. What takes long when nothing
is cached, building the cluster's tools and the images, goes on at low priority while the rest of
the machine lints; pytest starts when it is done, so that no timing test shares its cores with a
compiler.

Nothing stops the run early: a failed phase is counted and the next one runs. pytest comes last, and
its closing line (`N passed`) ends the output when all is well; its plugin `phases` prints the table
of all phases just above it. The exit status is the first failure's.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
CLUSTER = ROOT / "hack" / "cluster"
#: In this order: quick ones first.
KINDS = ("unit", "typing", "property", "simulation", "integration", "chart", "e2e")
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


def run_pytest(run: Run, scratch: Path) -> int:
    """The one pytest run; its plugin prints our phases too."""
    kinds = [f"tests/{kind}" for kind in KINDS if any((ROOT / "tests" / kind).glob("*.py"))]
    phases = scratch / "phases.json"
    phases.write_text(json.dumps([asdict(phase) for phase in run.phases]))
    path = os.pathsep.join(filter(None, [str(ROOT / "hack"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PENSTOCK_PHASES": str(phases), "PYTHONPATH": path}
    print(f"── pytest {' '.join(kinds)}", flush=True)
    command = [str(BIN / "python"), "-m", "pytest", "-p", "pytest_phases", *kinds, *sys.argv[1:]]
    # A pytest of its own process: Ctrl-C reaches it too, and it stops what its fixtures have
    # started.
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    except SystemExit:  # we got SIGTERM, which reached only us
        process.terminate()
        process.wait()
        raise


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
        code = run_pytest(run, scratch)
    failed = [phase.name for phase in run.phases if phase.result.startswith("FAILED")]
    if failed:
        print(f"make test: FAILED: {', '.join(failed)}", flush=True)
    return run.exit_code or code


if __name__ == "__main__":
    sys.exit(main())
