"""A disk of a few MiB: a file system in memory, mounted in a namespace of a process of its own."""

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

RUN_SECONDS_MAX = 60.0
_PROGRAM = """
import asyncio, importlib.util, pathlib, sys
file, name, folder, *paths = sys.argv[1:]
sys.path[:0] = paths
spec = importlib.util.spec_from_file_location("on_a_small_disk", file)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
work = getattr(module, name)(pathlib.Path(folder))
if work is not None:
    asyncio.run(work)
"""


def run(
    work: Callable[[pathlib.Path], Coroutine[Any, Any, None] | None],
    file: str,
    folder: pathlib.Path,
    *,
    mib: int,
) -> None:
    """Run a function, or coroutine function, of the test module `file` in a process that has a disk
    of its own at `folder`. Skips the test where nobody may mount one.
    """
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={mib}m none {folder}"
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs unshare, of util-linux")
    probe = subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this system lets nobody mount in a namespace of their own")
    hack = str(pathlib.Path(__file__).parents[1])
    done = subprocess.run(
        [
            *(unshare, "-rm", "sh", "-c", f'{mount} && exec "$0" -c "$@"', sys.executable),
            *(_PROGRAM, file, work.__name__, str(folder), hack),
        ],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
