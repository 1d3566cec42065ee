"""Example 01's handlers and the check of their results, called directly."""

import importlib.util
import pathlib
import sys
from types import ModuleType

import pytest

from penstock_worker import PermanentError, Task

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "01-dynamic-scaling"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_01_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


handlers = load("handlers")
pieces = load("pieces")


def test_every_byte_of_every_file_is_in_a_piece(tmp_path: pathlib.Path) -> None:
    limit = pieces.PIECE_BYTES_MAX
    contents = {
        "empty": b"",
        "one": b"x",
        "full": b"a" * limit,
        "large": bytes(range(256)) * (limit // 100),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "other").write_bytes(b"not standard")
    found: dict[str, bytes] = {}
    for path in pieces.files(tmp_path):
        for piece, content in pieces.pieces_of(path, root=tmp_path):
            assert len(content) <= limit
            assert piece.size_bytes == len(content)
            found[piece.path] = found.get(piece.path, b"") + content
    assert found == contents


def test_a_result_is_compared_byte_for_byte(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_bytes(b"content " * 1000)
    [(piece, content)] = pieces.pieces_of(tmp_path / "file", root=tmp_path)
    result = handlers.digest(Task(payload=content))
    assert pieces.check(piece, result) == ""
    assert len(result) < len(content)
    assert "another SHA-256" in pieces.check(piece, b"0" * 32 + result[32:])
    assert "decompresses to something else" in pieces.check(
        piece, result[:32] + handlers.digest(Task(payload=b"other"))[32:]
    )
    assert "cannot be decompressed" in pieces.check(piece, result[:-5])


def test_the_standard_library_is_found() -> None:
    names = {path.name for path in pieces.files(pieces.standard_library())}
    assert {"argparse.py", "this.py"} <= names
    assert len(names) > 500


def test_sleep_says_what_it_did() -> None:
    assert handlers.sleep(Task(payload=b"0.001")) == "slept 0.001 s"


@pytest.mark.parametrize("payload", [b"", b"soon", b"-1", b"1000", b"nan", b"\xff"])
def test_sleep_refuses_what_it_cannot_do(payload: bytes) -> None:
    with pytest.raises(PermanentError, match="number of seconds from 0 to 60"):
        handlers.sleep(Task(payload=payload))


def test_both_handlers_are_registered() -> None:
    assert handlers.worker.types == ("digest", "sleep")
