"""The core as the images have it, compiled: it passes the tests of the interpreted one."""

import os
import subprocess
import sys

import pytest

from rig import compiled

SEEDS = "100"
UNIT_AND_PROPERTY = sorted(
    str(path.relative_to(compiled.ROOT))
    for kind in ("unit", "property")
    for path in (compiled.ROOT / "tests" / kind).glob("test_core_*.py")
)
SIMULATION = "tests/simulation/test_pool_under_faults.py"
PATCHED = "tests/unit/test_core_keys.py::test_what_is_blocked_is_not_looked_at"
"""Puts a method of its own in place of one; compiled objects keep theirs."""


pytestmark = pytest.mark.timeout(900)
"""What compiles first, if nothing has yet, takes a minute or two."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    try:
        folder = compiled.lay_out(tmp_path_factory.mktemp("compiled"))
    except compiled.ImpossibleError as reason:
        pytest.skip(str(reason))
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    without = {"PENSTOCK_PHASES", "PENSTOCK_SIM_SEED"}
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return {**kept, "PYTHONPATH": path, "PENSTOCK_SIM_SEEDS": SEEDS}


def test_compiled_modules_are_found_before_their_sources(environment: dict[str, str]) -> None:
    names = sorted(path.stem for path in (compiled.PACKAGE / "core").glob("*.py"))
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    print(importlib.import_module(f'penstock_dispatcher.core.{name}').__file__)"
    )
    command = [sys.executable, "-c", program, *names]
    printed = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert len(printed.split()) == len(names)
    assert all(file.endswith(".so") for file in printed.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "which", [[*UNIT_AND_PROPERTY, f"--deselect={PATCHED}"], [SIMULATION]], ids=["tests", "seeds"]
)
def test_it_passes_the_tests_of_the_core(which: list[str], environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *which]
    done = subprocess.run(
        command,
        cwd=compiled.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
