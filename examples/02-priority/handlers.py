"""What the workers of this pool can do: `sleep`."""

from penstock_worker import Task, Worker

worker = Worker()


@worker.task("sleep")
def sleep(task: Task) -> str:
    """Waits for as many seconds as the payload says, as text."""
    task.sleep(float(task.payload))
    return f"slept {task.payload.decode()} s"
