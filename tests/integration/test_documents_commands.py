"""Commands of the documents that need no cluster, run as they are shown."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from rig import documents, local_fleet, processes, programs

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
LAPTOP = ROOT / "docs" / "tutorial" / "laptop.md"
ANY_COMMAND = ROOT / "docs" / "how-to" / "run-any-command.md"
KEYS = ROOT / "docs" / "how-to" / "keys-and-fairness.md"
TROUBLESHOOT = ROOT / "docs" / "how-to" / "troubleshoot.md"
EXAMPLE = ROOT / "examples" / "05-any-language"
SECONDS_MAX = 100
PAGES = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: pages}
spec:
  delivery: {backoff: {initialSeconds: 0}}
  template: {spec: {containers: [{name: worker, image: example, args: [exec, --, ./pages.sh]}]}}
"""
INDEX_PAGE = """\
#!/bin/sh
echo "$1" >>indexed
if [ "$1" = 2 ] && [ ! -e failed ]; then touch failed; exit 3; fi
while [ "$1" = 3 ] && [ ! -e seen ]; do sleep 0.1; done
"""


@pytest.fixture
def variables(tmp_path: pathlib.Path) -> Iterator[dict[str, str]]:
    """A home of its own; fleets that run there are stopped at the end."""
    kept = {name: value for name, value in os.environ.items() if "PENSTOCK" not in name}
    kept |= {
        "PATH": f"{programs.BIN}:{os.environ['PATH']}",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    yield kept
    bash("penstock down --now || true", variables=kept, folder=tmp_path)


def bash(
    script: str, *, variables: dict[str, str], folder: pathlib.Path
) -> "subprocess.CompletedProcess[str]":
    """Run a script; the first command that fails ends it."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def test_the_readme_on_a_laptop(variables: dict[str, str], tmp_path: pathlib.Path) -> None:
    (tmp_path / "tasks.py").write_text(documents.block(README, "python", "hash_it"))
    (tmp_path / "pool.yaml").write_text(documents.block(README, "yaml", "kind: WorkerPool"))
    commands = documents.block(README, "sh", "penstock up -f pool.yaml --detach")
    # Other fleets of this machine are none of its business, and neither is their port.
    done = bash(commands, variables=variables, folder=tmp_path)
    assert done.returncode == 0, done
    assert "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" in done.stdout
    assert "stopped" in done.stdout + done.stderr


def test_the_tutorial_in_the_foreground(variables: dict[str, str], tmp_path: pathlib.Path) -> None:
    (tmp_path / "tasks.py").write_text(documents.block(LAPTOP, "python", "Worker()"))
    (tmp_path / "pool.yaml").write_text(documents.block(LAPTOP, "yaml", "kind: WorkerPool"))
    command = documents.block(LAPTOP, "sh", "penstock up -f pool.yaml\n").strip()
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=processes.hear_interrupts,  # noqa: PLW1509 - no threads that matter here
    )
    try:
        submit = "penstock submit hash --payload hello --wait -o name"

        def accepted() -> bool:
            return bash(submit, variables=variables, folder=tmp_path).returncode == 0

        local_fleet.eventually(accepted, seconds=60, what="a task's being done")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert "drained; tasks that wait are kept" in said


def test_example_05_without_a_cluster(variables: dict[str, str], tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder)
    dispatcher, worker, submit = documents.block(
        ANY_COMMAND, "sh", "penstock dispatcher"
    ).splitlines()
    address = f"127.0.0.1:{processes.free_port()}"
    listening = f"{dispatcher.rstrip('& ')} --listen {address} --http '' &"
    script = documents.ending_its_jobs(f"{listening}\n{worker}\n{submit}\n")
    done = bash(script, variables={**variables, "PENSTOCK_ADDRESS": address}, folder=folder)
    assert done.returncode == 0, done
    assert "2\tbe" in done.stdout


def test_a_trap_tidies_up(variables: dict[str, str], tmp_path: pathlib.Path) -> None:
    shown = documents.block(ANY_COMMAND, "sh", "long-computation &")
    work = tmp_path / "work"
    program = tmp_path / "long-computation"
    program.write_text("#!/bin/sh\ntouch begun\nexec sleep 60\n")
    program.chmod(0o755)
    work.mkdir()
    process = subprocess.Popen(
        ["sh", "-c", f"work={work}\nPATH=.:$PATH\n{shown}"],
        cwd=tmp_path,
        env=variables,
        start_new_session=True,
    )
    try:
        local_fleet.eventually((tmp_path / "begun").exists, what="the computation")
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(20) == 1
    finally:
        process.kill()
        process.wait()
    assert not work.exists()


def test_a_script_goes_on_where_it_was(variables: dict[str, str], tmp_path: pathlib.Path) -> None:
    """Its second page fails once, and its third one lasts until its progress has been seen."""
    for name, text in (
        ("pages.sh", documents.block(ANY_COMMAND, "sh", "pages.sh")),
        ("index-page", INDEX_PAGE),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "pool.yaml").write_text(PAGES)
    begun = bash("penstock up -f pool.yaml --detach", variables=variables, folder=tmp_path)
    assert begun.returncode == 0, begun
    submit = "penstock submit index --payload 3 -o name"
    task = bash(submit, variables=variables, folder=tmp_path).stdout.strip()

    def shown() -> bool:
        return (
            "page 2 of 3"
            in bash(f"penstock get {task}", variables=variables, folder=tmp_path).stdout
        )

    local_fleet.eventually(shown, seconds=60, what="the progress")
    (tmp_path / "seen").touch()
    done = bash(f"penstock wait {task} --timeout 60", variables=variables, folder=tmp_path)
    assert done.returncode == 0, done
    assert (tmp_path / "indexed").read_text().split() == ["1", "2", "2", "3"]


def test_keys_on_the_command_line_and_in_a_file(
    variables: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """The page's submissions, to a pool with the page's own rules; aging excludes the first."""
    spec: dict[str, Any] = {
        "template": {"spec": {"containers": [{"name": "worker", "image": "example"}]}}
    }
    for shown in (
        documents.block(KEYS, "yaml", "maxPendingPerKey"),
        documents.block(KEYS, "yaml", "perKeyTasks"),
        documents.block(KEYS, "yaml", "maxInFlightPerKey"),
        documents.block(KEYS, "yaml", "slotsPerWorker"),
    ):
        for name, value in yaml.safe_load(shown)["spec"].items():
            spec[name] = {**spec.get(name, {}), **value} if isinstance(value, dict) else value
    kind = {"apiVersion": "penstock.dev/v1alpha1", "kind": "WorkerPool"}
    (tmp_path / "pool.json").write_text(
        json.dumps({**kind, "metadata": {"name": "ci"}, "spec": spec})
    )
    (tmp_path / "tasks.jsonl").write_text(documents.block(KEYS, "json", "fairness_key"))
    standalone = programs.Standalone(tmp_path, tmp_path / "pool.json")
    there = {**variables, "PENSTOCK_ADDRESS": standalone.address}
    try:
        script = "\n".join(
            [
                "penstock pools --request-timeout 30",
                documents.block(KEYS, "sh", "penstock submit build"),
                "penstock submit --pool ci -f tasks.jsonl",
                "penstock list --pool ci -o json >listed",
            ]
        )
        done = bash(script, variables=there, folder=tmp_path)
    finally:
        standalone.kill()
    assert done.returncode == 0, done
    one, other = map(json.loads, (tmp_path / "listed").read_text().splitlines())
    for task in (one, other):
        assert (task["fairness_key"], task["concurrency_key"]) == ("team-a", "repository-7")
        assert (task["type"], task["slots"], task["state"]) == ("build", 2, "PENDING")


def test_what_troubleshooting_looks_at(variables: dict[str, str], tmp_path: pathlib.Path) -> None:
    """Its commands, with a fleet that has a dead letter and a task without a handler."""
    handlers = documents.block(README, "python", "hash_it")
    broken = handlers.replace("    return ", "    raise ValueError(task.type)\n    return ")
    (tmp_path / "tasks.py").write_text(broken)
    (tmp_path / "pool.yaml").write_text(documents.block(README, "yaml", "kind: WorkerPool"))
    begun = bash("penstock up -f pool.yaml --detach", variables=variables, folder=tmp_path)
    assert begun.returncode == 0, begun
    failing = "penstock submit hash --wait || true; penstock submit hsah"
    assert bash(failing, variables=variables, folder=tmp_path).returncode == 0
    looked = bash(
        documents.block(TROUBLESHOOT, "sh", "penstock pools"), variables=variables, folder=tmp_path
    )
    assert looked.returncode == 0, looked
    assert "hsah" in looked.stdout
    assert "ValueError" in looked.stdout
    assert "WAITERS" in looked.stdout
    proxied = {**variables, "http_proxy": "http://127.0.0.1:1"}
    mended = documents.block(TROUBLESHOOT, "sh", "no_proxy")
    assert bash("penstock pools --request-timeout 1", variables=proxied, folder=tmp_path).returncode
    done = bash(f"{mended}\npenstock pools", variables=proxied, folder=tmp_path)
    assert done.returncode == 0, done
