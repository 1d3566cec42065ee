"""What the README and the tutorial show runs as it is shown, but for the cluster around it."""

import asyncio
import hashlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rig import documents, processes

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
README = ROOT / "README.md"
LAPTOP = ROOT / "docs" / "tutorial" / "laptop.md"
TUTORIAL = ROOT / "docs" / "tutorial" / "first-pool.md"
WRITE_A_WORKER = ROOT / "docs" / "how-to" / "write-a-worker.md"
TEST_HANDLERS = ROOT / "docs" / "how-to" / "test-handlers.md"
EXAMPLE = ROOT / "examples" / "01-dynamic-scaling" / "handlers.py"
ADDRESS = "127.0.0.1:50051"


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start programs; they end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str, **more: Any) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(command, **more))
        return started[-1]

    yield run
    for each in started:
        each.kill()
        each.wait()


class TestReadme:
    @pytest.fixture
    def pools(self, make_pool: Callable[..., Any]) -> list[Any]:
        return [make_pool("namespaces/default/pools/dynamic-scaling", "uid-1")]

    @pytest.mark.parametrize("whose", ["the README's", "the example's"])
    async def test_client_and_workers_know_the_same_type(
        self, whose: str, dispatcher: Any, start: Any, tmp_path: pathlib.Path
    ) -> None:
        shown = documents.block(README, "python", "zlib")
        handlers = shown if whose == "the README's" else EXAMPLE.read_text()
        (tmp_path / "handlers.py").write_text(handlers)
        environment = {
            **os.environ,
            "PENSTOCK_ADDRESS": dispatcher.address,
            "PENSTOCK_POOL": "dynamic-scaling",
        }
        start(str(BIN / "penstock-worker"), "handlers:worker", cwd=tmp_path, env=environment)
        client = documents.block(README, "python", "SyncClient")
        assert ADDRESS in client
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", client.replace(ADDRESS, dispatcher.address)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == hashlib.sha256(b"hello").hexdigest()


def test_the_tutorial_on_a_laptop(tmp_path: pathlib.Path) -> None:
    """Its handler, its manifest, its submissions and its program; nothing else is said."""
    (tmp_path / "tasks.py").write_text(documents.block(LAPTOP, "python", "Worker()"))
    (tmp_path / "pool.yaml").write_text(documents.block(LAPTOP, "yaml", "kind: WorkerPool"))
    program = documents.block(LAPTOP, "python", "SyncClient")
    submissions = documents.block(LAPTOP, "sh", "tasks.jsonl").replace("seq 100", "seq 10")
    script = f"""
        penstock up -f pool.yaml --detach
        trap 'penstock down --now' EXIT
        {submissions}
        export PENSTOCK_ADDRESS=$(sed 's/.*"address": "//; s/".*//' state/penstock/*/fleet.json)
        python -c '{program}'
    """
    environment = {name: value for name, value in os.environ.items() if "PENSTOCK" not in name}
    done = subprocess.run(
        ["bash", "-ec", "\n".join(line.removeprefix("        ") for line in script.splitlines())],
        cwd=tmp_path,
        env={
            **environment,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "XDG_STATE_HOME": str(tmp_path / "state"),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done
    assert "10 succeeded, 0 did not" in done.stderr
    assert hashlib.sha256(b"hello").hexdigest() in done.stdout


def test_the_tutorial_without_a_cluster(start: Any, tmp_path: pathlib.Path) -> None:
    """Its handler, its manifest and its submissions, started as the how-to says."""
    (tmp_path / "tasks.py").write_text(documents.block(TUTORIAL, "python", "Worker()"))
    (tmp_path / "pool.yaml").write_text(documents.block(TUTORIAL, "yaml", "kind: WorkerPool"))
    address = f"127.0.0.1:{processes.free_port()}"
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PENSTOCK_ADDRESS": address,
        "PENSTOCK_POOL": "hashing",
    }
    dispatcher, worker, submit = documents.block(
        WRITE_A_WORKER, "sh", "penstock dispatcher"
    ).splitlines()
    for line in (f"{dispatcher.rstrip('& ')} --listen {address} --http ''", worker.rstrip("& ")):
        start("bash", "-c", f"exec env {line}", cwd=tmp_path, env=environment)
    shown = documents.block(TUTORIAL, "sh", "penstock submit hash --payload").splitlines()
    submissions = [line for line in shown if line.startswith("penstock ")]
    bulk = documents.block(TUTORIAL, "sh", "tasks.jsonl").replace("seq 1000", "seq 20")
    for script in (submit, *submissions, bulk):
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "20 succeeded, 0 did not" in done.stderr


def test_the_tests_that_the_how_to_shows(tmp_path: pathlib.Path) -> None:
    """Its handlers and its tests, as files beside each other, with plain pytest."""
    (tmp_path / "tasks.py").write_text(documents.block(TEST_HANDLERS, "python", "Worker()"))
    for name, text in (
        ("calls", "as functions"),
        ("together", "end to end"),
        ("loop", "in_one_loop"),
    ):
        shown = documents.block(TEST_HANDLERS, "python", text)
        (tmp_path / f"test_{name}.py").write_text(shown)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
