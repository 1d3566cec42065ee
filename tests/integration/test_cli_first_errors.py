"""What goes wrong first, for people who have just begun: each is one line that says what to do,
with an exit status that is not 0 and no traceback. Real programs, each in a home of its own.
"""

import asyncio
import json
import os
import pathlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from rig import local_fleet, programs

MANIFEST = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: small}
spec:
  queue: {maxPending: 1}
  template: {spec: {containers: [{name: worker, args: ["tasks:worker"]}]}}
"""
NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dispatcher with the pool `small`, which is full."""
    folder = tmp_path_factory.mktemp("dispatcher")
    (folder / "pool.yaml").write_text(MANIFEST)
    standalone = programs.Standalone(folder, folder / "pool.yaml")
    run = programs.penstock(standalone.address, pool="small")
    filled = run("submit", "echo", "--request-timeout", "30")
    assert filled.returncode == 0, filled.stderr
    yield standalone.address
    standalone.kill()


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with the files that the command lines below name."""
    (tmp_path / "lines").write_text('{"payload": 1}\n{"payload": \n')
    (tmp_path / "good.yaml").write_text(MANIFEST)
    (tmp_path / "list.yaml").write_text("- one\n- two\n")
    (tmp_path / "broken.yaml").write_text("spec: [\n")
    (tmp_path / "deployment.yaml").write_text(MANIFEST.replace("WorkerPool", "Deployment"))
    (tmp_path / "typo.yaml").write_text(MANIFEST.replace("maxPending", "maxPendng"))
    (tmp_path / "file").write_text("in the way")
    return tmp_path


def run(
    home: pathlib.Path, *arguments: str, stdin: str = "", **variables: str
) -> "subprocess.CompletedProcess[str]":
    """`penstock ARGUMENTS` with nothing of this machine's in its environment."""
    kept = {name: value for name, value in os.environ.items() if "PENSTOCK" not in name}
    return subprocess.run(
        [programs.PENSTOCK, *arguments],
        cwd=home,
        env={**kept, "XDG_STATE_HOME": str(home / "state"), **variables},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(done: "subprocess.CompletedProcess[str]", status: int, *words: str) -> None:
    """That, nothing on standard output, and no traceback."""
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""
    programs.failed(done, status, *words)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        pytest.param(
            f"pools --address {NOBODY} --request-timeout 1",
            3,
            (NOBODY, "penstock up", "--address", "--kube"),
            id="no dispatcher",
        ),
        pytest.param(
            "pools --address no-such-host.invalid:50051 --request-timeout 1",
            3,
            ("no-such-host.invalid:50051", "--address"),
            id="unreachable address",
        ),
        pytest.param("pools --address ://", 2, ("--address",), id="no address at all"),
        pytest.param("list", 2, ("which pool", "--pool", "penstock up"), id="no pool"),
        pytest.param(
            "up -f typo.yaml", 2, ("spec.queue.maxPendng", "maxPending"), id="unknown field"
        ),
        pytest.param("up -f broken.yaml", 2, ("broken.yaml", "not YAML"), id="manifest: no YAML"),
        pytest.param("up -f list.yaml", 2, ("list.yaml", "WorkerPool"), id="manifest: a list"),
        pytest.param(
            "up -f deployment.yaml", 2, ("deployment.yaml", "WorkerPool"), id="another kind"
        ),
        pytest.param("up -f none.yaml", 2, ("none.yaml", "--help"), id="no manifest"),
        pytest.param("down", 5, ("no local fleet",), id="nothing to stop"),
        pytest.param(
            "up -f good.yaml --state file/state", 2, ("file", "check the path"), id="state folder"
        ),
    ],
)
def test_before_there_is_a_dispatcher(
    home: pathlib.Path, arguments: str, status: int, words: tuple[str, ...]
) -> None:
    one_line(run(home, *arguments.split()), status, *words)


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "words"),
    [
        pytest.param("submit echo -p wrong", "", 5, ("wrong", "penstock pools"), id="wrong pool"),
        pytest.param(
            "submit echo", "", 4, ("the bound is 1", "--max-wait", "--retry-for"), id="full queue"
        ),
        pytest.param("get nope", "", 5, ("nope", "penstock list"), id="unknown task"),
        pytest.param("submit echo --json {", "", 2, ("--json", "quote it"), id="bad JSON"),
        pytest.param("submit echo -f lines", "", 2, ("lines line 2", "JSON"), id="bad JSON, file"),
        pytest.param("submit echo -f -", "{\n", 2, ("line 1", "JSON"), id="bad JSON, stdin"),
        pytest.param("submit", "", 2, ("which type", "--file"), id="no type"),
        pytest.param("sumbit echo", "", 2, ("sumbit", "--help"), id="no such command"),
    ],
)
def test_with_a_dispatcher(
    home: pathlib.Path,
    address: str,
    arguments: str,
    stdin: str,
    status: int,
    words: tuple[str, ...],
) -> None:
    where = {"PENSTOCK_ADDRESS": address, "PENSTOCK_POOL": "small"}
    one_line(run(home, *arguments.split(), stdin=stdin, **where), status, *words)


async def test_a_bad_token(serve: Any, home: pathlib.Path) -> None:
    policy = home / "auth.json"
    policy.write_text(json.dumps({"clients": "token", "tokens": []}))
    async with serve(auth_file=policy) as served:
        for token in ({}, {"PENSTOCK_TOKEN": "wrong"}):
            done = await asyncio.to_thread(
                run, home, "pools", PENSTOCK_ADDRESS=served.address, **token
            )
            one_line(done, 6, "token", "--token-file", "PENSTOCK_TOKEN")


def test_a_server_that_speaks_tls(home: pathlib.Path) -> None:
    """The program speaks plain text; the other side hangs up at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = f"127.0.0.1:{listening.getsockname()[1]}"

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        threading.Thread(target=answer, daemon=True).start()
        done = run(home, "pools", "--address", there, "--request-timeout", "1")
        one_line(done, 3, there, "TLS")
        listening.shutdown(socket.SHUT_RDWR)


def test_a_port_that_is_taken(home: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        for more in ((), ("--detach",)):
            one_line(run(home, "up", "-f", "good.yaml", "--port", port, *more), 2, port, "--port")


def test_a_state_folder_that_nobody_may_write_to(home: pathlib.Path) -> None:
    """Not even root, as which these tests may run."""
    for more in ((), ("--detach",)):
        done = run(home, "up", "-f", "good.yaml", "--state", "/proc/1/penstock", *more)
        one_line(done, 2, "/proc/1/penstock", "permissions")


def test_without_a_terminal_top_is_plain(home: pathlib.Path, address: str) -> None:
    done = run(home, "top", PENSTOCK_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "default/small" in done.stdout


def test_a_type_that_no_worker_knows_is_told_to_who_waits(home: pathlib.Path) -> None:
    (home / "tasks.py").write_text(
        "from penstock_worker import Worker\nworker = Worker()\n"
        "@worker.task('count')\ndef count(task): return task.payload\n"
    )
    fleet = local_fleet.LocalFleet(home, home / "good.yaml", app_dir=home)
    fleet.start()
    try:
        there = {"PENSTOCK_ADDRESS": fleet.record()["address"], "PENSTOCK_POOL": "small"}
        done = run(home, "submit", "cuont", "--wait", "--timeout", "5", **there)
        assert done.returncode == 124, done
        said, end = done.stderr.splitlines()
        assert "no worker of the pool has a handler for 'cuont', only for count" in said
        assert "was not over after 5 s: it is PENDING" in end
    finally:
        fleet.end()
