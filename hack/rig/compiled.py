"""The dispatcher with its core compiled, as the images have it, from this checkout."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLUSTER_IMPOSSIBLE = 3
"""What `hack/cluster` ends with when this machine cannot do it at all; it has said why."""
PACKAGE = ROOT / "dispatcher" / "penstock_dispatcher"


class ImpossibleError(Exception):
    """This machine cannot compile; the message says what it lacks."""


def lay_out(folder: pathlib.Path) -> pathlib.Path:
    """Lay out the package in an empty folder, which is to come first on PYTHONPATH, and return that
    folder. Compiles where these sources have not been: about a minute. Raises ImpossibleError.
    """
    command = [sys.executable, str(ROOT / "hack" / "cluster"), "core"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == CLUSTER_IMPOSSIBLE:
        raise ImpossibleError("the dispatcher's core cannot be compiled on this machine")
    done.check_returncode()
    compiled = pathlib.Path(done.stdout.strip())
    core = folder / PACKAGE.name / "core"
    core.mkdir(parents=True)
    for entry in PACKAGE.iterdir():
        if entry.name not in ("core", "__pycache__"):
            (core.parent / entry.name).symlink_to(entry)
    for entry in (PACKAGE / "core").glob("*.py"):
        (core / entry.name).symlink_to(entry)
    for module in compiled.rglob("*.so"):
        (folder / module.relative_to(compiled)).symlink_to(module)
    return folder


@contextlib.contextmanager
def for_children() -> Iterator[None]:
    """Processes that are started meanwhile have the compiled core; where it cannot be had, the
    interpreted one, which is said.
    """
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory(prefix="penstock-compiled-") as scratch:
        try:
            folder = lay_out(pathlib.Path(scratch))
        except ImpossibleError as reason:
            print(f"{reason}: it runs interpreted", file=sys.stderr)
            yield
            return
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), before]))
        try:
            yield
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
