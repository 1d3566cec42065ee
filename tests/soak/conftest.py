"""Long runs on a real dispatcher process: `make soak`, and never `make test`."""

import pathlib
from collections.abc import Iterator

import pytest

from rig import compiled, dispatchers


@pytest.fixture(scope="session", autouse=True)
def compiled_core() -> Iterator[None]:
    """What runs for long is what the images have."""
    with compiled.for_children():
        yield


@pytest.fixture
def dispatcher_process(tmp_path: pathlib.Path) -> Iterator[dispatchers.DispatcherProcess]:
    """A running dispatcher process without pools."""
    with dispatchers.process_in(tmp_path) as made:
        yield made
