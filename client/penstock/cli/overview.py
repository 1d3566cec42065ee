"""`top`: all pools at a glance, once a second on a terminal, one snapshot in plain text elsewhere.

A dispatcher that goes away for a while ends nothing: the last table stays, with a line that says
since when nobody answers.
"""

import dataclasses
import datetime as dt
import itertools
import sys
import time
from typing import Final

import click
import rich.console
import rich.live
import rich.text

import penstock
from penstock import errors
from penstock.cli import connection, output

EVERY_SECONDS: Final = 1.0
POOLS_MAX: Final = 100
"""So many are shown; `penstock pools` has them all."""
POOLS_WITH_WORKERS_MAX: Final = 20
"""Of so many pools, the first ones, the workers are counted: that is one call each."""
PRIORITIES_MAX: Final = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One pool; `workers` None = not counted."""

    pool: penstock.PoolInfo
    workers: int | None
    now: dt.datetime


COLUMNS: tuple[output.Column[Row], ...] = (
    output.Column("POOL", lambda row: f"{row.pool.namespace}/{row.pool.id}"),
    output.Column("STATE", lambda row: row.pool.state.value),
    output.Column("QUEUE", lambda row: f"{row.pool.pending}/{row.pool.max_pending}"),
    output.Column("BY PRIORITY", lambda row: by_priority(row.pool)),
    output.Column("DELAYED", lambda row: str(row.pool.delayed)),
    output.Column("RUNNING", lambda row: str(row.pool.in_flight)),
    output.Column("WORKERS", lambda row: "-" if row.workers is None else str(row.workers)),
    output.Column("SLOTS", lambda row: f"{row.pool.slots_used}/{row.pool.slots_total}"),
    output.Column("RATE", lambda row: f"{row.pool.completion_rate:.3g}/s"),
    output.Column("OLDEST", lambda row: output.ago(row.pool.oldest_pending_time, now=row.now)),
    output.Column("DEAD", lambda row: str(row.pool.dead_lettered)),
)


@click.command("top")
@click.option("-n", "--namespace", metavar="NAMESPACE", help="Only this one; default: all.")
@click.option("--once", is_flag=True, help="One snapshot in plain text, as without a terminal.")
@connection.connected
def top(client: penstock.SyncClient, namespace: str | None, once: bool) -> None:
    """Show the pools, live: queue by priority, running, workers, slots, rate, oldest wait."""
    rows = look(client, namespace)
    if once or not sys.stdout.isatty():
        output.write(rows, columns=COLUMNS, form="table", name=lambda row: row.pool.name)
        return
    try:
        _live(client, namespace, rows)
    except KeyboardInterrupt:
        return  # how one leaves it


def _live(client: penstock.SyncClient, namespace: str | None, rows: list[Row]) -> None:
    silent_since: dt.datetime | None = None
    with rich.live.Live(console=output.console(), auto_refresh=False, screen=True) as live:
        while True:
            began = time.monotonic()
            live.update(_picture(rows, silent_since), refresh=True)
            time.sleep(max(0.0, began + EVERY_SECONDS - time.monotonic()))
            try:
                rows, silent_since = look(client, namespace), None
            except (errors.Unavailable, errors.DeadlineExceeded):
                silent_since = silent_since or dt.datetime.now().astimezone()


def look(client: penstock.SyncClient, namespace: str | None) -> list[Row]:
    """The pools as they are now."""
    pools = list(itertools.islice(client.pools(namespace), POOLS_MAX))
    now = dt.datetime.now(dt.UTC)
    rows = []
    for number, pool in enumerate(pools):
        counted: int | None = None
        if number < POOLS_WITH_WORKERS_MAX:
            counted = _workers(client, pool.name)
        rows.append(Row(pool, counted, now))
    return rows


def _workers(client: penstock.SyncClient, pool: str) -> int | None:
    """How many workers are connected; None if the pool is gone by now."""
    try:
        states = [worker.state for worker in client.workers(pool)]
    except errors.NotFound:
        return None
    return sum(state is not penstock.WorkerState.LOST for state in states)


def by_priority(pool: penstock.PoolInfo) -> str:
    """What waits, the highest priorities first: `10:1 5:2`, and how many more there are."""
    waiting = list(pool.pending_by_priority.items())
    shown = " ".join(f"{priority}:{count}" for priority, count in waiting[:PRIORITIES_MAX])
    more = len(waiting) - PRIORITIES_MAX
    return (f"{shown} +{more} more" if more > 0 else shown) or "-"


def _picture(rows: list[Row], silent_since: dt.datetime | None) -> rich.console.Group:
    said = dt.datetime.now().astimezone().strftime("%H:%M:%S") + "   Ctrl-C leaves"
    if silent_since is not None:
        said = f"no dispatcher answers since {silent_since.strftime('%H:%M:%S')}: it is tried again"
    return rich.console.Group(
        rich.text.Text(said, style="bold red" if silent_since else "dim"),
        output.table(rows, columns=COLUMNS),
    )
