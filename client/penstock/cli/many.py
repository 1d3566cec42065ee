"""One verb for many tasks: `cancel --filter`, `retry --filter`, `dead-letters --retry-all`. It
counts first; only --force acts.
"""

from collections.abc import Callable
from typing import Final

import click

import penstock
from penstock.cli import failures, output

BULK_SECONDS_MAX: Final = 600.0
"""For a change of many; that the dispatcher answers at all, the count before it has shown."""
filter_option = click.option(
    "--filter",
    "query",
    default="",
    metavar="FILTER",
    help="Every task of the pool that matches, such as 'state=PENDING AND type=resize AND "
    "priority=0 AND label.team=maps'; '*' = every task. Only counts, unless --force is given.",
)
force_option = click.option("--force", is_flag=True, help="With a filter: do it.")


def chosen(tasks: tuple[str, ...], query: str, *, force: bool) -> bool:
    """Whether a filter says which tasks are meant. Raises InputError unless one of both does."""
    if bool(tasks) == bool(query.strip()):
        raise failures.InputError("name tasks, or give a --filter, and not both")
    if force and not query.strip():
        raise failures.InputError("--force is for a --filter: tasks that are named are meant")
    return bool(query.strip())


def run(verb: Callable[..., penstock.Bulk], *, force: bool, done: str, todo: str) -> None:
    """Count what a filter finds, then with `force` act; prints the first names, and how many."""
    found = verb(preview=True)
    if force:
        found = verb(preview=False, timeout=BULK_SECONDS_MAX)
    what = done if found.done else f"match; --force {todo} them"
    output.counted(found, f"tasks {what}")
