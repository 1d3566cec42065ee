"""`purge`: delete what waits, after a look at it."""

import click

import penstock
from penstock.cli import connection, operating, output, source


@click.command("purge")
@click.argument("pool", metavar="POOL")
@click.option("--type", "task_type", metavar="TYPE", help="Only tasks of this type.")
@click.option("--priority", type=int, metavar="N", help="Only tasks of this priority.")
@click.option(
    "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only tasks with it; repeatable."
)
@click.option("--force", is_flag=True, help="Delete them; without it they are only counted.")
@connection.connected
def purge(
    client: penstock.SyncClient,
    pool: str,
    task_type: str | None,
    priority: int | None,
    labels: tuple[str, ...],
    force: bool,
) -> None:
    """Delete the tasks of POOL that wait and match every option.

    Prints the names of the first 100, and how many there are. Tasks that run or are over stay.
    """
    with operating.as_admin():
        found = client.purge(
            pool, task_type=task_type, priority=priority, labels=source.labels(labels), force=force
        )
    what = "deleted" if found.deleted else "match; --force deletes them"
    output.counted(found, f"waiting tasks {what}")
