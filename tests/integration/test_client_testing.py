"""`penstock.testing`: a dispatcher and workers inside a test, blocking and asyncio."""

import asyncio
import logging
import pathlib
import subprocess
import sys
import threading
import time

import pytest

import penstock
import penstock.testing
from penstock import errors
from penstock_worker import Cancelled, PermanentError, Task, Worker

worker = Worker()
started = threading.Event()


@worker.task("upper")
def upper(task: Task) -> bytes:
    return task.payload.upper()


@worker.task("add")
async def add(task: Task) -> int:
    await asyncio.sleep(0)
    return sum(task.json())


@worker.task("refuse")
def refuse(task: Task) -> None:
    raise PermanentError("never")


@worker.task("doze")
def doze(task: Task) -> str:
    started.set()
    task.sleep(float(task.payload))
    return "woke up"


def test_handlers_are_functions() -> None:
    assert upper(penstock.testing.task("quiet")) == b"QUIET"
    numbers = penstock.testing.task(penstock.json_payload([1, 2]), type="add", attempt=2)
    assert (numbers.content_type, numbers.attempt, numbers.type) == ("application/json", 2, "add")
    assert asyncio.run(add(numbers)) == 3
    cancelled = penstock.testing.task("60", timeout=5)
    assert 0 < (cancelled.remaining_seconds or 0) <= 5
    cancelled.stop_event.set()
    with pytest.raises(Cancelled):
        doze(cancelled)


def test_a_worker_and_a_client_in_one_process() -> None:
    with penstock.testing.dispatcher() as local, local.run(worker):
        client = local.client()
        assert local.pools == ("namespaces/default/pools/test",)
        assert client.result(client.submit("upper", b"quiet"), timeout=10) == b"QUIET"
        done = client.wait(client.submit("add", penstock.json_payload([1, 2, 3])), timeout=10)
        assert done.result_json() == 6
        with pytest.raises(penstock.TaskFailed, match="never"):
            client.result(client.submit("refuse"), timeout=10)


async def test_a_worker_and_a_client_in_one_event_loop() -> None:
    async with penstock.testing.dispatcher("team-a/sums") as local, local.run(worker, slots=4):
        client = local.client()
        tasks = [
            await client.submit("add", penstock.json_payload([number, 1])) for number in range(20)
        ]
        results = await asyncio.gather(*(client.result(task, timeout=10) for task in tasks))
        assert [int(result) for result in results] == list(range(1, 21))
        assert [each.id async for each in client.workers()] == ["local-1"]


def test_pools_as_their_manifests_say(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pools.yaml"
    path.write_text(
        "apiVersion: penstock.dev/v1alpha1\nkind: WorkerPool\nmetadata: {name: from-file}\n"
        "spec: {suspend: true, template: {spec: {containers: [{name: worker, image: x}]}}}\n"
    )
    small = penstock.testing.pool("small", queue={"maxPending": 1})
    with penstock.testing.dispatcher(small, path, "other/plain") as local:
        client = local.client()
        client.submit("upper")
        with pytest.raises(penstock.QueueFull):
            client.submit("upper")
        assert client.pool("from-file").state is penstock.PoolState.PAUSED
        assert local.client("other/plain").pool().id == "plain"
    wrong = penstock.testing.pool("a", queue={"maxPending": -1})
    with pytest.raises(ValueError, match="maxPending"), penstock.testing.dispatcher(wrong):
        pass
    with pytest.raises(ValueError, match="not the name of a pool"):
        penstock.testing.pool("No Pool")


def test_the_end_of_a_workers_block_finishes_what_runs() -> None:
    started.clear()
    with penstock.testing.dispatcher() as local:
        client = local.client()
        with local.run(worker):
            task = client.submit("doze", "0.5")
            assert started.wait(10)
        assert client.get(task).state is penstock.TaskState.SUCCEEDED
        left = client.submit("upper")
        with pytest.raises(penstock.WaitTimeout):
            client.wait(left, timeout=0.2)
        with local.run(worker, slots=2), local.run(worker):
            assert client.wait(left, timeout=10).succeeded


def test_a_handler_that_takes_too_long_is_handed_back() -> None:
    started.clear()
    with penstock.testing.dispatcher() as local:
        client = local.client()
        began = time.monotonic()
        with local.run(worker, drain_timeout=0.2):
            task = client.submit("doze", "60")
            assert started.wait(10)
        assert time.monotonic() - began < 10
        assert client.get(task).state is penstock.TaskState.PENDING


def ours() -> list[str]:
    """Threads of dispatchers and workers; gRPC keeps some of its own."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("penstock")]


def test_nothing_is_left_and_clients_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        with penstock.testing.dispatcher() as local, local.run(worker):
            client = local.client()
            assert client.result(client.submit("upper", "a"), timeout=10) == b"A"
        with pytest.raises(RuntimeError, match="closed"):
            client.pool()
        late = penstock.SyncClient(local.address, pool="test", timeout=0.2)
        with late, pytest.raises(errors.Unavailable):
            late.pool()
    deadline = time.monotonic() + 10
    while ours() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ours() == []
    assert [record.getMessage() for record in caplog.records] == []


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['grpc_health'] = None\n"
        "import penstock.testing\n"
        "print(penstock.testing.task('x').payload)\n"
        "penstock.testing.dispatcher().__enter__()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "b'x'\n"
    assert "needs grpc_health: pip install 'penstock[dispatcher]'" in done.stderr.splitlines()[-1]
