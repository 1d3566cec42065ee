"""`kill -9` of a real dispatcher process, at random moments under load, and its orderly stop.

The history is kept on the clients' side: what was accepted, what was run, what was acknowledged.
"""

import asyncio
import collections
import contextlib
import random
import resource
import signal
import subprocess
import sys
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2, worker_service_pb2

POOL = "namespaces/default/pools/demo"
KILLS = 20
SLOTS = 40
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_State = task_pb2.Task


def result_of(payload: bytes) -> bytes:
    return payload[::-1]


class History:
    """What clients and workers saw with their own eyes."""

    def __init__(self) -> None:
        self.accepted: dict[str, bytes] = {}
        self.runs: collections.Counter[str] = collections.Counter()
        self.acknowledged: dict[str, bytes] = {}
        self.refused_outcomes: list[str] = []


class Client:
    """Submits for ever; a call that breaks is repeated with the same request ids."""

    def __init__(self, stubs: Any, history: History, name: str) -> None:
        self.stubs, self.history, self.name = stubs, history, name

    async def run(self) -> None:
        number = 0
        while True:
            payloads = [f"{self.name}-{number + n}".encode() for n in range(random.randint(1, 20))]
            number += len(payloads)
            batch = task_service_pb2.BatchSubmitTasksRequest(
                parent=POOL,
                requests=[
                    task_service_pb2.SubmitTaskRequest(
                        task=task_pb2.Task(type="reverse", payload=payload),
                        request_id=payload.decode(),
                    )
                    for payload in payloads
                ],
            )
            await self._submit(batch, payloads)
            await asyncio.sleep(random.uniform(0, 0.1))

    async def _submit(self, batch: Any, payloads: list[bytes]) -> None:
        while True:
            try:
                answer = await self.stubs.tasks.BatchSubmitTasks(batch, timeout=5)
            except grpc.aio.AioRpcError as error:
                if error.code() not in RETRIED:
                    raise
                await asyncio.sleep(0.05)
                continue
            for payload, outcome in zip(payloads, answer.outcomes, strict=True):
                assert outcome.HasField("response"), outcome
                self.history.accepted[outcome.response.task.name] = payload
            return


class Worker:
    """Keeps running while the dispatcher is away; re-attaches; repeats what is unacknowledged."""

    def __init__(self, stubs: Any, raw_worker: Any, history: History, pod: str) -> None:
        self.raw = raw_worker(stubs, pod=pod, slots=SLOTS)
        self.history = history
        self.leases: dict[str, Any] = {}
        self.outcomes: dict[str, Any] = {}
        self.running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(
                grpc.aio.AioRpcError, EOFError, TimeoutError, asyncio.InvalidStateError
            ):
                await self._stream()
            self.raw.vanish()
            await asyncio.sleep(random.uniform(0, 0.1))

    async def _stream(self) -> None:
        await self.raw.connect(running=list(self.leases.values()), credit=0)
        for lease_id in self.raw.welcome.revoked_lease_ids:
            self.leases.pop(lease_id, None)
            self.outcomes.pop(lease_id, None)
        if self.outcomes:
            await self.raw.outcomes(list(self.outcomes.values()), credit=0)
        free = SLOTS - (len(self.leases) - len(self.outcomes))
        if free:
            await self.raw.send(credit=worker_service_pb2.Credit(slots=free))
        while True:
            frame = await self.raw.read(3)
            for one in frame.assignments.assignments:
                self.leases[one.lease.lease_id] = one.lease
                self.history.runs[one.task.name] += 1
                task = asyncio.ensure_future(self._handle(one))
                self.running.add(task)
                task.add_done_callback(self.running.discard)
            for ack in frame.outcome_acks.acks:
                lease = self.leases.pop(ack.lease_id, None)
                outcome = self.outcomes.pop(ack.lease_id, None)
                if lease is None or outcome is None:
                    continue  # sent twice around a reconnect, acknowledged twice
                if ack.accepted:
                    self.history.acknowledged[lease.task] = outcome.completed.result
                else:
                    self.history.refused_outcomes.append(lease.task)
            for lease_id in frame.lease_state.lost_lease_ids:
                self.leases.pop(lease_id, None)
                self.outcomes.pop(lease_id, None)

    async def _handle(self, one: Any) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))
        lease_id = one.lease.lease_id
        if lease_id not in self.leases:
            return  # revoked meanwhile
        completed = worker_service_pb2.TaskOutcome.Completed(result=result_of(one.task.payload))
        outcome = worker_service_pb2.TaskOutcome(
            lease_id=lease_id, fencing_token=one.lease.fencing_token, completed=completed
        )
        self.outcomes[lease_id] = outcome
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.raw.outcomes([outcome], credit=1)


async def every_task(stubs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    request = task_service_pb2.ListTasksRequest(parent=POOL, page_size=1000)
    while True:
        page = await stubs.tasks.ListTasks(request, timeout=10, wait_for_ready=True)
        found.update({task.name: task for task in page.tasks})
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


@pytest.mark.timeout(240)
async def test_kill_9_under_load_loses_nothing_and_runs_nothing_twice(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random.seed(seed)
    # The grace is longer than any of our restarts: what still runs is never given out again.
    dispatcher_process.configure(make_pool(max_pending=100_000, reconnect_grace=60))
    stubs = [stubs_for(dispatcher_process.address) for _ in range(4)]
    history = History()
    clients = [Client(stubs[number], history, f"c{number}") for number in range(2)]
    workers = [Worker(stubs[2 + n], raw_worker, history, f"pod-{n}") for n in range(2)]
    loads = [asyncio.ensure_future(part.run()) for part in (*clients, *workers)]
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.02, 0.5))
        dispatcher_process.kill()
        await asyncio.to_thread(dispatcher_process.start)
    for load in loads[:2]:
        load.cancel()
    await asyncio.gather(*loads[:2], return_exceptions=True)
    async with asyncio.timeout(60):
        while True:
            found = await every_task(stubs[0])
            if all(task.state == _State.SUCCEEDED for task in found.values()):
                break
            broken = [load for load in loads[2:] if load.done()]
            assert not broken, broken
            await asyncio.sleep(0.2)
    for load in loads:
        load.cancel()
    await asyncio.gather(*loads, return_exceptions=True)
    assert len(history.accepted) > KILLS * 5
    # Accepted is durable, and has one recorded outcome: the right one.
    assert set(history.accepted) <= set(found)
    for name, payload in history.accepted.items():
        recorded = (await stubs[0].get(name)).result
        assert recorded == result_of(payload)
        # An acknowledged result is the recorded one.
        assert history.acknowledged.get(name, recorded) == recorded
    # The workers lived all the time: nothing was run twice, and no outcome came too late.
    assert [name for name, runs in history.runs.items() if runs > 1] == []
    assert history.refused_outcomes == []
    assert {task.worker_losses for task in found.values()} == {0}
    assert {task.attempt for task in found.values()} == {1}
    for one in stubs:
        await one.channel.close()


async def test_a_request_id_is_remembered_over_kill_9(
    dispatcher_process: Any, stubs_for: Any, make_pool: Any
) -> None:
    dispatcher_process.configure(make_pool(result_retention=0.2))
    stubs = stubs_for(dispatcher_process.address)
    first = await stubs.submit(request_id="again", payload=b"x")
    short = await stubs.submit(request_id="short")
    request = task_service_pb2.CancelTaskRequest(name=short.name)
    await stubs.tasks.CancelTask(request)
    async with asyncio.timeout(5):
        # Its retention ends; what is left is the request id.
        with contextlib.suppress(grpc.aio.AioRpcError):
            while True:
                await stubs.get(short.name)
                await asyncio.sleep(0.05)
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    again = await stubs.submit(request_id="again", payload=b"x")
    assert again.name == first.name
    assert (await stubs.submit(request_id="short")).name == short.name
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert pool.stats.pending == 1
    await stubs.channel.close()


async def test_tasks_of_a_worker_that_does_not_return_wait_for_its_grace(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any
) -> None:
    dispatcher_process.configure(make_pool(reconnect_grace=1.5))
    stubs = stubs_for(dispatcher_process.address)
    running = await stubs.submit(task_id="running")
    lost = await raw_worker(stubs, pod="lost").connect()
    await lost.assigned()
    waiting = await stubs.submit(task_id="waiting")
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    restarted = time.monotonic()
    await stubs.channel.channel_ready()
    other = await raw_worker(stubs, pod="other", slots=2).connect()
    names = [one.task.name for one in await other.assigned(2)]
    # Both were held back: the dispatcher cannot know which of them still runs.
    assert 1.0 < time.monotonic() - restarted < 5
    assert names == [running.name, waiting.name]
    await stubs.channel.close()


async def test_a_rate_limit_has_no_fresh_burst_after_a_restart(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any
) -> None:
    dispatcher_process.configure(make_pool(rate_limit=(2, 1.0, 10), reconnect_grace=0))
    stubs = stubs_for(dispatcher_process.address)
    for _ in range(15):
        await stubs.submit()
    worker = await raw_worker(stubs, pod="pod-1", slots=15).connect()
    await worker.assigned(10)
    dispatcher_process.kill()
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    began = time.monotonic()
    fresh = await raw_worker(stubs, pod="pod-2", slots=15).connect()
    await fresh.assigned(1)
    await fresh.assigned(1)
    assert time.monotonic() - began > 0.45
    await stubs.channel.close()


# ---------------------------------------------------------------- the orderly stop


async def test_sigterm_commits_tells_everybody_and_exits_zero(
    dispatcher_process: Any, stubs_for: Any, raw_worker: Any, make_pool: Any, rich: Any
) -> None:
    dispatcher_process.configure(make_pool())
    stubs = stubs_for(dispatcher_process.address)
    task = await stubs.submit()
    worker = await raw_worker(stubs, pod="pod-1").connect()
    (one,) = await worker.assigned()
    waiting = asyncio.ensure_future(stubs.wait(task.name, 30))
    operator = await stubs.sync(make_pool())
    await asyncio.sleep(0.1)
    began = time.monotonic()
    stopping = asyncio.ensure_future(asyncio.to_thread(dispatcher_process.terminate))
    frame = await worker.read()
    assert frame.go_away.reconnect_after.ToMilliseconds() <= 1000
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await worker.read()
    assert (error.value.code(), rich(error.value).reason) == (
        grpc.StatusCode.UNAVAILABLE,
        "NOT_LEADER",
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await waiting
    assert rich(error.value).reason == "NOT_LEADER"
    assert await operator.code() is grpc.StatusCode.UNAVAILABLE
    assert await stopping == 0
    assert time.monotonic() - began < 5
    # The worker kept running, comes back, and nothing was lost.
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    await worker.connect(running=[one.lease], credit=0)
    assert not worker.welcome.revoked_lease_ids
    await worker.succeed(one, result=b"done", credit=0)
    await worker.acks()
    assert (await stubs.wait(task.name)).result == b"done"
    await stubs.channel.close()


# ---------------------------------------------------------------- a disk that fails


async def test_a_failing_disk_ends_the_process_and_loses_nothing_acknowledged(
    dispatcher_process: Any, stubs_for: Any, make_pool: Any
) -> None:
    """Writing beyond a file size limit gives EFBIG, which SQLite calls an I/O error."""
    dispatcher_process.configure(make_pool(max_pending=100_000))
    assert dispatcher_process.terminate() == 0
    dispatcher_process.start()
    pid = dispatcher_process.process.pid
    limit = 20 * 1024 * 1024
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limit))
    stubs = stubs_for(dispatcher_process.address)
    accepted: list[str] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        for _ in range(2_000):
            accepted.append((await stubs.submit(payload=b"x" * 50_000)).name)  # noqa: PERF401
    assert len(accepted) > 10
    assert await asyncio.to_thread(dispatcher_process.process.wait, 15) == 1
    assert "the journal cannot be used" in dispatcher_process.log.read_text()
    await asyncio.to_thread(dispatcher_process.start)
    await stubs.channel.channel_ready()
    found = await every_task(stubs)
    assert set(accepted) <= set(found)
    await stubs.channel.close()


def test_a_journal_in_use_is_refused_by_a_second_process(dispatcher_process: Any) -> None:
    second = subprocess.run(
        [
            sys.executable,
            *("-m", "penstock_dispatcher", "--listen", "127.0.0.1:0", "--http", ""),
            *("--data", str(dispatcher_process.folder / "data")),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert "in use by another process" in second.stderr


def test_arguments_are_checked() -> None:
    command = [sys.executable, "-m", "penstock_dispatcher"]
    missing = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert missing.returncode == 2
    assert "--data" in missing.stderr
    taken = subprocess.run(
        [*command, "--memory", "--http", "", "--auth-file", "/nonexistent/auth.json"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert taken.returncode == 1
    assert "auth.json" in taken.stderr


def test_sigint_is_an_orderly_stop_too(dispatcher_process: Any) -> None:
    dispatcher_process.process.send_signal(signal.SIGINT)
    assert dispatcher_process.process.wait(10) == 0
