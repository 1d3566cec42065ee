"""Callers that submit one task at a time, a number of them at once, for a number of seconds; after
each answer they pause for at least so many milliseconds, each for its own time as clients do.

Says how many were accepted and refused, and how long accepting and refusing took.
"""

import asyncio
import itertools
import random
import time
import uuid

import grpc
import grpc.aio

from penstock import _retry
from penstock.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from roles import common

LONGEST = 1 + _retry.PUSHBACK_JITTER


async def main() -> None:
    given = common.arguments("callers", "seconds", "bytes", "pause")
    run, numbers = uuid.uuid4().hex, itertools.count()
    task = task_pb2.Task(type="noop", payload=bytes(given.bytes))
    accepted: list[float] = []
    refused: list[float] = []
    async with common.channel(given.address) as channel:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)  # type: ignore[no-untyped-call]
        end = time.perf_counter() + given.seconds

        async def call(number: int) -> None:
            await asyncio.sleep(given.pause / 1000 * number / given.callers)
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
                if given.pause:
                    await asyncio.sleep(given.pause / 1000 * random.uniform(1, LONGEST))

        await asyncio.gather(*(call(number) for number in range(given.callers)))
    common.say(
        accepted_per_second=len(accepted) / given.seconds,
        refused_per_second=len(refused) / given.seconds,
        accepted=common.milliseconds(accepted) if accepted else None,
        refused=common.milliseconds(refused) if refused else None,
        cpu_seconds=common.cpu_seconds(),
    )


asyncio.run(main())
