"""Commands of the documents that need no cluster, run as they are shown."""

import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from rig import documents, local_fleet, processes, programs

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
LAPTOP = ROOT / "docs" / "tutorial" / "laptop.md"
ANY_COMMAND = ROOT / "docs" / "how-to" / "run-any-command.md"
TROUBLESHOOT = ROOT / "docs" / "how-to" / "troubleshoot.md"
EXAMPLE = ROOT / "examples" / "05-any-language"
SECONDS_MAX = 100


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
    script = f"trap 'kill $(jobs -p)' EXIT\n{listening}\n{worker}\n{submit}\n"
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
