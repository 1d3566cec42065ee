"""Progress as people see it: through the client, and on the command line."""

import threading
import time

import penstock
import penstock.testing
import penstock_worker
from rig import programs

worker = penstock_worker.Worker()
go_on = threading.Event()


@worker.task
def pages(task: penstock_worker.Task) -> str:
    task.progress(0.25, "page 7 of 28")
    assert go_on.wait(30)
    task.progress(1.0)
    return "done"


def told(client: penstock.SyncClient, task: penstock.Task) -> penstock.Task:
    deadline = time.monotonic() + 10
    while (seen := client.get(task)).progress_fraction is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return seen


def test_progress_is_seen_while_the_task_runs() -> None:
    with penstock.testing.dispatcher() as local, local.run(worker), local.client() as client:
        task = client.submit("pages")
        seen = told(client, task)
        assert seen.state is penstock.TaskState.RUNNING
        assert (seen.progress_fraction, seen.progress_message) == (0.25, "page 7 of 28")
        command = programs.penstock(local.address, pool="test")
        shown = command("get", task.name)
        assert "progress 25% page 7 of 28" in shown.stdout, shown
        go_on.set()
        done = client.wait(task, timeout=10)
        assert (done.progress_fraction, done.progress_message) == (1.0, "")
        watched = command("watch", task.name)
        assert "100%" in watched.stdout, watched
