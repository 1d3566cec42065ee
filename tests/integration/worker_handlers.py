"""Handlers for worker processes, of every kind and manner of ending."""

import asyncio
import os
import sys
import time

from penstock_worker import PermanentError, RetryLater, Task, Worker

worker = Worker()


@worker.task("echo")
def echo(task: Task) -> bytes:
    return task.payload


@worker.task
async def describe(task: Task) -> dict[str, object]:
    return {"attempt": task.attempt, "labels": dict(task.labels), "type": task.type}


@worker.task
def block(task: Task) -> str:
    time.sleep(float(task.payload))
    return "blocked"


@worker.task
async def doze(task: Task) -> str:
    await asyncio.sleep(float(task.payload))
    return "dozed"


@worker.task
def patient(task: Task) -> str:
    task.sleep(float(task.payload))
    return "slept"


@worker.task
def broken(task: Task) -> None:
    raise ValueError("no good")


@worker.task
def hopeless(task: Task) -> None:
    raise PermanentError("never")


@worker.task
def later(task: Task) -> int:
    if task.attempt == 1:
        raise RetryLater(0.05)
    return task.attempt


@worker.task
async def leaves(task: Task) -> None:
    sys.exit(1)


@worker.task
async def block_the_loop(task: Task) -> str:
    time.sleep(float(task.payload))  # noqa: ASYNC251 - the offence that is tried
    return "blocked"


@worker.task
def grow(task: Task) -> bytes:
    return bytes(int(task.payload))


@worker.task
def name_of_a_file(task: Task) -> None:
    raise OSError("cannot read " + os.fsdecode(b"caf\xe9"))


@worker.task
async def cancels_itself(task: Task) -> None:
    raise asyncio.CancelledError
