"""Handlers for `penstock-worker`: what people write.

`stamp` keeps how long its tasks took from submission to here; at the end of the process the file
named by BENCH_STAMPS gets them, in seconds.
"""

import atexit
import json
import os
import pathlib
import time

from penstock_worker import Task, Worker

worker = Worker()
_seconds: list[float] = []


@worker.task("noop")
async def noop(_: Task) -> None:
    """Nothing at all."""


@worker.task("stamp")
async def stamp(task: Task) -> None:
    """Measures the way here."""
    _seconds.append((time.time_ns() - int(task.payload)) / 1e9)


def _write() -> None:
    if _seconds:
        pathlib.Path(os.environ["BENCH_STAMPS"]).write_text(json.dumps(_seconds))


atexit.register(_write)
