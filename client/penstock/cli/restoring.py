"""`restore`: have the queue of a deleted pool back."""

import click

import penstock
from penstock.cli import connection, operating, output


@click.command("restore")
@click.argument("pool", metavar="POOL")
@click.option(
    "--from",
    "from_uid",
    default="",
    metavar="UID",
    help="Of the deleted pool; default: the last one that has tasks.",
)
@click.option("--dry-run", is_flag=True, help="Move nothing; only show what would move.")
@connection.connected
def restore(client: penstock.SyncClient, pool: str, from_uid: str, dry_run: bool) -> None:
    """Move the tasks that wait in a deleted POOL into the one that has its name.

    Dead letters move too. Prints the names of the first 100, and how many there are. Tasks that
    still run go on where they are: call it again when they wait or are over.
    """
    with operating.as_admin():
        found = client.restore(pool, from_uid=from_uid, dry_run=dry_run)
    what = "restored" if found.moved else "can be restored; leave --dry-run out to do it"
    output.counted(found, f"tasks of the deleted pool {found.from_uid} {what}")
    if found.skipped:
        click.echo(
            f"{found.skipped} are not taken twice: the pool has their name or request id", err=True
        )
    if found.remaining > found.skipped:
        click.echo(
            f"{found.remaining - found.skipped} stay: they may still run, or would not be kept",
            err=True,
        )
