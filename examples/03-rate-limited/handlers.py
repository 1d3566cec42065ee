"""What the workers of this pool can do: `call`, as if it were a service that takes ten a second."""

from penstock_worker import Task, Worker

CALL_SECONDS = 0.1

worker = Worker()


@worker.task("call")
def call(task: Task) -> bytes:
    """Takes a moment, and answers with what it was sent."""
    task.sleep(CALL_SECONDS)
    return task.payload
