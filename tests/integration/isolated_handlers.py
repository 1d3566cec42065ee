"""Handlers that only a process of their own can bear."""

import asyncio
import ctypes
import os
import time

from penstock_worker import PermanentError, Task, Worker

worker = Worker()
seen = 0


def _say(word: str) -> None:
    """A line in one piece: other processes write to the same log."""
    os.write(1, f"{word} {os.getpid()}\n".encode())


@worker.task
def echo(task: Task) -> bytes:
    return task.payload


@worker.task
def process_id(_: Task) -> int:
    return os.getpid()


@worker.task
async def count(_: Task) -> int:
    global seen
    seen += 1
    return seen


@worker.task
def deaf(task: Task) -> None:
    _say("deaf")
    while True:
        time.sleep(1)


@worker.task
def patient(task: Task) -> None:
    _say("patient")
    task.sleep(60)


@worker.task
async def doze(task: Task) -> str:
    await asyncio.sleep(float(task.payload))
    return "dozed"


@worker.task
def leave(task: Task) -> None:
    os._exit(int(task.payload))


@worker.task
def crash(_: Task) -> None:
    ctypes.string_at(0)


@worker.task
def killed(_: Task) -> None:
    os.kill(os.getpid(), 9)


@worker.task
def hopeless(_: Task) -> None:
    raise PermanentError("never")


@worker.task
def grow(task: Task) -> bytes:
    return bytes(int(task.payload))
