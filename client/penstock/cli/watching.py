"""`watch`: a task until it is over, or a pool, as it changes.

It asks at a bounded rate: for a task with `WaitTask`, so that its end is told at once; for a pool
with `GetPool`. On a terminal one line is kept up to date; elsewhere each change is a line.
"""

import datetime as dt
import json
import sys
import time
from collections.abc import Iterator
from typing import Final

import click
import rich.live
import rich.text

import penstock
from penstock import errors
from penstock.cli import connection, failures, output

EVERY_SECONDS: Final = 1.0
EVERY_SECONDS_MIN: Final = 0.1


@click.command("watch")
@click.argument("task", metavar="[TASK]", required=False)
@connection.pool
@click.option(
    "--every",
    type=click.FloatRange(min=EVERY_SECONDS_MIN),
    default=EVERY_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
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
    client: penstock.SyncClient, task: str | None, pool: str | None, every: float, output: str
) -> None:
    """Follow a TASK until it is over, or, without one, the --pool until you interrupt.

    Exits with 1 if the task did not succeed.
    """
    if task is None:
        _show(_pool(client, pool, every), form=output)
        return
    last = _show(_task(client, task, pool, every), form=output)
    if isinstance(last, penstock.Task) and not last.succeeded:
        raise click.exceptions.Exit(failures.NOT_SUCCEEDED)


_Watched = penstock.Task | penstock.PoolInfo


def _task(
    client: penstock.SyncClient, name: str, pool: str | None, every: float
) -> Iterator[_Watched]:
    """The task, again and again, the last time when it is over."""
    found = client.get(name, pool=pool)
    while not found.terminal:
        yield found
        try:
            found = client.wait(found, timeout=every)
        except (penstock.WaitTimeout, errors.Unavailable) as late:
            # The dispatcher may restart: `get` has the patience of --request-timeout.
            seen = late.task if isinstance(late, penstock.WaitTimeout) else None
            found = seen or client.get(found)
    yield found


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
    return dt.datetime.now().astimezone().strftime("%H:%M:%S")
