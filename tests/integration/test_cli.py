"""The real program `penstock` against a real dispatcher: what people type, and what they meet."""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rig import processes, programs

PROGRAM = programs.PENSTOCK
MANIFEST = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: demo}
spec:
  queue: {maxPending: 5}
  template: {spec: {containers: [{name: worker, image: example/worker}]}}
"""
Penstock = programs.Penstock
failed = programs.failed


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[programs.Standalone]:
    folder = tmp_path_factory.mktemp("dispatcher")
    with programs.standalone(folder, MANIFEST, "demo") as made:
        yield made


@pytest.fixture(scope="module")
def penstock(standalone: programs.Standalone) -> Penstock:
    return programs.penstock(standalone.address, pool="demo")


def test_a_task_from_the_command_line(penstock: Penstock) -> None:
    made = penstock("submit", "echo", "--json", '{"a": 1}', "--label", "x=y", "-o", "json")
    assert made.returncode == 0, made.stderr
    name = json.loads(made.stdout)["name"]
    found = json.loads(penstock("get", name, "-o", "json").stdout)
    assert (found["payload"], found["labels"], found["state"]) == ('{"a":1}', {"x": "y"}, "PENDING")
    assert name in penstock("list", "-o", "name").stdout.splitlines()
    waited = penstock("wait", name, "--timeout", "0.2")
    failed(waited, 124, "is PENDING", "--timeout")
    assert penstock("cancel", name, "--reason", "enough").returncode == 0
    over = penstock("wait", name, "-o", "json")
    assert over.returncode == 1
    assert json.loads(over.stdout)["state"] == "CANCELLED"
    pools = penstock("pools").stdout.splitlines()
    assert pools[0].split()[:2] == ["NAMESPACE", "POOL"]
    assert pools[1].split()[:4] == ["default", "demo", "RUNNING", "0/5"]
    assert penstock("workers").stdout.split()[0] == "WORKER"


def test_the_keys_of_a_task(penstock: Penstock) -> None:
    made = penstock(
        *("submit", "echo", "--fairness-key", "tenant", "--concurrency-key", "repository"),
        *("--slots", "1", "-o", "json"),
    )
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert (found["fairness_key"], found["concurrency_key"]) == ("tenant", "repository")
    assert penstock("cancel", found["name"]).returncode == 0
    failed(penstock("submit", "echo", "--slots", "0"), 2, "--slots")
    long = penstock("submit", "echo", "--fairness-key", "x" * 65)
    failed(long, 2, "task.fairness_key", "64 bytes")
    both = penstock("submit", "-f", "-", "--slots", "2", stdin="{}\n")
    failed(both, 2, "--slots with --file")


def test_only_what_failed_is_retried_and_only_what_is_over_deleted(penstock: Penstock) -> None:
    name = penstock("submit", "echo", "-o", "name").stdout.strip()
    assert penstock("retry", name, "-o", "name").stdout.strip() == name, "it waits already"
    failed(penstock("delete", name), 7, "cancel it first")
    assert penstock("cancel", name).returncode == 0
    failed(penstock("retry", name), 7, "is CANCELLED")
    assert penstock("delete", name).stdout.strip() == name
    failed(penstock("get", name), 5, "there is no task")


def test_a_purge_is_shown_before_it_is_done(penstock: Penstock) -> None:
    names = [penstock("submit", kind, "-o", "name").stdout.strip() for kind in ("a", "b", "b")]
    shown = penstock("purge", "demo", "--type", "b")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == names[1:]
    assert "2 waiting tasks match; --force deletes them" in shown.stderr
    done = penstock("purge", "demo", "--type", "b", "--force")
    assert "2 waiting tasks deleted" in done.stderr
    failed(penstock("get", names[1]), 5, "there is no task")
    assert "1 waiting tasks deleted" in penstock("purge", "demo", "--force").stderr


def test_a_pool_is_drained_and_taken_back(penstock: Penstock) -> None:
    name = penstock("submit", "echo", "-o", "name").stdout.strip()
    done = penstock("drain", "demo", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["state"], found["drained"]) == ("DRAINING", False)
    refused = penstock("submit", "echo", "--request-timeout", "0.3")
    failed(refused, 3, "is draining")
    late = penstock("drain", "demo", "--wait", "--timeout", "0.2")
    assert late.returncode == 124
    assert "1 tasks wait, 0 run" in late.stderr
    failed(penstock("drain", "demo", "--timeout", "1"), 2, "--wait")
    assert penstock("cancel", name).returncode == 0
    assert penstock("drain", "demo", "--wait").returncode == 0
    assert penstock("undrain", "demo").stdout.splitlines()[1].split()[2] == "RUNNING"


def test_many_tasks_from_a_file_and_a_full_pool(penstock: Penstock, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(f'{{"payload": {number}}}\n' for number in range(7)))
    done = penstock("submit", "echo", "-f", str(path), "-o", "name")
    assert done.returncode == 4
    names = done.stdout.split()
    assert len(names) == 5
    summary, error = done.stderr.splitlines()
    assert summary == "5 accepted, 2 refused"
    assert "the bound is 5" in error
    failed(penstock("submit", "echo"), 4, "come back in", "--retry-for")
    failed(penstock("submit", "echo", "--max-wait", "0.2"), 4, "no room came free within 0.2 s")
    assert penstock("cancel", *names).returncode == 0
    # Nothing of a file with a wrong line is submitted.
    path.write_text('{"payload": 1}\n{"payload": \n')
    failed(penstock("submit", "echo", "-f", str(path)), 2, "line 2", "not JSON")
    assert penstock("list", "--state", "PENDING", "-o", "name").stdout == ""
    piped = penstock("submit", "echo", "-f", "-", "-o", "name", stdin='{"payload": 1}\n')
    assert penstock("cancel", piped.stdout.strip()).returncode == 0


def test_many_tasks_from_what_can_be_read_only_once(
    penstock: Penstock, standalone: programs.Standalone, tmp_path: pathlib.Path
) -> None:
    nothing = penstock("submit", "echo", "-f", "-")
    assert (nothing.returncode, nothing.stderr) == (0, "0 accepted, 0 refused\n")
    command = f"""{PROGRAM} submit echo -p demo -o name -f <(echo '{{"payload": 1}}')"""
    substituted = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PENSTOCK_ADDRESS": standalone.address},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert substituted.stderr == "1 accepted, 0 refused\n"
    assert penstock("cancel", substituted.stdout.strip()).returncode == 0
    # A wrong line comes after what was accepted: how many is told.
    wrong = penstock("submit", "echo", "-f", "-", "-o", "name", stdin='{"payload": 1}\n{\n')
    assert wrong.returncode == 2
    summary, error = wrong.stderr.splitlines()
    assert summary == "before that, 1 accepted, 0 refused"
    assert "line 2" in error
    assert penstock("cancel", wrong.stdout.strip()).returncode == 0
    failed(penstock("submit", "echo", "-f", "-", stdin="{\n"), 2, "line 1")


def test_the_errors_that_people_meet_first(
    penstock: Penstock, standalone: programs.Standalone
) -> None:
    nobody = f"127.0.0.1:{processes.free_port()}"
    failed(penstock("pools", "--address", nobody, "--request-timeout", "0.5"), 3, nobody)
    failed(penstock("submit", "echo", "-p", "nope"), 5, "nope", "penstock pools")
    failed(penstock("get", "nope"), 5, "nope")
    failed(penstock("submit", "echo", "--json", "{a}"), 2, "--json", "quote it")
    failed(penstock("submit", "echo", "--priority", "high"), 2, "--priority", "--help")
    failed(penstock("submit"), 2, "which type")
    failed(penstock("sbmit"), 2, "sbmit", "submit")
    failed(penstock("submit", "echo", PENSTOCK_POOL=""), 2, "PENSTOCK_POOL")
    failed(penstock("submit", "echo", "-p", "No Pool"), 2, "is not the name of a pool")
    failed(penstock("submit", "x" * 200), 2, "type")
    failed(penstock("submit", "echo", "--delay", "1e12"), 2, "delay must end before")
    labels = '{"labels": {"a": 1}}\n'
    failed(penstock("submit", "echo", "-f", "-", stdin=labels), 2, "line 1", "labels must map")
    failed(penstock("submit", "echo", "-f", "-", "--priority", "0"), 2, "--priority with --file")
    failed(penstock("submit", "echo", "-f", "-", "--delay", "0"), 2, "--delay with --file")
    failed(penstock("submit", "echo", "-f", "-", "--label", "a=b"), 2, "--label with --file")
    large = penstock("submit", "echo", "--payload-file", "-", stdin="x" * 9_000_000)
    failed(large, 2, "send a reference")


async def test_a_bad_token(serve: Any, tmp_path: pathlib.Path) -> None:
    policy = tmp_path / "auth.json"
    policy.write_text(json.dumps({"clients": "token", "tokens": []}))
    async with serve(auth_file=policy) as served:

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [PROGRAM, "pools", "--address", served.address, *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

        failed(await asyncio.to_thread(run), 6, "--token-file")
        token = tmp_path / "token"
        token.write_text("wrong")
        failed(await asyncio.to_thread(run, "--token-file", str(token)), 6, "PENSTOCK_TOKEN")


def test_interrupted_and_closed_pipes_are_quiet(
    penstock: Penstock, standalone: programs.Standalone
) -> None:
    name = penstock("submit", "echo", "-o", "name").stdout.strip()
    environment = {**os.environ, "PENSTOCK_ADDRESS": standalone.address}
    waiting = subprocess.Popen(
        [PROGRAM, "wait", name],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=processes.hear_interrupts,  # noqa: PLW1509 - no threads that matter here
    )
    # gRPC's threads are there once the call is under way.
    threads = pathlib.Path(f"/proc/{waiting.pid}/task")
    deadline = time.monotonic() + 30
    while len(list(threads.iterdir())) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        waiting.send_signal(signal.SIGINT)
        waiting.wait(5)
    if waiting.poll() is None:  # it came while a library was being loaded; people press again
        waiting.send_signal(signal.SIGINT)
    assert waiting.wait(20) == 130
    assert waiting.stderr is not None
    assert waiting.stderr.read() == ""
    shell = f"set -o pipefail; {PROGRAM} list -p demo -o json | true"
    piped = subprocess.run(
        ["bash", "-c", shell], env=environment, capture_output=True, text=True, check=False
    )
    assert piped.stderr == ""
    assert penstock("cancel", name).returncode == 0


def test_configs_that_are_wrong(penstock: Penstock, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "pools.yaml"
    for text, words in (
        ("", "holds no WorkerPool"),
        ("a: [", "is not YAML"),
        (MANIFEST.replace("maxPending: 5", "maxPending: -5"), "spec.queue.maxPending"),
    ):
        config.write_text(text)
        done = penstock("dispatcher", "--config", str(config), "--memory")
        failed(done, 2, words)


def test_the_dispatcher_ends_in_order(standalone: programs.Standalone, penstock: Penstock) -> None:
    assert standalone.stop() == 0
