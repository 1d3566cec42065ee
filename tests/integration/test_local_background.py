"""`penstock up --detach`, `penstock down`, and the mistakes that people make with both."""

import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator

import pytest

from penstock_operator.local import state
from rig import local_fleet

MANIFEST = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: echoing}
spec:
  scaling: {minReplicas: 1, maxReplicas: 2}
  template:
    spec:
      containers:
      - name: worker
        image: example/worker
        args: ["tasks:$(ATTRIBUTE)"]
        env: [{name: ATTRIBUTE, value: worker}, {name: GREETING, value: hello}]
"""
HANDLERS = """\
import os
from penstock_worker import Task, Worker
worker = Worker()
@worker.task
def greet(task: Task) -> str:
    return f"{os.environ['GREETING']} {task.payload.decode()}"
"""
Penstock = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def penstock(tmp_path: pathlib.Path) -> Iterator[Penstock]:
    """The command, in a home of its own; whatever runs there is stopped at the end."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")
    }
    variables["XDG_STATE_HOME"] = str(tmp_path / "home")

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [local_fleet.PROGRAM, *arguments],
            env={**variables, **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    (tmp_path / "pool.yaml").write_text(MANIFEST)
    (tmp_path / "tasks.py").write_text(HANDLERS)
    yield run
    run("down", "--now")


def failed(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """It ended with this status, and one line that says these words."""
    assert done.returncode == status, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_in_the_background_and_found_by_everybody(penstock: Penstock) -> None:
    up = penstock("up", "-f", "pool.yaml", "--detach")
    assert up.returncode == 0, up
    pid = up.stdout.split("process ")[1].split(";")[0]
    assert "ready at 127.0.0.1:" in up.stdout
    assert "home/penstock/echoing" in up.stdout
    # Neither the address nor the pool has to be said.
    made = penstock("submit", "greet", "--payload", "you", "--wait", "-o", "json")
    assert '"hello you"' in made.stdout, made
    assert "echoing" in penstock("pools").stdout
    for more in ((), ("--detach",)):
        failed(penstock("up", "-f", "pool.yaml", *more), 2, f"in use by process {pid}", "down")
    assert penstock("down").stdout == "stopped\n"
    failed(penstock("down"), 5, "no local fleet runs")
    assert state.start_time(int(pid)) is None


def test_two_fleets_at_a_time(penstock: Penstock, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(MANIFEST.replace("echoing", "second"))
    second = str(tmp_path / "home" / "penstock" / "second")
    assert penstock("up", "-d", "-f", "pool.yaml").returncode == 0
    assert penstock("up", "-d", "-f", str(other)).returncode == 0
    try:
        failed(penstock("pools"), 2, "several local fleets run", "--address")
        failed(penstock("down"), 2, "several local fleets run", "--state")
        assert "second" in penstock("pools", PENSTOCK_STATE=second).stdout
    finally:
        assert penstock("down", "--now", "--state", second).returncode == 0


def test_handlers_that_do_not_load_are_told_and_tried_again(
    penstock: Penstock, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "tasks.py").write_text("import nothing_of_that_name\n")
    up = penstock("up", "-d", "-f", "pool.yaml")
    failed(up, 1, "workers do not stay alive", "cannot import 'tasks'", "nothing_of_that_name")
    assert "it goes on trying" in up.stderr
    (tmp_path / "tasks.py").write_text(HANDLERS)
    made = penstock("submit", "greet", "--payload", "again", "--wait", "--timeout", "60")
    assert made.returncode == 0, made


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("maxReplicas: 2", "maxReplicas: 0"), ("pool.yaml", "spec.scaling.maxReplicas")),
        (("maxReplicas: 2", "maxReplics: 2"), ("spec.scaling.maxReplics", "maxReplicas")),
        (('args: ["tasks:$(ATTRIBUTE)"]', "tty: true"), ("spec.containers[0].args", "handlers")),
        (
            ("value: hello", "valueFrom: {secretKeyRef: {name: s, key: k}}"),
            ("env[GREETING].valueFrom", "set the variable GREETING"),
        ),
    ],
)
def test_a_wrong_manifest_is_one_line(
    penstock: Penstock, tmp_path: pathlib.Path, wrong: tuple[str, str], words: tuple[str, ...]
) -> None:
    (tmp_path / "pool.yaml").write_text(MANIFEST.replace(*wrong))
    for more in ((), ("--detach",)):
        failed(penstock("up", "-f", "pool.yaml", *more), 2, *words)


def test_a_dispatcher_that_cannot_serve_ends_the_fleet(
    penstock: Penstock, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "home" / "penstock" / "echoing"
    folder.mkdir(parents=True)
    (folder / "journal").write_text("not a folder")
    done = penstock("up", "-f", "pool.yaml")
    assert done.returncode == 3, done
    assert "the dispatcher has ended" in done.stderr
    assert "dispatcher.log" in done.stderr


def test_whoever_reads_may_go(penstock: Penstock, tmp_path: pathlib.Path) -> None:
    command = f"{local_fleet.PROGRAM} up -f pool.yaml | head -1"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "home")}
    with subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=environment) as shell:
        local_fleet.eventually(lambda: "echoing" in penstock("pools").stdout, what="the fleet")
        # It has had more to say meanwhile, to nobody.
        made = penstock("submit", "greet", "--payload", "x", "--wait", "--timeout", "30")
        assert made.returncode == 0, made
        assert penstock("down").returncode == 0
        assert shell.wait(20) == 0
