"""`kill -9` of a real dispatcher process at random moments under load.

The history is kept on the clients' side: what was accepted, what was run, what was acknowledged. It
is checked when the last of the load is done.
"""

import asyncio
import collections
import contextlib
import random
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from penstock.v1 import task_pb2, task_service_pb2, worker_service_pb2
from rig import dispatchers, wire

POOL = wire.POOL
SLOTS = 40
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_State = task_pb2.Task


def result_of(payload: bytes) -> bytes:
    """What a task makes of its payload."""
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

    def __init__(self, stubs: wire.Stubs, history: History, name: str) -> None:
        self.stubs, self.history, self.name = stubs, history, name

    async def run(self) -> None:
        """For ever."""
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

    def __init__(self, stubs: wire.Stubs, history: History, pod: str) -> None:
        self.raw = wire.RawWorker(stubs, pod=pod, slots=SLOTS)
        self.history = history
        self.leases: dict[str, Any] = {}
        self.outcomes: dict[str, Any] = {}
        self.running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """For ever."""
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


async def every_task(stubs: wire.Stubs) -> dict[str, Any]:
    """All tasks of the pool, by name."""
    found: dict[str, Any] = {}
    request = task_service_pb2.ListTasksRequest(parent=POOL, page_size=1000)
    while True:
        page = await stubs.tasks.ListTasks(request, timeout=10, wait_for_ready=True)
        found.update({task.name: task for task in page.tasks})
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def _nobody(_: int, __: History) -> None:
    pass


async def kill_under_load(
    process: dispatchers.DispatcherProcess,
    kills: int,
    *,
    told: Callable[[int, History], None] = _nobody,
    settle_seconds: float = 60.0,
) -> None:
    """Two clients, two workers, so many kills; asserts that nothing was lost or run twice. `told`
    hears of each kill.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    random.seed(seed)
    # The grace is longer than any of our restarts: what still runs is never given out again.
    process.configure(wire.pool_config(max_pending=100_000, reconnect_grace=60))
    channels = [
        grpc.aio.insecure_channel(process.address, options=dispatchers.CHANNEL_OPTIONS)
        for _ in range(4)
    ]
    stubs = [wire.Stubs(channel) for channel in channels]
    history = History()
    clients = [Client(stubs[number], history, f"c{number}") for number in range(2)]
    workers = [Worker(stubs[2 + n], history, f"pod-{n}") for n in range(2)]
    loads = [asyncio.ensure_future(part.run()) for part in (*clients, *workers)]
    try:
        for number in range(kills):
            await asyncio.sleep(random.uniform(0.02, 0.5))
            # A machine that is short of memory may kill either of the two processes.
            await asyncio.to_thread(random.choice((process.kill, process.kill_journal)))
            await asyncio.to_thread(process.start)
            told(number + 1, history)
        for load in loads[:2]:
            load.cancel()
        await asyncio.gather(*loads[:2], return_exceptions=True)
        async with asyncio.timeout(settle_seconds):
            found = await _all_succeeded(stubs[0], loads[2:])
        assert len(history.accepted) > kills * 5
        await _check(stubs[0], history, found)
    finally:
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        for channel in channels:
            await channel.close()


async def _all_succeeded(stubs: wire.Stubs, workers: list[asyncio.Future[None]]) -> dict[str, Any]:
    while True:
        found = await every_task(stubs)
        if all(task.state == _State.SUCCEEDED for task in found.values()):
            return found
        broken = [load for load in workers if load.done()]
        assert not broken, broken
        await asyncio.sleep(0.2)


async def _check(stubs: wire.Stubs, history: History, found: dict[str, Any]) -> None:
    # Accepted is durable, and has one recorded outcome: the right one.
    assert set(history.accepted) <= set(found)
    for name, payload in history.accepted.items():
        recorded = (await stubs.get(name)).result
        assert recorded == result_of(payload)
        # An acknowledged result is the recorded one.
        assert history.acknowledged.get(name, recorded) == recorded
    # The workers lived all the time: nothing was run twice, and no outcome came too late.
    assert [name for name, runs in history.runs.items() if runs > 1] == []
    assert history.refused_outcomes == []
    assert {task.worker_losses for task in found.values()} == {0}
    assert {task.attempt for task in found.values()} == {1}
