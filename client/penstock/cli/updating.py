"""`update`: other terms for a task that waits."""

import datetime as dt
from typing import Final

import click

import penstock
from penstock import _control
from penstock.cli import connection, failures, output
from penstock.cli import tasks as tasks_command

NONE: Final = "none"
_Kept = _control.Keep


def when(value: str | None, *, option: str, now: dt.datetime) -> dt.datetime | _Kept | None:
    """A time: RFC 3339, `+SECONDS` from now, or `now`; `none` takes it away. Raises InputError."""
    if value is None:
        return _control.KEEP
    if value == NONE:
        return None
    if value == "now":
        return now
    found = None
    try:
        if value.startswith("+"):
            return now + dt.timedelta(seconds=float(value[1:]))
        found = dt.datetime.fromisoformat(value)
    except (ValueError, OverflowError):
        pass
    if found is None or found.tzinfo is None:
        raise failures.InputError(
            f"{option} {value!r} is not a time: write 2030-01-31T08:00:00Z, +90 (seconds from "
            "now), now or none"
        )
    return found


def number(value: str | None, *, option: str) -> int | _Kept | None:
    """A whole number; `none` takes it away. Raises InputError."""
    if value is None:
        return _control.KEEP
    if value == NONE:
        return None
    try:
        return int(value)
    except ValueError:
        raise failures.InputError(f"{option} {value!r} is not a whole number, or none") from None


@click.command("update")
@click.argument("task", metavar="TASK")
@connection.pool
@click.option("--priority", metavar="N", help="Higher first; none: the pool's.")
@click.option("--schedule-time", metavar="WHEN", help="Not to start before; now or none: at once.")
@click.option(
    "--expire-time",
    metavar="WHEN",
    help="Must have started by then; none: the pool's time to live.",
)
@click.option(
    "--etag",
    default="",
    metavar="ETAG",
    help="Only if the task has not changed since it had this one.",
)
@output.option
@connection.connected
def update(
    client: penstock.SyncClient,
    task: str,
    pool: str | None,
    priority: str | None,
    schedule_time: str | None,
    expire_time: str | None,
    etag: str,
    output: str,
) -> None:
    """Change when a task that waits may start, and what comes before it.

    TASK is a full name, or an id in the --pool. WHEN is a time such as 2030-01-31T08:00:00Z, or
    +90 (seconds from now), now, or none. The task keeps its place among those of its priority.
    """
    if priority is schedule_time is expire_time is None:
        raise failures.InputError("give --priority, --schedule-time or --expire-time")
    now = dt.datetime.now(dt.UTC)
    found = client.update(
        task,
        priority=number(priority, option="--priority"),
        schedule_time=when(schedule_time, option="--schedule-time", now=now),
        expire_time=when(expire_time, option="--expire-time", now=now),
        etag=etag,
        pool=pool,
    )
    tasks_command.show(found, form=output)
