"""Where the kernel counts its kills for want of memory, and how the count is read."""

import pathlib

import pytest

from penstock_worker import memory_events

ROOT = pathlib.Path("/sys/fs/cgroup")
VERSION_2 = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n"
VERSION_1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"


@pytest.mark.parametrize(
    ("text", "kills"),
    [(VERSION_2, 3), (VERSION_1, 4), ("", None), ("oom_kill_disable 0\n", None)],
)
def test_the_count(text: str, kills: int | None) -> None:
    assert memory_events.kills_in(text) == kills


def test_the_groups_own_file_comes_before_the_roots() -> None:
    assert memory_events.places("0::/kubepods/pod1\n") == [
        ROOT / "kubepods/pod1/memory.events",
        ROOT / "memory.events",
        ROOT / "memory/memory.oom_control",
    ]
    assert memory_events.places("5:cpu,memory:/docker/1\n3:cpuset:/\n") == [
        ROOT / "memory.events",
        ROOT / "memory/docker/1/memory.oom_control",
        ROOT / "memory/memory.oom_control",
    ]
    assert memory_events.places("")[0] == ROOT / "memory.events"


def test_a_counter_reads_the_first_file_that_has_one(tmp_path: pathlib.Path) -> None:
    empty, good = tmp_path / "empty", tmp_path / "good"
    empty.write_text("")
    good.write_text(VERSION_1)
    counter = memory_events.Counter([tmp_path / "missing", empty, good])
    assert counter.kills() == 4
    good.write_text(VERSION_1.replace("4", "5"))
    assert counter.kills() == 5
    assert memory_events.Counter([tmp_path / "missing"]).kills() == 0
