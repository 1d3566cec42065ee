"""Long runs on a real dispatcher process: `make soak`, and never `make test`."""

import pathlib
from collections.abc import Iterator

import pytest

from rig import dispatchers


@pytest.fixture
def dispatcher_process(tmp_path: pathlib.Path) -> Iterator[dispatchers.DispatcherProcess]:
    """A running dispatcher process without pools."""
    with dispatchers.process_in(tmp_path) as made:
        yield made
