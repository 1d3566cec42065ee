"""The examples on a local fleet: the same manifests, and drivers that judge what they see."""

import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rig import installation, local_fleet


@pytest.fixture
def fleet(
    tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> Iterator[local_fleet.LocalFleet]:
    """The example's fleet, running; ended with the test."""
    one = local_fleet.LocalFleet(tmp_path, installation.manifest(request.param))
    try:
        one.start()
        yield one
    finally:
        one.end()


@pytest.mark.parametrize(
    "fleet",
    ["02-priority", "03-rate-limited", "04-backpressure", "06-fair-tenants"],
    indirect=True,
)
def test_a_driver_is_content(fleet: local_fleet.LocalFleet, request: pytest.FixtureRequest) -> None:
    example = installation.manifest(request.node.callspec.params["fleet"]).parent
    done = subprocess.run(
        [sys.executable, "driver.py", "--address", fleet.record()["address"]],
        cwd=example,
        env=fleet.variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("fleet", ["05-any-language"], indirect=True)
def test_any_command_as_a_worker(fleet: local_fleet.LocalFleet) -> None:
    with fleet.client() as client:
        task = client.submit("words", b"to be or not to be", labels={"top": "2"})
        assert client.result(task, timeout=30).split() == [b"2", b"be", b"2", b"to"]
