"""The dispatcher as the images have it, compiled: it passes the tests of the interpreted one."""

import os
import pathlib
import subprocess
import sys

import pytest

from rig import compiled, environment

SEEDS = "100"
#: Counts calls, of which compiled code shows few.
COUNTING = "test_core_types.py"
UNIT_AND_PROPERTY = sorted(
    str(path.relative_to(environment.ROOT))
    for kind in ("unit", "property")
    for path in (environment.ROOT / "tests" / kind).glob("test_core_*.py")
    if path.name != COUNTING
)
SIMULATION = "tests/simulation/test_pool_under_faults.py"
SHELL = [
    *sorted(
        str(path.relative_to(environment.ROOT))
        for path in (environment.ROOT / "tests" / "unit").glob("test_dispatcher_*.py")
    ),
    "tests/integration/test_dispatcher_refusals.py",
    "tests/integration/test_dispatcher_sessions.py",
    "tests/integration/test_dispatcher_task_fields.py",
    "tests/integration/test_dispatcher_tasks.py",
    "tests/integration/test_journal_moving.py",
    "tests/integration/test_journal_sqlite.py",
]
"""What stands around the core: messages, frames, rows."""
PATCHED = "tests/unit/test_core_keys.py::test_what_is_blocked_is_not_looked_at"
"""Puts a method of its own in place of one; compiled objects keep theirs."""


pytestmark = pytest.mark.timeout(900)
"""What compiles first, if nothing has yet, takes a minute or two."""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    try:
        path = compiled.search_path(tmp_path_factory.mktemp("compiled"))
    except environment.ImpossibleError as reason:
        pytest.skip(str(reason))
    without = {"PENSTOCK_PHASES", "PENSTOCK_SIM_SEED"}
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return {**kept, "PYTHONPATH": path, "PENSTOCK_SIM_SEEDS": SEEDS}


def test_compiled_modules_are_found_before_their_sources(variables: dict[str, str]) -> None:
    folder = pathlib.Path(variables["PYTHONPATH"].split(os.pathsep)[0])
    modules = (file.relative_to(folder) for file in folder.glob("*/**/*.so"))
    names = sorted(
        ".".join((*module.parent.parts, module.name.split(".")[0])) for module in modules
    )
    core = {path.stem for path in (compiled.PACKAGE / "core").glob("*.py")}
    assert {f"penstock_dispatcher.core.{stem}" for stem in core} <= set(names)
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    print(importlib.import_module(name).__file__)"
    )
    command = [sys.executable, "-c", program, *names]
    printed = subprocess.run(
        command, env=variables, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert len(printed.split()) == len(names)
    assert all(file.endswith(".so") for file in printed.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "which",
    [[*UNIT_AND_PROPERTY, f"--deselect={PATCHED}"], [SIMULATION], SHELL],
    ids=["tests", "seeds", "shell"],
)
def test_it_passes_the_tests_of_the_sources(which: list[str], variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *which]
    done = subprocess.run(
        command,
        cwd=environment.ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
