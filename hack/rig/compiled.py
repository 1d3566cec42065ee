"""The dispatcher with its core compiled, as the images have it, from this checkout."""

import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from unittest import mock

from rig import environment

PACKAGE = environment.ROOT / "dispatcher" / "penstock_dispatcher"


def search_path(folder: pathlib.Path) -> str:
    """PYTHONPATH for a process that is to have the compiled core, laid out in an empty folder.
    Compiles where these sources have not been: about a minute. Raises environment.ImpossibleError.
    """
    compiled = pathlib.Path(environment.output("core").strip())
    core = folder / PACKAGE.name / "core"
    core.mkdir(parents=True)
    for entry in PACKAGE.iterdir():
        if entry.name not in ("core", "__pycache__"):
            (core.parent / entry.name).symlink_to(entry)
    for entry in (PACKAGE / "core").glob("*.py"):
        (core / entry.name).symlink_to(entry)
    for module in compiled.rglob("*.so"):
        (folder / module.relative_to(compiled)).symlink_to(module)
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@contextlib.contextmanager
def for_children() -> Iterator[None]:
    """Processes that are started meanwhile have the compiled core; where it cannot be had, the
    interpreted one, which is said.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-compiled-") as scratch:
        variables = {}
        try:
            variables["PYTHONPATH"] = search_path(pathlib.Path(scratch))
        except environment.ImpossibleError as reason:
            print(f"{reason}: the core runs interpreted", file=sys.stderr)
        with mock.patch.dict(os.environ, variables):
            yield
