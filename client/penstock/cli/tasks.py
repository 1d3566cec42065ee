"""`get`, `list`, `dead-letters`, `wait`, `cancel`: tasks that there are already."""

import datetime as dt
import functools
import itertools
import sys
import time
from collections.abc import Iterable

import click

import penstock
from penstock.cli import connection, failures, many, output, source, waiting

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

DEAD_LETTERS: tuple[output.Column[penstock.Task], ...] = (
    output.Column("TASK", lambda task: task.id),
    output.Column("TYPE", lambda task: task.type),
    output.Column("ATTEMPTS", lambda task: str(task.attempt)),
    output.Column("LOSSES", lambda task: str(task.worker_losses)),
    output.Column("DIED", lambda task: output.ago(task.end_time, now=dt.datetime.now(dt.UTC))),
    output.Column("CAUSE", lambda task: _cause(task)),
)
CAUSE_CHARACTERS_MAX = 200
PAGE_TASKS_MAX = 1_000

_TASK = click.argument("task", metavar="TASK")
_LIMIT = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")


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
    if task.queue_position is not None:
        wait = task.estimated_wait_seconds
        when = "" if wait is None else f", starts in about {output.span(wait)}"
        click.echo(f"\nqueue   {task.queue_position} tasks come before it{when}")
    if task.progress_fraction is not None:
        click.echo(f"\nprogress {task.progress_fraction:.0%} {task.progress_message}".rstrip())
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
@click.option("--priority", type=int, metavar="N", help="Only tasks of this priority.")
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only tasks with it; repeatable."
)
@_LIMIT
@output.option
@connection.connected
def list_(
    client: penstock.SyncClient,
    pool: str | None,
    state: str | None,
    task_type: str | None,
    priority: int | None,
    labels: tuple[str, ...],
    limit: int | None,
    output: str,
) -> None:
    """List the tasks of a pool that match every option, newest last.

    They are read page by page and printed as they come: a list of any length.
    """
    found = client.list(
        pool,
        state=None if state is None else penstock.TaskState(state),
        task_type=task_type,
        priority=priority,
        labels=source.labels(labels),
        page_size=min(limit or PAGE_TASKS_MAX, PAGE_TASKS_MAX),
    )
    _write_many(itertools.islice(found, limit), form=output)


@click.command("dead-letters")
@connection.POOL_ARGUMENT
@click.option("--type", "task_type", metavar="TYPE", help="Only tasks of this type.")
@_LIMIT
@click.option(
    "--retry-all", is_flag=True, help="Queue them again; only counts, unless --force is given."
)
@click.option("--force", is_flag=True, help="With --retry-all: do it.")
@output.option
@connection.connected
def dead_letters(
    client: penstock.SyncClient,
    pool: str | None,
    task_type: str | None,
    limit: int | None,
    retry_all: bool,
    force: bool,
    output: str,
) -> None:
    """List the tasks that were given up, with the cause and what was tried; or retry them all.

    Default POOL: $PENSTOCK_POOL.
    """
    if force and not retry_all:
        raise failures.InputError("--force is for --retry-all")
    if retry_all:
        if limit is not None:
            raise failures.InputError("--retry-all takes no --limit: name tasks with 'retry'")
        state = penstock.TaskState.DEAD_LETTERED
        run = functools.partial(client.retry_many, state=state, task_type=task_type, pool=pool)
        many.run(run, force=force, done="are queued again", todo="queues")
        return
    found = client.list(
        pool,
        state=penstock.TaskState.DEAD_LETTERED,
        task_type=task_type,
        page_size=min(limit or PAGE_TASKS_MAX, PAGE_TASKS_MAX),
    )
    _write_many(itertools.islice(found, limit), form=output, columns=DEAD_LETTERS)


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
        done.append(waiting.until_over(client, name, pool=pool, timeout=left))
    _write_many(done, form=output)
    if not all(task.succeeded for task in done):
        raise click.exceptions.Exit(failures.NOT_SUCCEEDED)


@click.command("cancel")
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@many.filter_option
@many.force_option
@connection.pool
@click.option("--reason", default="", metavar="TEXT", help="For those who run it.")
@output.option
@connection.connected
def cancel(
    client: penstock.SyncClient,
    tasks: tuple[str, ...],
    query: str,
    force: bool,
    pool: str | None,
    reason: str,
    output: str,
) -> None:
    """Cancel tasks: one that waits at once, one that runs is asked to stop.

    TASK is a full name, or an id in the --pool. With a --filter the names of the first 100 are
    printed, and how many there are; what has ended already is not among them.
    """
    if many.chosen(tasks, query, force=force):
        run = functools.partial(client.cancel_many, query=query, pool=pool, reason=reason)
        many.run(run, force=force, done="are cancelled, or asked to stop", todo="cancels")
        return
    _write_many(
        [client.cancel(task, pool=pool, reason=reason) for task in tasks],
        form=output,
    )


def _write_many(
    tasks: Iterable[penstock.Task],
    form: str,
    columns: tuple[output.Column[penstock.Task], ...] = COLUMNS,
) -> None:
    output.write(tasks, columns=columns, form=form, name=lambda task: task.name)


def _cause(task: penstock.Task) -> str:
    """Its last failure in one line."""
    if task.error is None:
        return "-"
    said = " ".join(f"{task.error.reason}: {task.error.message}".split())
    cut = CAUSE_CHARACTERS_MAX - 1
    return said if len(said) <= CAUSE_CHARACTERS_MAX else said[:cut] + "…"
