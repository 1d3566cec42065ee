"""The program `penstock` changes what waits, acts on many tasks, follows them over a restart."""

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rig import documents, processes, programs

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTROL = ROOT / "docs" / "how-to" / "control.md"
DEADLINES = ROOT / "docs" / "how-to" / "deadlines.md"

MANIFEST = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: demo}
spec:
  delivery: {maxAttempts: 3}
  template: {spec: {containers: [{name: worker, image: example/worker}]}}
"""
HANDLERS = """\
from penstock_worker import PermanentError, Task, Worker

worker = Worker()


@worker.task("refuse")
def refuse(task: Task) -> None:
    raise PermanentError("no use")
"""
failed = programs.failed


@pytest.fixture
def standalone(tmp_path: pathlib.Path) -> Iterator[programs.Standalone]:
    with programs.standalone(tmp_path, MANIFEST, "demo") as made:
        yield made


@pytest.fixture
def penstock(standalone: programs.Standalone) -> programs.Penstock:
    return programs.penstock(standalone.address, pool="demo")


def names_of(penstock: programs.Penstock, *arguments: str) -> list[str]:
    return penstock(*arguments, "-o", "name").stdout.split()


def test_update(penstock: programs.Penstock) -> None:
    (name,) = names_of(penstock, "submit", "echo")
    (other,) = names_of(penstock, "submit", "echo")
    shown = json.loads(penstock("update", other, "--priority", "7", "-o", "json").stdout)
    assert (shown["priority"], shown["queue_position"]) == (7, 0)
    assert "1 tasks come before it" in penstock("get", name).stdout
    delayed = penstock("update", name, "--schedule-time", "+500", "--expire-time", "+900")
    assert "DELAYED" in delayed.stdout
    done = penstock("update", name, "--schedule-time", "none", "--priority", "none", "-o", "json")
    assert (json.loads(done.stdout)["state"], json.loads(done.stdout)["priority"]) == ("PENDING", 0)
    failed(penstock("update", name), 2, "--priority")
    failed(penstock("update", name, "--schedule-time", "tomorrow"), 2, "tomorrow", "2030-01-31")
    failed(penstock("update", name, "--priority", "high"), 2, "high", "whole number")
    failed(penstock("update", name, "--priority", "1", "--etag", "old"), 7, "has changed")
    assert penstock("cancel", name).returncode == 0
    failed(penstock("update", name, "--priority", "1"), 7, "CANCELLED", "only what waits")


def test_cancel_many_counts_before_it_acts(penstock: programs.Penstock) -> None:
    lines = "\n".join(f'{{"type": "echo", "labels": {{"team": "{n % 2}"}}}}' for n in range(6))
    names = penstock("submit", "--file", "-", "-o", "name", stdin=lines).stdout.split()
    look = penstock("cancel", "--filter", "label.team=1")
    assert look.returncode == 0
    assert look.stdout.split() == names[1::2]
    assert "3 tasks match; --force cancels them" in look.stderr
    assert len(names_of(penstock, "list", "--state", "PENDING")) == 6
    done = penstock("cancel", "--filter", "label.team=1", "--force", "--reason", "enough")
    assert (done.stdout.split(), "3 tasks are cancelled" in done.stderr) == (names[1::2], True)
    assert names_of(penstock, "list", "--state", "PENDING") == names[::2]
    assert penstock("cancel", names[0], names[2]).returncode == 0
    assert "1 tasks are" in penstock("cancel", "--filter", "*", "--force").stderr
    failed(penstock("cancel"), 2, "--filter")
    failed(penstock("cancel", names[0], "--filter", "*"), 2, "not both")
    failed(penstock("cancel", names[0], "--force"), 2, "--force")
    failed(penstock("cancel", "--filter", "colour=red"), 2, "colour")


def test_dead_letters_are_queued_again(
    standalone: programs.Standalone, penstock: programs.Penstock, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    names = [names_of(penstock, "submit", "refuse")[0] for _ in range(3)]
    with programs.workers(
        1, app="handlers:worker", folder=tmp_path, address=standalone.address, pool="demo"
    ):
        assert penstock("wait", *names, "--timeout", "30").returncode == 1
        assert penstock("pause", "demo").returncode == 0
    look = penstock("dead-letters", "--retry-all", "--type", "refuse")
    assert (look.stdout.split(), "3 tasks match" in look.stderr) == (names, True)
    assert len(names_of(penstock, "dead-letters")) == 3
    done = penstock("retry", "--filter", "state=DEAD_LETTERED AND type=refuse", "--force")
    assert (done.stdout.split(), "are queued again" in done.stderr) == (names, True)
    assert "0 tasks are queued again" in penstock("dead-letters", "--retry-all", "--force").stderr
    failed(penstock("dead-letters", "--force"), 2, "--retry-all")
    assert names_of(penstock, "list", "--state", "PENDING") == names


def test_tasks_are_followed_over_a_restart(
    standalone: programs.Standalone, penstock: programs.Penstock
) -> None:
    watching = subprocess.Popen(
        [
            *(programs.PENSTOCK, "watch", "--tasks", "--type", "echo", "-o", "json"),
            *("--request-timeout", "30"),
        ],
        env=programs.environment(standalone.address, "demo"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=processes.hear_interrupts,  # noqa: PLW1509 - no threads that matter here
    )
    assert watching.stdout is not None
    seen: list[tuple[str, str]] = []

    def until(name: str, state: str) -> None:
        assert watching.stdout is not None
        for text in watching.stdout:
            change = json.loads(text)["task"]
            assert change["type"] == "echo"
            seen.append((change["name"], change["state"]))
            if seen[-1] == (name, state):
                return
        raise AssertionError(f"never {state}: {seen}")

    try:
        while not seen:  # it may not watch yet when the first ones come
            (first,) = names_of(penstock, "submit", "echo")
            assert penstock("submit", "other").returncode == 0
            if select.select([watching.stdout], [], [], 0.5)[0]:
                until(first, "PENDING")
        standalone.kill()
        standalone.start()
        (second,) = names_of(penstock, "submit", "echo", "--request-timeout", "30")
        until(second, "PENDING")
        assert penstock("cancel", first, second).returncode == 0
        until(second, "CANCELLED")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        assert (first, "CANCELLED") in seen
    finally:
        watching.kill()
        watching.wait()


def test_a_type_is_followed_in_lines(
    standalone: programs.Standalone, penstock: programs.Penstock
) -> None:
    """The command that the page watches with, until Ctrl-C."""
    watching = subprocess.Popen(
        ["bash", "-c", f"exec {documents.block(CONTROL, 'sh', 'penstock watch')}"],
        env={
            **programs.environment(standalone.address, "demo"),
            "PATH": f"{programs.BIN}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=processes.hear_interrupts,  # noqa: PLW1509 - no threads that matter here
    )
    assert watching.stdout is not None
    try:
        line, names = "", []
        while not line:  # it may not watch yet when the first ones come
            assert penstock("submit", "other").returncode == 0
            names += names_of(penstock, "submit", "resize")
            if select.select([watching.stdout], [], [], 0.5)[0]:
                line = watching.stdout.readline()
        _, task, kind, *state = line.split()
        assert (kind, state[0]) == ("resize", "PENDING")
        assert task in [name.rpartition("/")[2] for name in names]
        watching.send_signal(signal.SIGINT)
        rest, _ = watching.communicate(timeout=20)
        assert watching.returncode == 130
        assert "other" not in rest
    finally:
        watching.kill()
        watching.wait()


def test_a_pool_is_held(standalone: programs.Standalone) -> None:
    """The page's pause and drain; nothing waits, so the drain ends at once."""
    shown = documents.block(CONTROL, "sh", "penstock pause").replace("thumbnails", "demo")
    done = subprocess.run(
        ["bash", "-ec", shown],
        env={
            **programs.environment(standalone.address, "demo"),
            "PATH": f"{programs.BIN}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    states = [line.split()[2] for line in done.stdout.splitlines() if "demo" in line]
    assert states == ["PAUSED", "RUNNING", "DRAINING", "RUNNING"]


def test_what_the_how_to_shows(
    standalone: programs.Standalone, penstock: programs.Penstock, tmp_path: pathlib.Path
) -> None:
    """Every command of the page, in its order, but for the one that watches for ever."""
    shown = [
        documents.block(CONTROL, "sh", "penstock update"),
        documents.block(CONTROL, "sh", "cancel --filter"),
        documents.block(CONTROL, "sh", "--retry-all"),
    ]
    done = subprocess.run(
        ["bash", "-ec", "\n".join(shown)],
        cwd=tmp_path,
        env={
            **programs.environment(standalone.address, "demo"),
            "PATH": f"{pathlib.Path(programs.PENSTOCK).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "match; --force cancels them" in done.stderr
    assert penstock("list", "--state", "PENDING").stdout.count("resize") == 1
    program = documents.block(CONTROL, "python", "client.update")
    done = subprocess.run(
        [sys.executable, "-c", program.replace("thumbnails", "demo")],
        env=programs.environment(standalone.address, "demo"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "0"
    late = documents.block(DEADLINES, "python", "max_queue_time")
    done = subprocess.run(
        [sys.executable, "-c", late.replace("thumbnails", "demo")],
        env=programs.environment(standalone.address, "demo"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "", "no worker was ever here: nothing can be predicted"
