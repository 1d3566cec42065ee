"""The benchmarks' programs run and say what they measured; how fast it was is not judged here."""

import json
import pathlib
import subprocess
import sys

import pytest

from rig import compiled

pytestmark = pytest.mark.timeout(900)
BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"
RUN_SECONDS_MAX = 110


@pytest.fixture(scope="module", autouse=True)
def compiled_before() -> None:
    """The time of a run is not spent on compiling."""
    with compiled.for_children():
        pass


def measured(folder: pathlib.Path, program: str, *options: str) -> tuple[int, object]:
    """Run it at its smallest; its exit status and what it wrote."""
    command = [sys.executable, str(BENCHMARKS / f"{program}.py"), "--quick", "--rounds", "1"]
    done = subprocess.run(
        [*command, *options, "--json", str(folder / "new")],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    print(done.stdout, done.stderr)  # shown where the test fails
    file = folder / "new" / f"{program}.json"
    assert file.exists(), done.stderr
    return done.returncode, json.loads(file.read_text())


def test_the_dispatchers_table(tmp_path):
    status, rows = measured(tmp_path, "dispatcher", "--only", "unary")
    (row,) = rows
    assert (row["name"], row["unit"], row["better"]) == ("unary", "tasks/s", ">")
    assert row["value"] > 0
    assert row["rounds"] == [row["value"]]
    assert row["details"]["samples"] > 0
    assert status == (0 if row["value"] >= row["target"] else 1)


def test_the_table_of_peers_with_penstock_alone(tmp_path):
    status, said = measured(tmp_path, "peers", "--only", "penstock-wire")
    assert status == 0
    assert said["cores"] <= 2
    sdk, wire = said["systems"]
    assert (sdk["name"], wire["name"]) == ("penstock", "penstock-wire")
    assert all(value > 0 for value in sdk["median"].values())
    assert sdk["median"]["p50_ms"] <= sdk["median"]["p99_ms"]
    assert wire["median"]["p50_ms"] is None
    assert wire["penstock_divided_by_it"]["many"] == pytest.approx(
        sdk["median"]["many"] / wire["median"]["many"]
    )
