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
    for root, files in (
        (PACKAGE.parent, PACKAGE.rglob("*.py")),
        (compiled, compiled.rglob("*.so")),
    ):
        for file in files:
            place = folder / file.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
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
