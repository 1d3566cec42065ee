"""The wire by hand: a client, an operator and a worker made of raw stubs, each step a caller's own.

For what the real client and worker would never do, or would hide.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc

from penstock.v1 import (
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    pool_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)

POOL = "namespaces/default/pools/demo"
READ_SECONDS = 10.0
WAIT = task_service_pb2.SubmitTaskRequest.WAIT


def pool_config(name: str = POOL, uid: str = "uid-demo", **fields: Any) -> Any:
    """A PoolConfig; durations may be given in seconds."""
    config = fleet_service_pb2.PoolConfig(name=name, uid=uid, generation=1)
    for field, value in fields.items():
        if field in ("rate_limit", "rate_limit_per_key"):
            limit = getattr(config, field)
            limit.tasks, limit.burst = value[0], value[2]
            limit.period.FromMilliseconds(int(value[1] * 1000))
        elif field == "fairness_weights":
            config.fairness_weights.update(value)
        elif field == "retry_policy":
            config.retry_policy.CopyFrom(value)
        elif isinstance(getattr(config, field), int | bool | str):
            setattr(config, field, value)
        else:
            getattr(config, field).FromMilliseconds(int(value * 1000))
    return config


class Stubs:
    """The four services over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.tasks: Any = task_service_pb2_grpc.TaskServiceStub(channel)
        self.pools: Any = pool_service_pb2_grpc.PoolServiceStub(channel)
        self.work: Any = worker_service_pb2_grpc.WorkerServiceStub(channel)
        self.fleet: Any = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def submit(self, *, parent: str = POOL, **fields: Any) -> Any:
        """Submit one task: fields of the request by name, all others are the task's."""
        outer = {
            key: fields.pop(key)
            for key in ("task_id", "request_id", "validate_only", "admission", "max_wait")
            if key in fields
        }
        outer.setdefault("admission", WAIT if "max_wait" in outer else 0)
        fields.setdefault("type", "noop")
        request = task_service_pb2.SubmitTaskRequest(
            parent=parent, task=task_pb2.Task(**fields), **outer
        )
        return (await self.tasks.SubmitTask(request, timeout=READ_SECONDS)).task

    async def get(self, name: str) -> Any:
        """GetTask."""
        request = task_service_pb2.GetTaskRequest(name=name)
        return await self.tasks.GetTask(request, timeout=READ_SECONDS)

    async def wait(self, name: str, seconds: float = READ_SECONDS) -> Any:
        """WaitTask."""
        request = task_service_pb2.WaitTaskRequest(name=name)
        request.timeout.FromMilliseconds(int(seconds * 1000))
        return await self.tasks.WaitTask(request, timeout=seconds + 5)

    async def sync(self, *configs: Any, epoch: int = 1) -> Any:
        """An operator's first full list; returns the open stream, synced."""
        call = self.fleet.SyncPools()
        for config in configs:
            await call.write(fleet_service_pb2.SyncPoolsRequest(upsert=config, epoch=epoch))
        await call.write(
            fleet_service_pb2.SyncPoolsRequest(sync_end=fleet_service_pb2.SyncEnd(), epoch=epoch)
        )
        async with asyncio.timeout(READ_SECONDS):
            first = await call.read()
        assert first is not grpc.aio.EOF, await call.details()
        assert first.synced
        return call


class RawWorker:
    """A worker made of the raw stream; every step is the test's own."""

    def __init__(self, stubs: Stubs, *, pod: str, pool: str = POOL, slots: int = 1) -> None:
        self.stubs, self.pod, self.pool, self.slots = stubs, pod, pool, slots
        self.session_id = ""
        self.welcome: Any = None
        self.call: Any = None
        self._writing = asyncio.Lock()

    async def connect(
        self, *, running: Iterable[Any] = (), credit: int | None = None, **fields: Any
    ) -> "RawWorker":
        """Hello, Welcome, Credit (all slots unless given)."""
        self.call, self._writing = self.stubs.work.Work(), asyncio.Lock()
        hello = worker_service_pb2.Hello(
            pool=self.pool,
            pod_name=self.pod,
            pod_uid=f"uid-{self.pod}",
            session_id=self.session_id,
            slots=self.slots,
            protocol_version=1,
            running=running,
        )
        hello.MergeFrom(worker_service_pb2.Hello(**fields))
        await self.send(hello=hello)
        frame = await self.read()
        assert frame.WhichOneof("message") == "welcome", frame
        self.welcome = frame.welcome
        self.session_id = self.welcome.session_id
        free = self.slots if credit is None else credit
        if free:
            await self.send(credit=worker_service_pb2.Credit(slots=free))
        return self

    async def send(self, **frame: Any) -> None:
        """Send one frame."""
        # Two that write to a call at once break it on this side only: it then stays open for ever.
        async with self._writing:
            await self.call.write(worker_service_pb2.WorkRequest(**frame))

    async def read(self, seconds: float = READ_SECONDS) -> Any:
        """The next frame. Raises TimeoutError, EOFError."""
        async with asyncio.timeout(seconds):
            frame = await self.call.read()
        if frame is grpc.aio.EOF:
            raise EOFError(f"{await self.call.code()}: {await self.call.details()}")
        return frame

    async def assigned(self, count: int = 1, seconds: float = READ_SECONDS) -> list[Any]:
        """The next `count` assignments; acknowledgements in between are passed over."""
        found: list[Any] = []
        while len(found) < count:
            frame = await self.read(seconds)
            if frame.WhichOneof("message") == "assignments":
                found.extend(frame.assignments.assignments)
            else:
                assert frame.WhichOneof("message") == "outcome_acks", frame
        assert len(found) == count
        return found

    async def nothing(self, seconds: float = 0.2) -> None:
        """Assert that nothing but acknowledgements comes for a while. The stream cannot be used
        afterwards.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    frame = await self.read()
                    assert frame.WhichOneof("message") == "outcome_acks", frame

    async def succeed(self, *assignments: Any, result: bytes = b"", credit: int = -1) -> None:
        """Report success; credit for as many slots unless given."""
        outcomes = [
            worker_service_pb2.TaskOutcome(
                lease_id=one.lease.lease_id,
                fencing_token=one.lease.fencing_token,
                completed=worker_service_pb2.TaskOutcome.Completed(result=result),
            )
            for one in assignments
        ]
        await self.outcomes(outcomes, credit=len(outcomes) if credit < 0 else credit)

    async def fail(self, one: Any, *, reason: str = "ValueError", **fields: Any) -> None:
        """Report a failure, which may be retried unless `fields` say otherwise."""
        fields = {"retryable": True, **fields}
        status = status_pb2.Status(code=2, message="no good")
        info = error_details_pb2.ErrorInfo(reason=reason, domain="worker.penstock.dev")
        status.details.add().Pack(info)
        failed = worker_service_pb2.TaskOutcome.Failed(error=status, **fields)
        outcome = worker_service_pb2.TaskOutcome(
            lease_id=one.lease.lease_id, fencing_token=one.lease.fencing_token, failed=failed
        )
        await self.outcomes([outcome], credit=1)

    async def outcomes(self, outcomes: list[Any], *, credit: int) -> None:
        """Report outcomes."""
        await self.send(outcomes=worker_service_pb2.TaskOutcomes(outcomes=outcomes, credit=credit))

    async def acks(self, count: int = 1) -> dict[str, bool]:
        """The next `count` acknowledgements, by lease id."""
        found: dict[str, bool] = {}
        while len(found) < count:
            frame = await self.read()
            assert frame.WhichOneof("message") == "outcome_acks", frame
            found.update({ack.lease_id: ack.accepted for ack in frame.outcome_acks.acks})
        return found

    def vanish(self) -> None:
        """The stream breaks."""
        if self.call is not None:
            self.call.cancel()
