"""The files of a command: its checkpoint, its progress, and whatever else it may put there."""

import logging
import os
import pathlib
from collections.abc import Iterator

import pytest

import penstock.testing
import penstock_worker
from penstock_worker import command_files


@pytest.fixture
def task() -> penstock_worker.Task:
    """One whose earlier attempt has left something."""
    return penstock.testing.task(checkpoint=b"page 7")


@pytest.fixture
def files(task: penstock_worker.Task, tmp_path: pathlib.Path) -> Iterator[command_files.Files]:
    """Of that task."""

    def make() -> str:
        folder = tmp_path / "folder"
        folder.mkdir()
        return str(folder)

    with command_files.Files(task, make=make) as made:
        yield made


def paths(files: command_files.Files) -> tuple[pathlib.Path, pathlib.Path]:
    found = files.environment
    return (
        pathlib.Path(found["PENSTOCK_TASK_CHECKPOINT"]),
        pathlib.Path(found["PENSTOCK_TASK_PROGRESS"]),
    )


def replace(path: pathlib.Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.rename(path)


def test_a_checkpoint_is_there_and_a_newer_one_is_taken(
    files: command_files.Files, task: penstock_worker.Task
) -> None:
    checkpoint, _ = paths(files)
    assert checkpoint.read_bytes() == b"page 7"
    files.look()
    assert task.told.take() is None, "it is the one of before"
    replace(checkpoint, b"page 8")
    files.look()
    assert task.told.checkpoint == b"page 8"
    task.told.take()
    files.look()
    assert task.told.take() is None
    files.close()
    assert not checkpoint.parent.exists()


def test_without_an_earlier_checkpoint_there_is_no_file(tmp_path: pathlib.Path) -> None:
    with command_files.Files(penstock.testing.task(), make=lambda: str(tmp_path)) as files:
        assert [path.exists() for path in paths(files)] == [False, False]


@pytest.mark.parametrize(
    ("written", "fraction", "message"),
    [
        ("0.5\n", 0.5, ""),
        ("0.25 page 7 of 28", 0.25, "page 7 of 28"),
        ("0.1 one\n0.2 two\n\n", 0.2, "two"),
        ("0 " + "x" * 1000 + "\n" + "0.9 long\n" * 1000, 0.9, "long"),
    ],
)
def test_the_last_line_of_the_progress_counts(
    files: command_files.Files,
    task: penstock_worker.Task,
    written: str,
    fraction: float,
    message: str,
) -> None:
    paths(files)[1].write_text(written)
    files.look()
    assert (task.told.fraction, task.told.message) == (fraction, message)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("progress", b"half\n", "progress is not understood"),
        ("progress", b"nan\n", "progress is not understood"),
        ("progress", b"7 of 28\n", "progress is not understood"),
        ("checkpoint", b"x" * 65_537, "65536 bytes"),
    ],
)
def test_what_cannot_be_used_is_said_once(
    files: command_files.Files,
    task: penstock_worker.Task,
    caplog: pytest.LogCaptureFixture,
    name: str,
    content: bytes,
    said: str,
) -> None:
    replace(paths(files)[0].with_name(name), content)
    with caplog.at_level(logging.WARNING):
        files.look()
        files.look()
    assert caplog.text.count(said) == 1
    assert task.told.take() is None


def test_pipes_links_and_folders_hold_up_nobody(
    files: command_files.Files, task: penstock_worker.Task, tmp_path: pathlib.Path
) -> None:
    checkpoint, progress = paths(files)
    checkpoint.unlink()
    os.mkfifo(checkpoint)
    (tmp_path / "elsewhere").write_text("0.5")
    progress.symlink_to(tmp_path / "elsewhere")
    files.look()
    checkpoint.unlink()
    checkpoint.mkdir()
    files.look()
    assert task.told.take() is None


def test_without_a_place_to_write_to_the_command_runs_without_files(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def none() -> str:
        raise PermissionError("read-only")

    with command_files.Files(penstock.testing.task(), make=none) as files:
        assert files.environment == {}
        files.look()
    assert "TMPDIR" in caplog.text
