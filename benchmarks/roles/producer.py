"""Submits tasks over one stream in batches, some of them in flight; each task has its own key.

One message is filled again and again: to make 100 new ones for each batch takes four times as long,
on the processors that are to be measured.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator

from penstock.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from roles import common

IN_FLIGHT = 8


async def main() -> None:
    given = common.arguments("tasks", "batch", "bytes")
    task = task_pb2.Task(type="noop", payload=bytes(given.bytes))
    run, room = uuid.uuid4().hex, asyncio.Semaphore(IN_FLIGHT)

    async def batches() -> AsyncIterator[task_service_pb2.BatchSubmitTasksRequest]:
        request = task_service_pb2.SubmitTaskRequest(task=task)
        batch = task_service_pb2.BatchSubmitTasksRequest(
            parent=given.pool, requests=[request] * min(given.batch, given.tasks)
        )
        for first in range(0, given.tasks, given.batch):
            await room.acquire()
            del batch.requests[given.tasks - first :]
            for number, request in enumerate(batch.requests, first):
                request.request_id = f"{run}-{number}"
            yield batch  # is bytes when the next one is asked for

    async with common.channel(given.address) as channel:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)  # type: ignore[no-untyped-call]
        began, accepted = common.wall(), 0
        async for answer in stub.StreamSubmitTasks(batches()):
            room.release()
            accepted += sum(each.WhichOneof("outcome") == "response" for each in answer.outcomes)
        common.say(
            accepted=accepted, began=began, ended=common.wall(), cpu_seconds=common.cpu_seconds()
        )


asyncio.run(main())
