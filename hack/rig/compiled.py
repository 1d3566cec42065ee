"""The dispatcher with its core compiled, as the images have it, from this checkout."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "dispatcher" / "penstock_dispatcher"


def lay_out(folder: pathlib.Path) -> pathlib.Path:
    """Lay out the package in an empty folder, which is to come first on PYTHONPATH, and return that
    folder. Compiles where these sources have not been: about a minute.
    """
    command = [sys.executable, str(ROOT / "hack" / "cluster"), "core"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    compiled = pathlib.Path(printed.strip())
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
    """Processes that are started meanwhile have the compiled core."""
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory(prefix="penstock-compiled-") as scratch:
        folder = lay_out(pathlib.Path(scratch))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), before]))
        try:
            yield
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
