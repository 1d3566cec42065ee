"""`watch`: a task until it is over, the tasks of a pool, or the pool's counts, as they change.

Tasks are followed by `WatchTasks`, which tells each change in the moment when it may be seen, and
goes on where it was through a restart of the dispatcher. A pool's counts are asked for, at a
bounded rate. On a terminal one line is kept up to date; elsewhere, and for the tasks of a pool,
each change is a line.
"""

import contextlib
import datetime as dt
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Final

import click
import rich.live
import rich.text

import penstock
from penstock import errors
from penstock.cli import connection, failures, output, source

EVERY_SECONDS: Final = 1.0
EVERY_SECONDS_MIN: Final = 0.1
TIME_FORMAT: Final = "%H:%M:%S"


@click.command("watch")
@click.argument("task", metavar="[TASK]", required=False)
@connection.pool
@click.option(
    "--every",
    type=click.FloatRange(min=EVERY_SECONDS_MIN),
    default=EVERY_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How often to look at a pool's counts.",
)
@click.option("--tasks", "each_task", is_flag=True, help="Every change of the pool's tasks.")
@click.option("--type", "task_type", metavar="TYPE", help="With --tasks: only of this type.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="With --tasks: only tasks with it; repeatable.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["line", "json"]),
    default="line",
    show_default=True,
    help="json: one object a line, for each change.",
)
@connection.connected
def watch(
    client: penstock.SyncClient,
    task: str | None,
    pool: str | None,
    every: float,
    each_task: bool,
    task_type: str | None,
    labels: tuple[str, ...],
    output: str,
) -> None:
    """Follow a TASK until it is over, or, without one, the --pool until you interrupt.

    Exits with 1 if the task did not succeed.
    """
    if not each_task and (task_type or labels):
        raise failures.InputError("--type and --label are for --tasks")
    if each_task and task is not None:
        raise failures.InputError("--tasks is for a pool: leave TASK out")
    if each_task:
        found = _changes(client, pool, task_type=task_type, labels=source.labels(labels))
        _print_changes(found, form=output)
        return
    if task is None:
        _show(_pool(client, pool, every), form=output)
        return
    last = _show(_task(client, task, pool), form=output)
    if isinstance(last, penstock.Task) and not last.succeeded:
        raise click.exceptions.Exit(failures.NOT_SUCCEEDED)


_Watched = penstock.Task | penstock.PoolInfo


def _task(client: penstock.SyncClient, name: str, pool: str | None) -> Iterator[_Watched]:
    """The task as it changes, the last time when it is over, with all there is of it."""
    found = client.get(name, pool=pool)
    if not found.terminal:
        for change in _changes(client, found.pool, tasks=(found.name,)):
            if change.task.terminal:
                break
            yield change.task
        found = client.get(found)
    yield found


def _changes(
    client: penstock.SyncClient,
    pool: str | None,
    *,
    tasks: tuple[str, ...] = (),
    task_type: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Iterator[penstock.TaskChange]:
    """Changes for ever; through a time in which more came than could be read, too: then some
    states in between are not shown.
    """
    token = ""
    while True:
        watching = client.watch(
            pool, tasks=tasks, task_type=task_type, labels=labels, resume_token=token
        )
        with contextlib.closing(watching):
            try:
                for change in watching:
                    token = change.resume_token
                    yield change
            except errors.WatchTooSlow:
                continue


def _print_changes(found: Iterator[penstock.TaskChange], *, form: str) -> None:
    for change in found:
        if form == "json":
            click.echo(json.dumps(output.plain(change), ensure_ascii=False))
        else:
            moment = change.time.astimezone().strftime(TIME_FORMAT)
            click.echo(f"{moment}  {change.task.id}  {change.task.type}  {line(change.task)}")
        sys.stdout.flush()


def _pool(client: penstock.SyncClient, pool: str | None, every: float) -> Iterator[_Watched]:
    while True:
        began = time.monotonic()
        yield client.pool(pool)
        time.sleep(max(0.0, began + every - time.monotonic()))


def _show(found: Iterator[_Watched], *, form: str) -> _Watched | None:
    """Show each where it differs from the one before; returns the last."""
    before, each = "", None
    if form == "line" and sys.stdout.isatty():
        with rich.live.Live(console=output.console(), auto_refresh=False) as live:
            for each in found:
                live.update(rich.text.Text(f"{_time()}  {line(each)}"), refresh=True)
        return each
    for each in found:
        text = line(each)
        if text != before:
            said = json.dumps(output.plain(each), ensure_ascii=False)
            click.echo(said if form == "json" else f"{_time()}  {text}")
            sys.stdout.flush()
        before = text
    return each


def line(found: _Watched) -> str:
    """A task or a pool in one line, without what changes by itself all the time."""
    if isinstance(found, penstock.PoolInfo):
        return (
            f"{found.state.value}  pending {found.pending}/{found.max_pending}  "
            f"delayed {found.delayed}  running {found.in_flight}  "
            f"slots {found.slots_used}/{found.slots_total}  done {found.succeeded_total}  "
            f"failed {found.failed_total}  refused {found.refused_total}"
        )
    parts = [found.state.value]
    if found.attempt:
        parts.append(f"attempt {found.attempt}")
    if found.worker:
        parts.append(f"on {found.worker.rpartition('/')[2]}")
    if found.progress_fraction is not None:
        parts.append(f"{found.progress_fraction:.0%} {found.progress_message}".rstrip())
    if found.error is not None:
        parts.append(" ".join(f"{found.error.reason}: {found.error.message}".split()))
    return "  ".join(parts)


def _time() -> str:
    return dt.datetime.now().astimezone().strftime(TIME_FORMAT)
