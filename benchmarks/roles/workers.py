"""Workers in one process: each has a stream of its own, and ends its tasks as they come.

Ends when `tasks` outcomes have been acknowledged, over all workers; says when the last one was. A
worker fills one message with its outcomes, again and again, as the producer does with its tasks.
"""

import asyncio
from collections.abc import Sequence

import grpc.aio

from penstock.v1 import worker_service_pb2 as wire
from penstock.v1 import worker_service_pb2_grpc
from roles import common

HEARTBEAT_SECONDS = 5.0


class Count:
    def __init__(self, wanted: int) -> None:
        self.wanted, self.acknowledged, self.first = wanted, 0, 0.0
        self.done = asyncio.Event()

    def add(self, count: int) -> None:
        self.acknowledged += count
        if self.acknowledged >= self.wanted:
            self.done.set()


async def beat(call: grpc.aio.StreamStreamCall, writing: asyncio.Lock) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        async with writing:  # a call that two write to at once is broken, and does not say so
            await call.write(wire.WorkRequest(heartbeat=wire.Heartbeat()))


def complete(given: Sequence[wire.Assignment], ended: wire.TaskOutcomes) -> None:
    """An outcome for each, and their slots back."""
    outcomes = ended.outcomes
    del outcomes[len(given) :]
    while len(outcomes) < len(given):
        outcomes.add(completed=wire.TaskOutcome.Completed())
    for assignment, outcome in zip(given, outcomes, strict=True):
        lease = assignment.lease
        outcome.lease_id, outcome.fencing_token = lease.lease_id, lease.fencing_token
    ended.credit = len(given)


async def work(
    stub: worker_service_pb2_grpc.WorkerServiceStub, name: str, slots: int, pool: str, count: Count
) -> None:
    call = stub.Work()
    hello = wire.Hello(pool=pool, pod_name=name, pod_uid=name, slots=slots, protocol_version=1)
    await call.write(wire.WorkRequest(hello=hello))
    await call.read()
    await call.write(wire.WorkRequest(credit=wire.Credit(slots=slots)))
    writing, answer = asyncio.Lock(), wire.WorkRequest()
    beating = asyncio.create_task(beat(call, writing))
    try:
        while (frame := await call.read()) is not grpc.aio.EOF:
            if frame.WhichOneof("message") == "assignments":
                count.first = count.first or common.wall()
                complete(frame.assignments.assignments, answer.outcomes)
                async with writing:
                    await call.write(answer)
            elif frame.WhichOneof("message") == "outcome_acks":
                count.add(len(frame.outcome_acks.acks))
    finally:
        beating.cancel()
        call.cancel()


async def main() -> None:
    given = common.arguments("workers", "slots", "tasks")
    count = Count(given.tasks)
    async with common.channel(given.address) as channel:
        stub = worker_service_pb2_grpc.WorkerServiceStub(channel)  # type: ignore[no-untyped-call]
        working = [
            asyncio.create_task(work(stub, f"bench-{number}", given.slots, given.pool, count))
            for number in range(given.workers)
        ]
        common.say(connected=len(working))
        await count.done.wait()
        common.say(
            acknowledged=count.acknowledged,
            began=count.first,
            ended=common.wall(),
            cpu_seconds=common.cpu_seconds(),
        )
        for each in working:
            each.cancel()
        await asyncio.gather(*working, return_exceptions=True)


asyncio.run(main())
