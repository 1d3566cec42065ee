"""`pools` and `workers`: what there is, and how it does."""

import datetime as dt
from collections.abc import Iterable, Iterator

import click

import penstock
from penstock.cli import connection, output

NOTES_MAX = 20
"""Notes below one table."""
POOLS: tuple[output.Column[penstock.PoolInfo], ...] = (
    output.Column("NAMESPACE", lambda pool: pool.namespace),
    output.Column("POOL", lambda pool: pool.id),
    output.Column("STATE", lambda pool: pool.state.value),
    output.Column("PENDING", lambda pool: f"{pool.pending}/{pool.max_pending}"),
    output.Column("WAITERS", lambda pool: str(pool.waiters)),
    output.Column("DELAYED", lambda pool: str(pool.delayed)),
    output.Column("RUNNING", lambda pool: str(pool.in_flight)),
    output.Column("SLOTS", lambda pool: f"{pool.slots_used}/{pool.slots_total}"),
    output.Column("DONE", lambda pool: str(pool.succeeded_total)),
    output.Column("FAILED", lambda pool: str(pool.failed_total)),
    output.Column("RATE", lambda pool: f"{pool.completion_rate:.3g}/s"),
    output.Column("WAIT", lambda pool: output.span(pool.estimated_wait_seconds)),
)
WORKERS: tuple[output.Column[penstock.WorkerInfo], ...] = (
    output.Column("WORKER", lambda worker: worker.id),
    output.Column("STATE", lambda worker: worker.state.value),
    output.Column("SLOTS", lambda worker: f"{worker.slots_used}/{worker.slots_total}"),
    output.Column("REVISION", lambda worker: worker.revision or "-"),
    output.Column(
        "IDLE", lambda worker: output.ago(worker.idle_since_time, now=dt.datetime.now(dt.UTC))
    ),
    output.Column(
        "CONNECTED", lambda worker: output.ago(worker.connect_time, now=dt.datetime.now(dt.UTC))
    ),
    output.Column("TASKS", lambda worker: ",".join(_id(task) for task in worker.tasks) or "-"),
)


@click.command("pools")
@click.option("-n", "--namespace", metavar="NAMESPACE", help="Only this one; default: all.")
@output.option
@connection.connected
def pools(client: penstock.SyncClient, namespace: str | None, output: str) -> None:
    """List the pools, with their queues and rates."""
    show_pools(client.pools(namespace), form=output)


def show_pools(found: Iterable[penstock.PoolInfo], *, form: str) -> None:
    """Print pools; below a table, which of them have tasks of a deleted one to restore."""
    notes: list[str] = []

    def noted() -> Iterator[penstock.PoolInfo]:
        for pool in found:
            if pool.restorable_tasks and len(notes) < NOTES_MAX:
                notes.append(_restorable(pool))
            yield pool

    output.write(noted(), columns=POOLS, form=form, name=lambda pool: pool.name)
    if form == "table":
        for note in notes:
            click.echo(note, err=True)


def _restorable(pool: penstock.PoolInfo) -> str:
    left = output.span(
        None
        if pool.restorable_until is None
        else (pool.restorable_until - dt.datetime.now(dt.UTC)).total_seconds()
    )
    return (
        f"a deleted pool {pool.namespace}/{pool.id} keeps {pool.restorable_tasks} tasks for another"
        f" {left}: 'penstock restore {pool.namespace}/{pool.id}' moves them into this one"
    )


@click.command("workers")
@connection.pool
@output.option
@connection.connected
def workers(client: penstock.SyncClient, pool: str | None, output: str) -> None:
    """List the workers of a pool."""
    _workers(client, pool, output)


def _workers(client: penstock.SyncClient, pool: str | None, form: str) -> None:
    output.write(client.workers(pool), columns=WORKERS, form=form, name=lambda worker: worker.name)


def _id(task: str) -> str:
    return task.rpartition("/")[2]
