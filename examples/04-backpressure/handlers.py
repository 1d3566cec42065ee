"""What the workers of this pool can do: `double`, slowly enough for a queue to fill."""

from penstock_worker import Task, Worker

DOUBLE_SECONDS = 0.2

worker = Worker()


@worker.task("double")
def double(task: Task) -> int:
    """Twice the number that the payload says."""
    task.sleep(DOUBLE_SECONDS)
    return 2 * int(task.payload)
