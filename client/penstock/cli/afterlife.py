"""`retry` and `delete`: tasks that are over, queued again or forgotten."""

import functools

import click

import penstock
from penstock.cli import connection, many, output
from penstock.cli import tasks as tasks_command

_TASKS = click.argument("tasks", metavar="TASK...", nargs=-1, required=True)


@click.command("retry")
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
@many.filter_option
@many.force_option
@connection.pool
@output.option
@connection.connected
def retry(
    client: penstock.SyncClient,
    tasks: tuple[str, ...],
    query: str,
    force: bool,
    pool: str | None,
    output: str,
) -> None:
    """Queue failed and dead-lettered tasks again, with their attempts reset.

    TASK is a full name, or an id in the --pool. With a --filter the names of the first 100 are
    printed, and how many there are.
    """
    if many.chosen(tasks, query, force=force):
        run = functools.partial(client.retry_many, query=query, pool=pool)
        many.run(run, force=force, done="are queued again", todo="queues")
        return
    _write([client.retry(task, pool=pool) for task in tasks], form=output)


def _write(tasks: list[penstock.Task], *, form: str) -> None:
    columns = tasks_command.COLUMNS
    output.write(tasks, columns=columns, form=form, name=lambda task: task.name)


@click.command("delete")
@_TASKS
@connection.pool
@connection.connected
def delete(client: penstock.SyncClient, tasks: tuple[str, ...], pool: str | None) -> None:
    """Forget tasks that are over, with their results; prints each when it is gone."""
    for task in tasks:
        client.delete(task, pool=pool)
        click.echo(task)
