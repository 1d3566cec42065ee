"""`get`, `list`, `wait`, `cancel`: tasks that there are already."""

import datetime as dt
import itertools
import sys
import time

import click

import penstock
from penstock.cli import connection, failures, output

COLUMNS: tuple[output.Column[penstock.Task], ...] = (
    output.Column("TASK", lambda task: task.id),
    output.Column("TYPE", lambda task: task.type),
    output.Column("STATE", lambda task: task.state.value),
    output.Column("PRIORITY", lambda task: str(task.priority)),
    output.Column("ATTEMPT", lambda task: str(task.attempt)),
    output.Column("WORKER", lambda task: task.worker.rpartition("/")[2] or "-"),
    output.Column("AGE", lambda task: output.ago(task.create_time, now=dt.datetime.now(dt.UTC))),
    output.Column("TOOK", lambda task: output.span(task.execution_time_seconds)),
)

_TASK = click.argument("task", metavar="TASK")


@click.command("get")
@_TASK
@connection.pool
@output.option
@connection.connected
def get(client: penstock.SyncClient, task: str, pool: str | None, output: str) -> None:
    """Show a task, with its payload and result.

    TASK is a full name, or an id in the --pool.
    """
    show(client.get(task, pool=pool), form=output)


def show(task: penstock.Task, *, form: str) -> None:
    """Print one task; a table is made of lines, and has result and error too."""
    output.write([task], columns=COLUMNS, form=form, name=lambda each: each.name)
    if form != "table":
        return
    if task.error is not None:
        click.echo(f"\nerror   {task.error.reason}: {task.error.message}")
    if task.result:
        click.echo(f"\nresult  {output.text_of(task.result)}")


@click.command("list")
@connection.pool
@click.option(
    "--state",
    type=click.Choice([each.value for each in penstock.TaskState if each.value != "UNKNOWN"]),
    help="Only tasks in this state.",
)
@click.option("--type", "task_type", metavar="TYPE", help="Only tasks of this type.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@output.option
@connection.connected
def list_(
    client: penstock.SyncClient,
    pool: str | None,
    state: str | None,
    task_type: str | None,
    limit: int | None,
    output: str,
) -> None:
    """List the tasks of a pool, newest last."""
    wanted = None if state is None else penstock.TaskState(state)
    found = client.list(pool, state=wanted, task_type=task_type, page_size=min(limit or 1000, 1000))
    _write_many(itertools.islice(found, limit), form=output)


@click.command("wait")
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True)
@connection.pool
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="For all of them together; default: for ever.",
)
@output.option
@connection.connected
def wait(
    client: penstock.SyncClient,
    tasks: tuple[str, ...],
    pool: str | None,
    timeout: float | None,
    output: str,
) -> None:
    """Wait until tasks are over, and show them; exits with 1 if one did not succeed.

    A TASK of '-' reads names from standard input, one a line.
    """
    names = [
        name
        for task in tasks
        for name in (map(str.strip, sys.stdin) if task == "-" else [task])
        if name
    ]
    deadline = None if timeout is None else time.monotonic() + timeout
    done = []
    for name in names:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        done.append(client.wait(name, pool=pool, timeout=left))
    _write_many(done, form=output)
    if not all(task.succeeded for task in done):
        raise click.exceptions.Exit(failures.NOT_SUCCEEDED)


@click.command("cancel")
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True)
@connection.pool
@click.option("--reason", default="", metavar="TEXT", help="Kept with the task.")
@output.option
@connection.connected
def cancel(
    client: penstock.SyncClient, tasks: tuple[str, ...], pool: str | None, reason: str, output: str
) -> None:
    """Cancel tasks: one that waits at once, one that runs is asked to stop."""
    _write_many(
        [client.cancel(task, pool=pool, reason=reason) for task in tasks],
        form=output,
    )


def _write_many(tasks: "itertools.islice[penstock.Task] | list[penstock.Task]", form: str) -> None:
    output.write(tasks, columns=COLUMNS, form=form, name=lambda task: task.name)
