"""A cluster to work on, from `hack/cluster`: found or started, with the images in it.

Everything is asked of that program; this module only keeps the answers: which environment
variables lead to the cluster, and whether it was us who started it (then it is us who stop it).
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rig import processes

ROOT = Path(__file__).resolve().parent.parent.parent
CLUSTER = [sys.executable, str(ROOT / "hack" / "cluster")]
#: The exit status of hack/cluster where what it is asked for is not possible at all.
IMPOSSIBLE = 3


class ImpossibleError(Exception):
    """This machine can have no cluster, or cannot compile; the text, or that program before, says
    what is lacking.
    """


@dataclass(frozen=True, slots=True)
class Environment:
    """How to reach the cluster, and who started it."""

    #: given, kind or node.
    mode: str
    #: For the programs that talk to the cluster: KUBECONFIG, PATH with kubectl and helm, …
    variables: dict[str, str]
    started_here: bool
    #: Cluster, then images and their loading, in seconds.
    up_seconds: float
    images_seconds: float

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig file."""
        return Path(self.variables["KUBECONFIG"])

    def down(self) -> None:
        """Stop the cluster if it was started here."""
        if self.started_here:
            _run("down")


def ensure(*, images: bool = True) -> Environment:
    """Have a ready cluster with Penstock's images in it. Progress goes to standard error."""
    before = subprocess.run([*CLUSTER, "status"], capture_output=True, text=True, check=False)
    if before.returncode == IMPOSSIBLE:
        raise ImpossibleError(before.stderr.strip().removeprefix("cluster: error: "))
    ran_already = before.returncode == 0
    try:
        started = time.monotonic()
        _run("up")
        up_seconds = time.monotonic() - started
        started = time.monotonic()
        if images:
            _run("images", quiet=True)
            _run("load")
        return Environment(
            mode=json.loads(output("status"))["mode"],
            variables=_variables(),
            started_here=not ran_already,
            up_seconds=up_seconds,
            images_seconds=time.monotonic() - started,
        )
    except BaseException:
        if not ran_already:
            _run("down")
        raise


def _run(*arguments: str, quiet: bool = False) -> None:
    out = subprocess.DEVNULL if quiet else sys.stderr.fileno()
    _check(processes.run_to_end([*CLUSTER, *arguments], stdout=out), *arguments)


def _check(code: int, *arguments: str) -> None:
    if code == IMPOSSIBLE:
        raise ImpossibleError(f"hack/cluster {' '.join(arguments)} finds no way here")
    if code != 0:
        raise RuntimeError(f"hack/cluster {' '.join(arguments)} failed ({code}); it says why above")


def output(*arguments: str) -> str:
    """What a command of hack/cluster prints. Raises ImpossibleError."""
    done = subprocess.run([*CLUSTER, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    _check(done.returncode, *arguments)
    return done.stdout


def _variables() -> dict[str, str]:
    """Our own environment plus what `hack/cluster env` exports, as a shell would see it."""
    dump = "import json, os; print(json.dumps(dict(os.environ)))"
    command = ["bash", "-c", 'eval "$1"; exec "$2" -c "$3"', "bash"]
    command += [output("env"), sys.executable, dump]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {**os.environ, **json.loads(done.stdout)}
