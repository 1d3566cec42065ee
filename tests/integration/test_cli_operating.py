"""The program `penstock` for those who operate pools, and those who watch them."""

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from rig import processes, programs

MANIFEST = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: demo}
spec:
  queue: {maxPending: 50}
  delivery: {maxAttempts: 1}
  template: {spec: {containers: [{name: worker, image: example/worker}]}}
"""
HANDLERS = """\
from penstock_worker import PermanentError, Task, Worker

worker = Worker()


@worker.task("refuse")
def refuse(task: Task) -> None:
    raise PermanentError("no\\nuse")


@worker.task("sleep")
def sleep(task: Task) -> None:
    task.sleep(float(task.payload))
"""
failed = programs.failed


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dispatcher, and a worker of its pool."""
    folder = tmp_path_factory.mktemp("dispatcher")
    config = folder / "pools.yaml"
    config.write_text(MANIFEST)
    (folder / "handlers.py").write_text(HANDLERS)
    made = programs.Standalone(folder, config)
    try:
        with programs.workers(
            1, app="handlers:worker", folder=folder, address=made.address, pool="demo"
        ):
            yield made.address
    finally:
        made.kill()


@pytest.fixture(scope="module")
def penstock(address: str) -> programs.Penstock:
    run = programs.penstock(address, pool="demo")
    assert run("pools", "--request-timeout", "30").returncode == 0
    return run


def until(process: "subprocess.Popen[str]", *words: str) -> list[str]:
    """The lines it prints until one says these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if all(word in line for word in words):
            return lines
    raise AssertionError(f"it never said {words}: {lines}")


def test_a_pool_is_paused_and_resumed(penstock: programs.Penstock) -> None:
    paused = penstock("pause", "demo", "--reason", "a look", "-o", "json")
    assert json.loads(paused.stdout)["state"] == "PAUSED"
    name = penstock("submit", "sleep", "--payload", "0", "-o", "name").stdout.strip()
    failed(penstock("wait", name, "--timeout", "0.3"), 124, "is PENDING")
    assert "PAUSED" in penstock("pools").stdout
    resumed = penstock("resume", "default/demo")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert resumed.stdout.splitlines()[1].split()[:3] == ["default", "demo", "RUNNING"]
    assert penstock("wait", name).returncode == 0
    failed(penstock("pause", "nope"), 5, "nope", "penstock pools")
    failed(penstock("pause"), 2, "POOL", "--help")


async def test_whoever_may_not_is_told_which_token_it_takes(
    serve: Any, tmp_path: pathlib.Path
) -> None:
    policy = tmp_path / "auth.json"
    tokens = [
        {"name": "team", "role": "submit", "token": "of-a-client"},
        {"name": "other", "role": "admin", "token": "of-others", "namespaces": ["others"]},
        {"name": "ops", "role": "admin", "token": "of-the-admin"},
    ]
    policy.write_text(json.dumps({"clients": "open", "tokens": tokens}))
    async with serve(auth_file=policy) as served:
        run = programs.penstock(served.address, pool="demo")

        async def pause(**variables: str) -> "subprocess.CompletedProcess[str]":
            return await asyncio.to_thread(run, "pause", "demo", **variables)

        failed(await pause(), 6, "needs a token", "role admin", "--token-file")
        failed(await pause(PENSTOCK_TOKEN="of-a-client"), 6, "team has role submit", "role admin")
        failed(await pause(PENSTOCK_TOKEN="of-others"), 6, "namespace default", "role admin")
        failed(await pause(PENSTOCK_TOKEN="wrong"), 6, "not known")
        assert (await pause(PENSTOCK_TOKEN="of-the-admin")).returncode == 0


def test_dead_letters_show_cause_and_attempts(penstock: programs.Penstock) -> None:
    name = penstock("submit", "refuse", "-o", "name").stdout.strip()
    assert penstock("wait", name).returncode == 1
    head, row = penstock("dead-letters", "demo").stdout.splitlines()
    assert head.split() == ["TASK", "TYPE", "ATTEMPTS", "LOSSES", "DIED", "CAUSE"]
    task, kind, attempts, losses, _, *cause = row.split()
    assert (kind, attempts, losses) == ("refuse", "1", "0")
    assert " ".join(cause) == "PermanentError: no use"
    assert name.endswith(task)
    assert penstock("dead-letters", "-o", "name").stdout.split() == [name]
    found = json.loads(penstock("dead-letters", "-o", "json").stdout)
    assert (found["error"]["message"], found["attempt"]) == ("no\nuse", 1)
    assert penstock("dead-letters", "--type", "sleep", "-o", "name").stdout == ""
    failed(penstock("dead-letters", "nope"), 5, "nope")
    failed(penstock("dead-letters", PENSTOCK_POOL=""), 2, "PENSTOCK_POOL")


def test_list_filters(penstock: programs.Penstock) -> None:
    assert penstock("pause", "demo").returncode == 0
    options = [("1", "team=a"), ("2", "team=a"), ("2", "team=b")]
    names = [
        penstock(
            *("submit", "filtered", "--priority", priority, "--label", label, "-o", "name")
        ).stdout.strip()
        for priority, label in options
    ]

    def listed(*arguments: str) -> list[str]:
        return penstock("list", "--type", "filtered", "-o", "name", *arguments).stdout.split()

    assert listed() == names
    assert listed("--label", "team=a") == names[:2]
    assert listed("--label", "team=a", "--priority", "2", "--state", "PENDING") == [names[1]]
    assert listed("--limit", "2") == names[:2]
    assert listed("--state", "RUNNING") == []
    failed(penstock("list", "--label", "team"), 2, "KEY=VALUE")
    failed(penstock("list", "--state", "WAITING"), 2, "PENDING")
    assert penstock("cancel", *names).returncode == 0
    assert penstock("resume", "demo").returncode == 0


def test_watch_a_task_to_its_end(penstock: programs.Penstock) -> None:
    good = penstock("submit", "sleep", "--payload", "1", "-o", "name").stdout.strip()
    watched = penstock("watch", good, "--every", "0.2")
    lines = watched.stdout.splitlines()
    assert watched.returncode == 0, watched.stderr
    assert "SUCCEEDED" in lines[-1]
    assert len(lines) <= 3, "one line for each change"
    bad = penstock("submit", "refuse", "-o", "name").stdout.strip()
    watched = penstock("watch", bad, "-o", "json")
    assert watched.returncode == 1
    assert json.loads(watched.stdout.splitlines()[-1])["state"] == "DEAD_LETTERED"
    failed(penstock("watch", "nope"), 5, "nope")


def test_watch_a_pool_until_interrupted(address: str, penstock: programs.Penstock) -> None:
    watching = subprocess.Popen(
        [programs.PENSTOCK, "watch", "--every", "0.1"],
        env=programs.environment(address, "demo"),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=processes.hear_interrupts,  # noqa: PLW1509 - no threads that matter here
    )
    until(watching, "RUNNING", "running 0")
    assert penstock("submit", "sleep", "--payload", "1").returncode == 0
    until(watching, "running 1", "slots 1/1")
    until(watching, "running 0")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 130


def test_top_once_says_what_waits(penstock: programs.Penstock) -> None:
    assert penstock("pause", "demo").returncode == 0
    names = [
        penstock("submit", "sleep", "--priority", priority, "-o", "name").stdout.strip()
        for priority in ("10", "-3", "10")
    ]
    for arguments in (["top"], ["top", "--once", "-n", "default"]):
        head, row = penstock(*arguments).stdout.splitlines()
        for title in ("BY PRIORITY", "RUNNING", "WORKERS", "SLOTS", "RATE", "OLDEST"):
            assert title in head
        assert row.split()[:5] == ["default/demo", "PAUSED", "3/50", "10:2", "-3:1"]
    assert len(penstock("top", "-n", "empty").stdout.splitlines()) == 1
    assert penstock("cancel", *names).returncode == 0
    assert penstock("resume", "demo").returncode == 0
    nobody = f"127.0.0.1:{processes.free_port()}"
    failed(penstock("top", "--address", nobody, "--request-timeout", "0.5"), 3, nobody)


def test_top_is_live_on_a_terminal_and_left_with_an_interrupt(address: str) -> None:
    status, written = programs.in_a_terminal("top", address=address, pool="demo", seconds=4)
    assert status == 0, written
    assert written.count("default/demo") >= 2, "drawn again"
    assert "Ctrl-C leaves" in written
    assert "Traceback" not in written


def test_progress_is_a_bar_on_a_terminal_only(
    address: str, penstock: programs.Penstock, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"payload": "0.05"}\n' * 20)
    arguments = ("submit", "sleep", "--file", str(path), "--wait")
    status, written = programs.in_a_terminal(*arguments, address=address, pool="demo", seconds=60)
    assert status == 0, written
    assert "━" in written
    assert "20 succeeded, 0 did not" in written
    plain = penstock(*arguments)
    assert plain.stderr == "20 accepted, 0 refused\n20 succeeded, 0 did not\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, penstock: programs.Penstock) -> None:
    script = penstock("completion", shell)
    assert script.returncode == 0
    assert "_PENSTOCK_COMPLETE" in script.stdout


def test_bash_completes_commands_and_options(penstock: programs.Penstock) -> None:
    line = {"COMP_WORDS": "penstock dead", "COMP_CWORD": "1"}
    words = penstock(_PENSTOCK_COMPLETE="bash_complete", **line).stdout
    assert words == "plain,dead-letters\n"
    line = {"COMP_WORDS": "penstock list --sta", "COMP_CWORD": "2"}
    assert "--state" in penstock(_PENSTOCK_COMPLETE="bash_complete", **line).stdout
    script = 'eval "$(penstock completion bash)"; complete -p penstock'
    path = f"{programs.BIN}:{os.environ['PATH']}"
    loaded = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_penstock_completion" in loaded.stdout, loaded.stderr
    failed(penstock("completion", "tcsh"), 2, "bash")


@pytest.mark.parametrize(
    ("words", "proposed", "not_proposed"),
    [
        (("su",), "submit", "pools"),
        (("",), "pools", "--help"),
        (("submit", "--pri"), "--priority", "--payload"),
        (("list", "--state", "DEAD"), "DEAD_LETTERED", "PENDING"),
    ],
)
def test_kubectl_completes_the_plugin(
    words: tuple[str, ...], proposed: str, not_proposed: str
) -> None:
    """As kubectl asks: https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins."""
    program = "import sys; from penstock import cli; sys.exit(cli.kubectl_complete_main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, directive = done.stdout.splitlines()
    assert directive == ":4"
    found = [line.partition("\t")[0] for line in lines]
    assert proposed in found
    assert not_proposed not in found
