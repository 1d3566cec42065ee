"""Long runs on a real dispatcher process: `make soak`, and never `make test`."""

import pathlib
from collections.abc import Iterator

import pytest

from rig import dispatchers


@pytest.fixture
def dispatcher_process(tmp_path: pathlib.Path) -> Iterator[dispatchers.DispatcherProcess]:
    """A running dispatcher process without pools."""
    made = dispatchers.DispatcherProcess(tmp_path)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()
