"""Penstock's worker runtime: register handlers, run them as a pod (or a process) of a pool.

    from penstock_worker import Task, Worker

    worker = Worker()

    @worker.task("digest")
    def digest(task: Task) -> bytes:
        ...

and `penstock-worker handlers:worker`. See `docs/how-to/write-a-worker.md`.
"""

from penstock_worker.app import Worker
from penstock_worker.errors import Cancelled, PermanentError, Release, RetryLater
from penstock_worker.task import Task

__all__ = ["Cancelled", "PermanentError", "Release", "RetryLater", "Task", "Worker"]
