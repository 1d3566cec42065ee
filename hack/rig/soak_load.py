"""Everything that clients and workers do, at a steady rate, for as long as one likes.

Submit streams carry most of it; beside them there are single submissions, waits, watches (one of
them broken off again and again), lists and cancels. Workers succeed, fail (some for good), run long
enough to be cancelled, and now and then lose their stream and come back. Nothing has a request id:
those are kept for a day, so that memory would grow as it should.
"""

import asyncio
import collections
import contextlib
import gc
import random
import time
from typing import Any

import grpc
import grpc.aio

from penstock.v1 import task_pb2, task_service_pb2, worker_service_pb2
from rig import dispatchers, wire

RETENTION_SECONDS = 5.0
STREAMS, WORKERS, SLOTS = 2, 4, 400
BATCH = 50
WAITS, WATCHES = 10, 2
BETWEEN_WATCHES_SECONDS = 4.0
LONG_SHARE, FAILED_SHARE, FATAL_SHARE = 0.01, 0.03, 0.01
LONG_SECONDS = 3.0
SIZES = (100,) * 90 + (2_000,) * 9 + (30_000,)
RECENT = 200
CONFIG = wire.pool_config(
    max_pending=20_000,
    result_retention=RETENTION_SECONDS,
    dead_letter_retention=RETENTION_SECONDS,
    lease_duration=10,
    heartbeat_interval=2,
    reconnect_grace=5,
)
_BROKEN = (grpc.aio.AioRpcError, EOFError, TimeoutError, asyncio.InvalidStateError)
_DONE = worker_service_pb2.TaskOutcome.Completed


class Load:
    """`per_second` None = as many tasks as go through."""

    def __init__(self, address: str) -> None:
        self.per_second: float | None = None
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()
        self.recent: collections.deque[str] = collections.deque(maxlen=RECENT)
        self._address = address
        self._submitted = asyncio.Event()
        self._channels = [self._channel() for _ in range(STREAMS + WORKERS + 1)]
        self._clients: list[asyncio.Task[None]] = []
        self._workers: list[asyncio.Task[None]] = []

    def _channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self._address, options=dispatchers.CHANNEL_OPTIONS)

    async def start(self) -> None:
        """Everything begins."""
        stubs = [wire.Stubs(channel) for channel in self._channels]
        client = stubs[-1]
        working = [self._work(stubs[STREAMS + n], f"pod-{n}") for n in range(WORKERS)]
        work = [
            *(self._stream(stubs[n]) for n in range(STREAMS)),
            *(self._wait(client) for _ in range(WAITS)),
            *(self._watch(client, brief=n == 0) for n in range(WATCHES)),
            self._look(client),
            self._cancel(client),
        ]
        self._workers = [asyncio.create_task(each) for each in working]
        self._clients = [asyncio.create_task(each) for each in work]

    async def stop_clients(self) -> None:
        """Nothing is submitted any more; workers go on."""
        await _end(self._clients)

    async def stop(self) -> None:
        """Everything ends."""
        await _end(self._clients)
        await _end(self._workers)
        for channel in self._channels:
            await channel.close()
        # A connection stays for as long as somebody knows a call of it.
        self._channels.clear()
        gc.collect()

    def check(self) -> None:
        """Raises what a part has ended with: none may."""
        for part in (*self._clients, *self._workers):
            if part.done():
                part.result()
                raise AssertionError("a part of the load has ended")

    # ------------------------------------------------------------ submitting

    async def _stream(self, stubs: wire.Stubs) -> None:
        while True:
            call = stubs.tasks.StreamSubmitTasks()
            reading = asyncio.create_task(self._outcomes(call))
            try:
                # Streams end, too: some thousand batches each, then another one.
                for _ in range(2_000):
                    began = time.monotonic()
                    await call.write(self._batch())
                    rate = self.per_second
                    if rate is not None:
                        pause = BATCH * STREAMS / rate - (time.monotonic() - began)
                        await asyncio.sleep(max(0.0, pause))
                    elif self.counts["submitted"] - self.counts["ended"] > 10_000:
                        await asyncio.sleep(0.01)
                await call.done_writing()
                await reading
            finally:
                reading.cancel()
                call.cancel()

    def _batch(self) -> task_service_pb2.BatchSubmitTasksRequest:
        return task_service_pb2.BatchSubmitTasksRequest(
            parent=wire.POOL,
            requests=[
                task_service_pb2.SubmitTaskRequest(
                    task=task_pb2.Task(
                        type="soak",
                        payload=bytes(random.choice(SIZES)),
                        priority=random.randrange(5),
                    )
                )
                for _ in range(BATCH)
            ],
        )

    async def _outcomes(self, call: Any) -> None:
        name = ""
        while (answer := await call.read()) is not grpc.aio.EOF:
            for outcome in answer.outcomes:
                if outcome.HasField("response"):
                    self.counts["submitted"] += 1
                    name = outcome.response.task.name
                else:
                    self.counts["refused"] += 1
            if name:
                self.recent.append(name)
                self._submitted.set()

    # ------------------------------------------------------------ working

    async def _work(self, stubs: wire.Stubs, pod: str) -> None:
        worker = wire.RawWorker(stubs, pod=pod, slots=SLOTS)
        held: dict[str, Any] = {}
        while True:
            until = time.monotonic() + random.uniform(10, 30)
            with contextlib.suppress(*_BROKEN):
                await self._connected(worker, held, until)
            self.counts["reconnects"] += 1
            worker.vanish()
            await asyncio.sleep(random.uniform(0, 0.5))

    async def _connected(self, worker: wire.RawWorker, held: dict[str, Any], until: float) -> None:
        await worker.connect(running=[one.lease for one in held.values()], credit=0)
        for lease_id in worker.welcome.revoked_lease_ids:
            held.pop(lease_id, None)
        # What was under way when the stream broke is said again.
        if held:
            await worker.succeed(*held.values(), credit=0)
        free = SLOTS - len(held)
        if free:
            await worker.send(credit=worker_service_pb2.Credit(slots=free))
        beat = asyncio.create_task(self._beat(worker, held))
        lasting: set[asyncio.Task[None]] = set()
        try:
            while time.monotonic() < until:
                frame = await worker.read(30)
                got = frame.assignments.assignments
                at_once = []
                for one in got:
                    held[one.lease.lease_id] = one
                    if random.random() < LONG_SHARE:
                        lasting.add(asyncio.create_task(self._run_long(worker, held, one)))
                    else:
                        at_once.append(one)
                if at_once:
                    outcomes = [self._outcome(one) for one in at_once]
                    await worker.outcomes(outcomes, credit=0)
                acked = [held.pop(ack.lease_id, None) for ack in frame.outcome_acks.acks]
                self.counts["ended"] += len(acked)
                free = sum(1 for one in acked if one is not None)
                for lease_id in frame.lease_state.lost_lease_ids:
                    free += held.pop(lease_id, None) is not None
                if free:
                    await worker.send(credit=worker_service_pb2.Credit(slots=free))
                if frame.HasField("cancel") and frame.cancel.lease_id in held:
                    self.counts["cancelled"] += 1
                    one = held[frame.cancel.lease_id]
                    stopped = worker_service_pb2.TaskOutcome(
                        lease_id=one.lease.lease_id,
                        fencing_token=one.lease.fencing_token,
                        cancelled=worker_service_pb2.TaskOutcome.Cancelled(),
                    )
                    await worker.outcomes([stopped], credit=0)
                lasting = {task for task in lasting if not task.done()}
        finally:
            for task in (beat, *lasting):
                task.cancel()
            await asyncio.gather(beat, *lasting, return_exceptions=True)

    async def _beat(self, worker: wire.RawWorker, held: dict[str, Any]) -> None:
        while True:
            await asyncio.sleep(2)
            await worker.send(heartbeat=worker_service_pb2.Heartbeat(lease_ids=list(held)))

    async def _run_long(self, worker: wire.RawWorker, held: dict[str, Any], one: Any) -> None:
        await asyncio.sleep(random.uniform(0, LONG_SECONDS))
        if one.lease.lease_id in held:
            with contextlib.suppress(*_BROKEN):
                await worker.outcomes([self._outcome(one)], credit=0)

    def _outcome(self, one: Any) -> Any:
        drawn = random.random()
        outcome = worker_service_pb2.TaskOutcome(
            lease_id=one.lease.lease_id, fencing_token=one.lease.fencing_token
        )
        if drawn < FATAL_SHARE + FAILED_SHARE:
            outcome.failed.retryable = drawn >= FATAL_SHARE
            outcome.failed.error.code = grpc.StatusCode.INTERNAL.value[0]
            outcome.failed.error.message = "as bad luck would have it"
        else:
            outcome.completed.CopyFrom(_DONE(result=b"r" * random.choice((0, 10, 100, 5_000))))
        return outcome

    # ------------------------------------------------------------ looking

    async def _some_task(self) -> str:
        await self._submitted.wait()
        return random.choice(self.recent)

    async def _wait(self, stubs: wire.Stubs) -> None:
        while True:
            await asyncio.sleep(random.uniform(0, 0.2))
            name = await self._some_task()
            with self._expected(grpc.StatusCode.NOT_FOUND):
                await stubs.wait(name, random.choice((0.01, 1.0)))
                self.counts["waits"] += 1

    async def _watch(self, stubs: wire.Stubs, *, brief: bool) -> None:
        while True:
            request = task_service_pb2.WatchTasksRequest(parent=wire.POOL)
            call = stubs.tasks.WatchTasks(request)
            try:
                with self._expected(grpc.StatusCode.ABORTED):
                    async with asyncio.timeout(1.0 if brief else None):
                        async for _ in call:
                            self.counts["events"] += 1
            finally:
                call.cancel()
            # Every event costs us as much as a task does.
            await asyncio.sleep(BETWEEN_WATCHES_SECONDS)

    async def _look(self, stubs: wire.Stubs) -> None:
        while True:
            await asyncio.sleep(0.2)
            request = task_service_pb2.ListTasksRequest(parent=wire.POOL, page_size=100)
            await stubs.tasks.ListTasks(request, timeout=30)
            with self._expected(grpc.StatusCode.NOT_FOUND):
                await stubs.get(await self._some_task())
            with self._expected(grpc.StatusCode.RESOURCE_EXHAUSTED):
                await stubs.submit(payload=b"single")
                self.counts["submitted"] += 1

    async def _cancel(self, stubs: wire.Stubs) -> None:
        while True:
            await asyncio.sleep(0.1)
            name = await self._some_task()
            codes = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
            with self._expected(*codes):
                await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=name))

    @contextlib.contextmanager
    def _expected(self, *codes: grpc.StatusCode) -> Any:
        try:
            yield
        except TimeoutError:
            self.faults["time is up"] += 1
        except grpc.aio.AioRpcError as error:
            if error.code() not in codes:
                raise
            self.faults[error.code().name] += 1


async def _end(parts: list[asyncio.Task[None]]) -> None:
    for part in parts:
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)
    parts.clear()
