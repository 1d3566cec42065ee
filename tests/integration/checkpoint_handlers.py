"""Handlers that save a checkpoint and are then in no hurry; the next attempt returns it."""

import asyncio
import time

from penstock_worker import Task, Worker

worker = Worker()


def begin(task: Task) -> None:
    task.save_checkpoint(b"page 6")
    task.save_checkpoint(b"page 7")
    task.progress(0.25, "page 7 of 28")


@worker.task
def pages(task: Task) -> bytes:
    if not task.checkpoint:
        begin(task)
        time.sleep(60)
    return task.checkpoint


@worker.task
async def async_pages(task: Task) -> bytes:
    if not task.checkpoint:
        begin(task)
        await asyncio.sleep(60)
    return task.checkpoint


@worker.task
def fails_once(task: Task) -> bytes:
    if not task.checkpoint:
        task.save_checkpoint(b"before it failed")
        raise OSError("once")
    return task.checkpoint
