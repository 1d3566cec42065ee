"""Callers that submit one task at a time, a number of them at once, for a number of seconds.

Says how many were accepted and refused, and how long accepting and refusing took.
"""

import asyncio
import itertools
import time
import uuid

import grpc
import grpc.aio

from penstock.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from roles import common


async def main() -> None:
    given = common.arguments("callers", "seconds", "bytes")
    run, numbers = uuid.uuid4().hex, itertools.count()
    task = task_pb2.Task(type="noop", payload=bytes(given.bytes))
    accepted: list[float] = []
    refused: list[float] = []
    async with common.channel(given.address) as channel:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)  # type: ignore[no-untyped-call]
        end = time.perf_counter() + given.seconds

        async def call() -> None:
            while (began := time.perf_counter()) < end:
                request = task_service_pb2.SubmitTaskRequest(
                    parent=given.pool, task=task, request_id=f"{run}-{next(numbers)}"
                )
                try:
                    await stub.SubmitTask(request)
                    accepted.append(time.perf_counter() - began)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                    refused.append(time.perf_counter() - began)

        await asyncio.gather(*(call() for _ in range(given.callers)))
    common.say(
        accepted_per_second=len(accepted) / given.seconds,
        refused_per_second=len(refused) / given.seconds,
        accepted=common.milliseconds(accepted) if accepted else None,
        refused=common.milliseconds(refused) if refused else None,
        cpu_seconds=common.cpu_seconds(),
    )


asyncio.run(main())
