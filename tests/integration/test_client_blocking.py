"""The blocking client against a dispatcher in a process of its own."""

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import penstock
from penstock import errors


@pytest.fixture
def client(dispatcher_process: Any, make_pool: Callable[..., Any]) -> Iterator[penstock.SyncClient]:
    dispatcher_process.configure(
        make_pool(max_pending=10_000),
        make_pool("namespaces/default/pools/small", "uid-small", max_pending=1),
    )
    with penstock.SyncClient(dispatcher_process.address, pool="demo", timeout=10) as made:
        yield made


def test_submit_get_cancel_list(client: penstock.SyncClient) -> None:
    task = client.submit("echo", "text", priority=2)
    assert client.get(task).payload == b"text"
    assert client.pool().pending == 1
    assert [found.name for found in client.list(priority=2)] == [task.name]
    assert [pool.id for pool in client.pools()] == ["demo", "small"]
    assert list(client.workers()) == []
    with pytest.raises(penstock.WaitTimeout):
        client.wait(task, timeout=0.2)
    assert client.cancel(task).state is penstock.TaskState.CANCELLED
    assert client.cancel(task).state is penstock.TaskState.CANCELLED
    with pytest.raises(errors.TaskCancelled):
        client.result(task)


def test_refusals(client: penstock.SyncClient) -> None:
    client.submit("echo", pool="small")
    with pytest.raises(penstock.QueueFull) as raised:
        client.submit("echo", pool="small")
    assert raised.value.retry_after_seconds
    with pytest.raises(errors.PoolNotFound):
        client.submit("echo", pool="nowhere")
    with pytest.raises(errors.PoolNotFound):
        list(client.submit_many([penstock.Submission("echo")], pool="nowhere"))
    with pytest.raises(ValueError, match="not the name of a pool"):
        client.list("a/b/c")


def test_changes_are_watched_as_they_happen(client: penstock.SyncClient) -> None:
    task = client.submit("echo")
    with contextlib.closing(client.watch(tasks=[task])) as changes:
        assert next(changes).task.state is penstock.TaskState.PENDING
        client.cancel(task)
        change = next(changes)
    assert change.task.state is penstock.TaskState.CANCELLED
    assert change.previous is penstock.TaskState.PENDING
    with pytest.raises(errors.TaskNotFound):
        next(client.watch(tasks=["none"]))


def test_a_pool_is_drained_and_taken_back(client: penstock.SyncClient) -> None:
    task = client.submit("echo")
    begun = client.drain(reason="an upgrade")
    assert (begun.state, begun.drained) == (penstock.PoolState.DRAINING, False)
    with pytest.raises(errors.PoolDraining):
        client.submit("echo", timeout=0.2)
    started = time.monotonic()
    assert not client.drain(max_wait=0.3).drained
    assert 0.3 <= time.monotonic() - started < 2
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.drain, max_wait=None)
        client.cancel(task)
        assert waiting.result(10).drained
    assert client.undrain().state is penstock.PoolState.RUNNING
    client.submit("echo")


def test_a_wait_ends_with_the_task_from_another_thread(client: penstock.SyncClient) -> None:
    task = client.submit("echo")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.wait, task, timeout=10)
        client.cancel(task)
        assert waiting.result(10).state is penstock.TaskState.CANCELLED


def test_one_client_serves_many_threads(client: penstock.SyncClient) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        names = list(threads.map(lambda n: client.submit("echo", str(n)).name, range(200)))
    assert len(set(names)) == 200
    assert client.pool().pending == 200


def test_a_source_runs_in_the_calling_thread_and_is_not_held_up(
    client: penstock.SyncClient,
) -> None:
    threads, accepted = set(), []

    def source() -> Iterator[penstock.Submission]:
        for number in range(3):
            threads.add(threading.current_thread())
            if number:
                # What was given before is admitted while the source is slow.
                deadline = time.monotonic() + 10
                while client.pool().pending < number and time.monotonic() < deadline:
                    time.sleep(0.02)
            accepted.append(client.pool().pending)
            yield penstock.Submission("echo")

    assert len(list(client.submit_many(source()))) == 3
    assert threads == {threading.current_thread()}
    assert accepted == [0, 1, 2]


def test_no_thread_is_left_behind(client: penstock.SyncClient) -> None:
    def ours() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name.startswith("penstock")]

    outcomes = client.submit_many(penstock.Submission("echo") for _ in range(5000))
    next(outcomes)
    assert ours()
    outcomes.close()
    assert ours() == []
    with pytest.raises(errors.PoolNotFound):
        list(client.submit_many([penstock.Submission("echo")], pool="nowhere"))
    assert len(list(client.submit_many([penstock.Submission("echo")]))) == 1
    assert ours() == []


def test_a_closed_client_stays_closed(dispatcher_process: Any) -> None:
    client = penstock.SyncClient(dispatcher_process.address)
    list(client.pools())
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(client.pools())
