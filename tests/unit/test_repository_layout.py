"""The tree keeps the shape that docs/explanation/architecture.md promises."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN_FOLDERS = ("operator", "dispatcher", "worker", "client", "proto", "tests")
LINES_MAX = 400


def tracked(*patterns: str) -> list[Path]:
    """Files under version control, or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("folder", PLAIN_FOLDERS)
def test_plain_folders_hold_packages_and_no_modules(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert [path.name for path in (ROOT / folder).glob("*.py")] == []


def test_import_operator_gives_the_standard_library() -> None:
    """Also from the root of the tree, where a package called `operator` would come first."""
    program = "import operator; print(operator.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    assert Path(said).parent == Path(sysconfig.get_path("stdlib"))


def test_no_module_is_two_ideas() -> None:
    """Hand-written modules, tests included, stay under the limit."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked("*.py")
        if "client/penstock/v1/" not in path.as_posix()
        and (lines := len(path.read_text().splitlines())) > LINES_MAX
    }
    assert long == {}


def test_every_module_has_its_theory_of_operation() -> None:
    missing = [
        str(path.relative_to(ROOT))
        for path in tracked(
            "client/**/*.py", "worker/**/*.py", "dispatcher/**/*.py", "operator/**/*.py"
        )
        if "client/penstock/v1/" not in path.as_posix()
        and not path.read_text().lstrip().startswith(('"""', 'r"""'))
    ]
    assert missing == []


def test_what_is_not_to_be_checked_in_is_not() -> None:
    names = {path.name for path in tracked()}
    assert names.isdisjoint({"uv.lock", ".venv"})
