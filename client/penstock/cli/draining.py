"""`drain` and `undrain`: a pool that admits nothing more, and finishes what it has."""

import click

import penstock
from penstock.cli import connection, failures, looking, operating, output


@click.command("drain")
@click.argument("pool", metavar="POOL")
@click.option("--wait", is_flag=True, help="Until nothing is left; exits with 124 if there is.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Of --wait; default: however long it takes.",
)
@click.option("--reason", default="", metavar="TEXT", help="For the dispatcher's records.")
@output.option
@connection.connected
def drain(
    client: penstock.SyncClient,
    pool: str,
    wait: bool,
    timeout: float | None,
    reason: str,
    output: str,
) -> None:
    """Have POOL refuse new tasks and finish the accepted ones, until 'penstock undrain'.

    A paused pool keeps its queue: it is drained when nothing runs.
    """
    if timeout is not None and not wait:
        raise failures.InputError("--timeout is that of --wait: give both")
    with operating.as_admin():
        found = client.drain(pool, max_wait=timeout if wait else 0, reason=reason)
    looking.show_pools([found], form=output)
    if wait and not found.drained:
        left = f"{found.pending + found.delayed} tasks wait, {found.in_flight} run"
        click.echo(f"{found.name} is {found.state.value}, and not drained: {left}", err=True)
        raise click.exceptions.Exit(failures.TIMED_OUT)


@click.command("undrain")
@click.argument("pool", metavar="POOL")
@output.option
@connection.connected
def undrain(client: penstock.SyncClient, pool: str, output: str) -> None:
    """Take 'penstock drain' back: POOL admits tasks again."""
    with operating.as_admin():
        found = client.undrain(pool)
    looking.show_pools([found], form=output)
