"""Waiting for a task, with a word to whoever waits for what cannot happen.

A task whose type no worker has a handler for is right to wait: a new revision of the workers may
bring it. Somebody who has mistyped it would wait for ever in silence.
"""

from typing import Final

import click

import penstock
from penstock import errors

SILENT_SECONDS: Final = 3.0
"""So long a task may wait before it is looked at why."""
TYPES_SHOWN_MAX: Final = 10


def until_over(
    client: penstock.SyncClient,
    task: penstock.Task | str,
    *,
    pool: str | None = None,
    timeout: float | None = None,
) -> penstock.Task:
    """`client.wait`, with a line on standard error when the task waits for a type of worker that is
    not there. Raises what `client.wait` raises.
    """
    if timeout is not None and timeout <= SILENT_SECONDS:
        return client.wait(task, pool=pool, timeout=timeout)
    try:
        return client.wait(task, pool=pool, timeout=SILENT_SECONDS)
    except errors.WaitTimeout as late:
        if late.task is not None and (said := _why(client, late.task)):
            click.echo(f"penstock: {said}", err=True)
    if timeout is None:
        return client.wait(task, pool=pool)
    try:
        return client.wait(task, pool=pool, timeout=timeout - SILENT_SECONDS)
    except errors.WaitTimeout as late:
        state = "" if late.task is None else f": it is {late.task.state.value}"
        name = task if isinstance(task, str) else task.name
        said = f"{name} was not over after {timeout:g} s{state}"
        raise errors.WaitTimeout(said, task=late.task) from None


def _why(client: penstock.SyncClient, task: penstock.Task) -> str | None:
    """Why it has not begun, if that is for want of a handler."""
    if task.state is not penstock.TaskState.PENDING or task.attempt:
        return None
    try:
        workers = list(client.workers(task.pool))
    except errors.PenstockError:
        return None  # a hint is no reason to fail
    return no_handler(task.type, workers)


def no_handler(task_type: str, workers: list[penstock.WorkerInfo]) -> str | None:
    """What to say when there are workers and none of them has a handler for the type."""
    if not workers or any(not each.task_types or task_type in each.task_types for each in workers):
        return None
    types = sorted({one for each in workers for one in each.task_types})
    shown = ", ".join(types[:TYPES_SHOWN_MAX]) + (", …" if len(types) > TYPES_SHOWN_MAX else "")
    return (
        f"still waiting: no worker of the pool has a handler for {task_type!r}, "
        f"only for {shown}: mend the type, or the handlers"
    )
