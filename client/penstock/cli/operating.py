"""`pause` and `resume`: for those who operate pools."""

import contextlib
from collections.abc import Iterator

import click

import penstock
from penstock import errors
from penstock.cli import connection, failures, looking, output


@contextlib.contextmanager
def as_admin() -> Iterator[None]:
    """Around a call that takes the role admin. Raises AdminNeededError."""
    try:
        yield
    except (errors.PermissionDenied, errors.Unauthenticated) as error:
        raise failures.AdminNeededError(error.message) from None


@click.command("pause")
@click.argument("pool", metavar="POOL")
@click.option("--reason", default="", metavar="TEXT", help="For the dispatcher's records.")
@output.option
@connection.connected
def pause(client: penstock.SyncClient, pool: str, reason: str, output: str) -> None:
    """Start no more tasks of POOL until 'penstock resume'.

    Running tasks go on, and new ones are accepted and wait.
    """
    with as_admin():
        found = client.pause(pool, reason=reason)
    looking.show_pools([found], form=output)


@click.command("resume")
@click.argument("pool", metavar="POOL")
@output.option
@connection.connected
def resume(client: penstock.SyncClient, pool: str, output: str) -> None:
    """Take 'penstock pause' back."""
    with as_admin():
        found = client.resume(pool)
    looking.show_pools([found], form=output)
    if found.state is penstock.PoolState.PAUSED:
        click.echo("it stays paused: 'spec.suspend' is set in its manifest", err=True)
