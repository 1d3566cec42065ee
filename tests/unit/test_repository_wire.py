"""The wire only grows, and the checked-in wire code is what proto/ says."""

import copy
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def snapshot() -> ModuleType:
    """hack/wire_snapshot.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "wire_snapshot", ROOT / "hack" / "wire_snapshot.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_that_was_promised_has_gone(snapshot: ModuleType) -> None:
    assert snapshot.violations(snapshot.load(), snapshot.current()) == []


def test_everything_new_is_written_down(snapshot: ModuleType) -> None:
    assert snapshot.current() == snapshot.load(), "run `make proto` and check the result in"


@pytest.mark.parametrize(
    ("kind", "name", "key", "shape"),
    [
        ("messages", "penstock.v1.Task", "5", None),
        ("messages", "penstock.v1.Task", "5", "string payload"),
        ("messages", "penstock.v1.Task", None, None),
        ("enums", "penstock.v1.Task.State", "9", "DEAD"),
        ("services", "penstock.v1.TaskService", "SubmitTask", None),
        ("services", "penstock.v1.WorkerService", "Work", "a -> b"),
    ],
)
def test_a_promise_that_is_broken_is_found(
    snapshot: ModuleType, kind: str, name: str, key: str | None, shape: str | None
) -> None:
    now = copy.deepcopy(snapshot.load())
    if key is None:
        del now[kind][name]
    elif shape is None:
        del now[kind][name][key]
    else:
        now[kind][name][key] = shape
    broken = snapshot.violations(snapshot.load(), now)
    assert len(broken) == 1
    assert name in broken[0]


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    """Generate again beside the tree: the same files with the same bytes."""
    subprocess.run(
        [sys.executable, ROOT / "hack" / "gen_protos.py", "--into", tmp_path], check=True
    )
    made = {path.name: path.read_bytes() for path in (tmp_path / "penstock" / "v1").iterdir()}
    kept = {
        path.name: path.read_bytes()
        for path in (ROOT / "client" / "penstock" / "v1").iterdir()
        if path.is_file() and path.name != "__init__.py"
    }
    assert made
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == []
