"""`watch` and `top` go on while a dispatcher is killed and comes back."""

import pathlib
import subprocess
import threading
from collections.abc import Iterator

import pytest

from rig import programs

MANIFEST = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: demo}
spec:
  template: {spec: {containers: [{name: worker, image: example/worker}]}}
"""


@pytest.fixture
def standalone(tmp_path: pathlib.Path) -> Iterator[programs.Standalone]:
    with programs.standalone(tmp_path, MANIFEST, "demo") as made:
        yield made


def test_a_watched_task_is_followed_over_a_restart(standalone: programs.Standalone) -> None:
    run = programs.penstock(standalone.address, pool="demo")
    name = run("submit", "echo", "-o", "name").stdout.strip()
    watching = subprocess.Popen(
        [programs.PENSTOCK, "watch", name, "--every", "0.2", "--request-timeout", "30"],
        env=programs.environment(standalone.address, "demo"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert "PENDING" in watching.stdout.readline()
    standalone.kill()
    standalone.start()
    assert run("cancel", name, "--request-timeout", "30").returncode == 0
    said, errors = watching.communicate(timeout=40)
    assert watching.returncode == 1
    assert "CANCELLED" in said
    assert errors == ""


def test_a_task_watched_on_a_terminal_is_one_line(standalone: programs.Standalone) -> None:
    run = programs.penstock(standalone.address, pool="demo")
    name = run("submit", "echo", "-o", "name").stdout.strip()
    arguments = ("watch", name, "--every", "0.2")
    status, written = programs.in_a_terminal(
        *arguments, address=standalone.address, pool="demo", seconds=3
    )
    assert status == 130
    assert "PENDING" in written
    assert "Traceback" not in written


def test_top_says_since_when_nobody_answers(standalone: programs.Standalone) -> None:
    killing = threading.Timer(3, standalone.kill)
    killing.start()
    status, written = programs.in_a_terminal(
        *("top", "--request-timeout", "0.5"), address=standalone.address, pool="demo", seconds=7
    )
    killing.join()
    assert status == 0, written
    assert "default/demo" in written
    assert "no dispatcher answers since" in written
