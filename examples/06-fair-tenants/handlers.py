"""What the workers of this pool can do: `work`, for half a second."""

from penstock_worker import Task, Worker

WORK_SECONDS = 0.5

worker = Worker()


@worker.task("work")
def work(task: Task) -> None:
    """Takes as long as any other."""
    task.sleep(WORK_SECONDS)
