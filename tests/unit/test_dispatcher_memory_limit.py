"""What a dispatcher takes for its memory, and what part of it is for tasks."""

import os
import pathlib

import pytest

from penstock_dispatcher import __main__ as program
from penstock_dispatcher import memory_limit

MIB = 2**20
MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def group(root: pathlib.Path, path: str, name: str, text: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    (root / path / name).write_text(text)


def test_a_container_sees_its_own_limit_at_the_root(tmp_path: pathlib.Path) -> None:
    group(tmp_path, ".", "memory.max", f"{512 * MIB}\n")
    assert memory_limit.available("0::/\n", tmp_path) == 512 * MIB
    # Whatever path the kernel names.
    assert memory_limit.available("0::/kubepods/pod1/main\n", tmp_path) == 512 * MIB


def test_the_least_limit_on_the_way_up_counts(tmp_path: pathlib.Path) -> None:
    group(tmp_path, "a/b", "memory.max", "max\n")
    group(tmp_path, "a", "memory.max", f"{300 * MIB}\n")
    group(tmp_path, "other", "memory.max", f"{MIB}\n")
    assert memory_limit.available("0::/a/b\n", tmp_path) == 300 * MIB


def test_the_first_version_of_control_groups(tmp_path: pathlib.Path) -> None:
    group(tmp_path, "memory/docker/x", "memory.limit_in_bytes", f"{700 * MIB}\n")
    group(tmp_path, "memory", "memory.limit_in_bytes", f"{2**63 - 4096}\n")
    membership = "3:cpu,cpuacct:/docker/x\n2:memory:/docker/x\n0::/\n"
    assert memory_limit.available(membership, tmp_path) == 700 * MIB


@pytest.mark.parametrize("text", ["", "max\n", "what?\n"])
def test_without_a_limit_it_is_what_the_machine_has(tmp_path: pathlib.Path, text: str) -> None:
    group(tmp_path, ".", "memory.max", text)
    assert memory_limit.available("0::/\nnonsense\n", tmp_path) == MACHINE


def test_this_process_has_some() -> None:
    assert 64 * MIB < memory_limit.available() <= MACHINE


def test_the_part_for_tasks_leaves_room_for_everything_else() -> None:
    assert memory_limit.for_tasks(1024 * MIB) == pytest.approx(537 * MIB, abs=MIB)
    assert memory_limit.for_tasks(100 * MIB) == memory_limit.TASK_MEMORY_MIN


@pytest.mark.parametrize(
    ("text", "size"), [("600000000", 600_000_000), ("600Mi", 600 * MIB), (" 2Gi ", 2048 * MIB)]
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    given, _ = program.settings_from(["--memory", "--task-memory", text])
    assert given.task_memory_bytes == size


@pytest.mark.parametrize("text", ["", "much", "-1", "600MB", "1.5Gi", "15Mi", "9" * 16])
def test_other_sizes_are_refused_with_what_to_write(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        program.settings_from(["--memory", "--task-memory", text])
    assert caught.value.code == 2
    assert "a number with Ki, Mi or Gi, and at least 16Mi" in capsys.readouterr().err


def test_the_environment_may_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_TASK_MEMORY", "100Mi")
    given, _ = program.settings_from(["--memory"])
    assert given.task_memory_bytes == 100 * MIB
    monkeypatch.setenv("PENSTOCK_TASK_MEMORY", "some")
    with pytest.raises(SystemExit):
        program.settings_from(["--memory"])
    monkeypatch.delenv("PENSTOCK_TASK_MEMORY")
    given, _ = program.settings_from(["--memory"])
    assert given.task_memory_bytes == memory_limit.for_tasks(memory_limit.available())
