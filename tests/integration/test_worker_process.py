"""A real worker process against a real dispatcher process: signals, crashes, blocked handlers."""

import asyncio
import contextlib
import pathlib
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import penstock
from penstock.v1 import fleet_service_pb2, task_pb2, task_service_pb2
from rig import processes, worker_processes

HANDLERS = pathlib.Path(__file__).with_name("worker_handlers.py")
State = task_pb2.Task
WorkerProcess = worker_processes.WorkerProcess


@pytest.fixture
def start_worker(tmp_path: pathlib.Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start worker processes; whatever is left of them ends with the test."""
    shutil.copy(HANDLERS, tmp_path / "handlers.py")
    workers = worker_processes.Workers(tmp_path)

    def start(address: str, **more: Any) -> WorkerProcess:
        return workers.start(address, "handlers:worker", **more)

    yield start
    workers.close()


async def test_every_kind_of_handler(dispatcher: Any, stubs: Any, start_worker: Any) -> None:
    worker = start_worker(dispatcher.address, slots=3)
    echoed = await stubs.submit(type="echo", payload=b"\x00bytes")
    described = await stubs.submit(type="describe", labels={"a": "b"})
    quick = task_pb2.RetryPolicy(max_attempts=2)
    quick.initial_backoff.FromMilliseconds(10)
    broken = await stubs.submit(type="broken", retry_policy=quick)
    hopeless = await stubs.submit(type="hopeless")
    later = await stubs.submit(type="later")

    done = await stubs.wait(echoed.name)
    assert (done.state, done.result) == (State.SUCCEEDED, b"\x00bytes")
    done = await stubs.wait(described.name)
    assert done.result_content_type == "application/json"
    assert done.result == b'{"attempt": 1, "labels": {"a": "b"}, "type": "describe"}'
    done = await stubs.wait(broken.name)
    assert (done.state, done.attempt, done.error.message) == (State.DEAD_LETTERED, 2, "no good")
    done = await stubs.wait(hopeless.name)
    assert (done.state, done.attempt) == (State.DEAD_LETTERED, 1)
    done = await stubs.wait(later.name)
    assert (done.state, done.result) == (State.SUCCEEDED, b"2")
    assert len(worker.lines("task started")) == 7


@pytest.mark.parametrize(
    ("kind", "payload", "reason", "attempts"),
    [
        ("leaves", b"", "SystemExit", 2),
        ("name_of_a_file", b"", "OSError", 2),
        ("cancels_itself", b"", "CancelledError", 2),
        ("grow", b"20000000", "RESULT_TOO_LARGE", 1),
    ],
)
async def test_a_strange_end_is_an_end(
    kind: str,
    payload: bytes,
    reason: str,
    attempts: int,
    dispatcher: Any,
    stubs: Any,
    rich: Any,
    start_worker: Any,
) -> None:
    """The slot comes free again, and the attempt was charged."""
    worker = start_worker(dispatcher.address)
    twice = task_pb2.RetryPolicy(max_attempts=2)
    twice.initial_backoff.FromMilliseconds(10)
    task = await stubs.submit(type=kind, payload=payload, retry_policy=twice)
    done = await stubs.wait(task.name)
    assert (done.state, done.attempt) == (State.DEAD_LETTERED, attempts)
    assert rich(done.error).reason == reason
    after = await stubs.submit(type="describe")
    assert (await stubs.wait(after.name)).state == State.SUCCEEDED
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.exit_status) == 0


async def test_the_largest_result_can_be_read(dispatcher: Any, start_worker: Any) -> None:
    start_worker(dispatcher.address)
    size = 4 * 1024 * 1024
    async with penstock.Client(dispatcher.address, pool="demo") as client:
        task = await client.submit("grow", str(size))
        assert len(await client.result(task, timeout=20)) == size


async def test_a_task_cancelled_as_it_is_assigned_frees_its_slot(
    dispatcher: Any, stubs: Any, start_worker: Any
) -> None:
    worker = start_worker(dispatcher.address)
    await asyncio.to_thread(worker.until, "connected")
    for _ in range(20):
        task = await stubs.submit(type="doze", payload=b"60")
        await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=task.name), timeout=5)
        assert (await stubs.wait(task.name)).state == State.CANCELLED
    after = await stubs.submit(type="echo", payload=b"free again")
    assert (await stubs.wait(after.name)).state == State.SUCCEEDED


async def test_a_blocked_handlers_loop_holds_up_no_plain_function(
    dispatcher: Any, stubs: Any, start_worker: Any
) -> None:
    worker = start_worker(dispatcher.address, slots=2)
    blocking = await stubs.submit(type="block_the_loop", payload=b"4")
    await asyncio.to_thread(worker.until, "task started")
    for _ in range(3):
        task = await stubs.submit(type="echo", payload=b"through")
        assert (await stubs.wait(task.name)).state == State.SUCCEEDED
    assert (await stubs.get(blocking.name)).state == State.RUNNING
    assert (await stubs.wait(blocking.name)).state == State.SUCCEEDED


async def test_sigterm_finishes_what_runs(dispatcher: Any, stubs: Any, start_worker: Any) -> None:
    worker = start_worker(dispatcher.address)
    running = await stubs.submit(type="doze", payload=b"1.5")
    waiting = await stubs.submit(type="echo", payload=b"next")
    await asyncio.to_thread(worker.until, "task started")
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.exit_status) == 0
    assert (await stubs.get(running.name)).state == State.SUCCEEDED
    assert (await stubs.get(waiting.name)).state == State.PENDING
    (line,) = worker.lines("SIGTERM received")
    assert "running=1" in line


async def test_sigterm_without_work_or_dispatcher_ends_at_once(start_worker: Any) -> None:
    worker = start_worker(f"127.0.0.1:{processes.free_port()}")
    await asyncio.to_thread(worker.until, "worker starts")
    await asyncio.sleep(0.5)
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.exit_status, 5) == 0


async def test_sigterm_is_heard_while_threads_come_and_go(
    dispatcher: Any, start_worker: Any
) -> None:
    """A probe is answered in a thread of its own, which may be the one that gets the signal."""
    workers = [
        start_worker(
            dispatcher.address, PENSTOCK_POD_NAME=f"pod-{number}", PENSTOCK_POD_UID=f"uid-{number}"
        )
        for number in range(8)
    ]
    for worker in workers:
        await asyncio.to_thread(worker.until, "connected", 60)
    over = threading.Event()

    def probe(worker: WorkerProcess) -> None:
        while not over.wait(0.001):
            with contextlib.suppress(OSError):
                worker.ready()

    probes = [threading.Thread(target=probe, args=(worker,)) for worker in workers]
    for thread in probes:
        thread.start()
    await asyncio.sleep(1)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    try:
        for worker in workers:
            assert await asyncio.to_thread(worker.exit_status) == 0
            assert worker.lines("SIGTERM received running=0")
    finally:
        over.set()
        for thread in probes:
            thread.join()


async def test_a_drain_timeout_hands_the_task_back(
    dispatcher: Any, stubs: Any, start_worker: Any
) -> None:
    worker = start_worker(dispatcher.address, PENSTOCK_DRAIN_TIMEOUT_SECONDS="1")
    task = await stubs.submit(type="block", payload=b"60")
    await asyncio.to_thread(worker.until, "task started")
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.exit_status) == 0
    after = await stubs.get(task.name)
    assert (after.state, after.attempt, after.worker_losses) == (State.PENDING, 0, 0)


async def test_a_dispatcher_crash_is_invisible_to_running_tasks(
    dispatcher_process: Any, stubs_for: Any, start_worker: Any
) -> None:
    await asyncio.to_thread(dispatcher_process.configure)
    stubs = stubs_for(dispatcher_process.address)
    worker = start_worker(dispatcher_process.address, slots=2)
    through = await stubs.submit(type="doze", payload=b"4")
    during = await stubs.submit(type="doze", payload=b"0.7")
    await asyncio.to_thread(worker.until, during.name)
    await asyncio.to_thread(worker.until, through.name)
    dispatcher_process.kill()
    await asyncio.to_thread(worker.until, "outcome=completed")  # one ends while nobody listens
    await asyncio.to_thread(dispatcher_process.start)
    for task in (through, during):
        done = await stubs.wait(task.name, 20)
        assert (done.state, done.result, done.attempt) == (State.SUCCEEDED, b"dozed", 1)
    assert len(worker.lines("task started")) == 2, "nothing ran twice"
    await stubs.channel.close()


class TestShortLeases:
    """Leases of three seconds, heartbeats each second."""

    @pytest.fixture
    def pools(self, make_pool: Any) -> list[Any]:
        return [make_pool(lease_duration=3, heartbeat_interval=1, cancel_grace=1)]

    async def test_a_blocked_handler_starves_no_heartbeat(
        self, dispatcher: Any, stubs: Any, start_worker: Any
    ) -> None:
        worker = start_worker(dispatcher.address)
        task = await stubs.submit(type="block", payload=b"5")
        done = await stubs.wait(task.name, 15)
        assert (done.state, done.worker_losses) == (State.SUCCEEDED, 0)
        assert len(worker.lines("task started")) == 1

    async def test_a_killed_worker_costs_a_lease_and_no_attempt(
        self, dispatcher: Any, stubs: Any, start_worker: Any
    ) -> None:
        first = start_worker(dispatcher.address)
        task = await stubs.submit(type="doze", payload=b"0.5")
        await asyncio.to_thread(first.until, "task started")
        first.signal(signal.SIGKILL)
        second = start_worker(dispatcher.address)
        done = await stubs.wait(task.name, 15)
        assert (done.state, done.attempt, done.worker_losses) == (State.SUCCEEDED, 1, 1)
        assert len(second.lines("task started")) == 1

    @pytest.mark.parametrize("kind", ["doze", "patient"])
    async def test_cancel_stops_a_running_handler(
        self, kind: str, dispatcher: Any, stubs: Any, start_worker: Any
    ) -> None:
        worker = start_worker(dispatcher.address)
        task = await stubs.submit(type=kind, payload=b"60")
        await asyncio.to_thread(worker.until, "task started")
        await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=task.name), timeout=5)
        done = await stubs.wait(task.name)
        assert done.state == State.CANCELLED
        after = await stubs.submit(type="echo", payload=b"free again")
        assert (await stubs.wait(after.name)).state == State.SUCCEEDED

    async def test_an_execution_timeout_is_a_failed_attempt(
        self, dispatcher: Any, stubs: Any, start_worker: Any
    ) -> None:
        start_worker(dispatcher.address)
        once = task_pb2.RetryPolicy(max_attempts=1)
        task = await stubs.submit(
            type="doze", payload=b"60", retry_policy=once, execution_timeout={"seconds": 1}
        )
        done = await stubs.wait(task.name)
        assert done.state == State.FAILED
        assert done.error.code == 4


async def test_a_drained_worker_is_not_ready_and_gets_nothing_more(
    dispatcher: Any, stubs: Any, start_worker: Any
) -> None:
    worker = start_worker(dispatcher.address)
    await asyncio.to_thread(worker.until, "connected")
    assert await asyncio.to_thread(worker.ready) == 200
    request = fleet_service_pb2.ReserveWorkersRequest(
        pool="namespaces/default/pools/demo", count=1, idle_only=True, epoch=1
    )
    reserved = await stubs.fleet.ReserveWorkers(request, timeout=5)
    assert len(reserved.workers) == 1
    await asyncio.to_thread(worker.until, "not ready from now on")
    assert await asyncio.to_thread(worker.ready) == 503
    task = await stubs.submit(type="echo")
    await asyncio.sleep(0.5)
    assert (await stubs.get(task.name)).state == State.PENDING
    assert worker.process.poll() is None, "it waits for its pod to be removed"
    worker.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.exit_status) == 0


async def test_reconnecting_leaks_nothing(dispatcher: Any, stubs: Any, start_worker: Any) -> None:
    worker = start_worker(dispatcher.address)
    folder = pathlib.Path(f"/proc/{worker.process.pid}")

    def held() -> tuple[int, int]:
        return len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))

    async def settled(count: int) -> None:
        async with asyncio.timeout(20):
            while len(worker.lines("connected address")) < count:
                await asyncio.sleep(0.05)

    await settled(1)
    await dispatcher.restart()
    await settled(2)
    before = held()
    for count in range(3, 11):
        await dispatcher.restart()
        await settled(count)
    after = held()
    assert after[0] <= before[0] + 3, f"descriptors grew from {before[0]} to {after[0]}"
    assert after[1] <= before[1] + 2, f"threads grew from {before[1]} to {after[1]}"
