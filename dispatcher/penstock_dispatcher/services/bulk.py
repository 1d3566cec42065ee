"""One verb for many tasks of a pool: those that are named, or those that a filter finds.

Tasks are taken in parts. Between two of them others have their turn, and what was done becomes
durable; a call that ends early, or a dispatcher that is killed, has done some of them and leaves
nothing in between. Tasks that come while it goes on are not among them.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

from penstock_dispatcher import errors, pump
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.services import listing

SAMPLE_MAX: Final = 100
"""Names in an answer."""
STEP_TASKS: Final = 250
"""Changed in one go."""
LOOKED_AT_MAX: Final = 2_500
"""Looked at in one go."""
EVERY: Final = "*"
"""The filter that every task passes."""


@dataclasses.dataclass(slots=True)
class Found:
    """How many, and the names of the first."""

    count: int = 0
    names: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """`applies` tells whether there is something to do for a task, `act` does it."""

    applies: Callable[[tasks.Task], bool]
    act: Callable[[tasks.Task, int], object]


def selected(
    pool: pools.Pool, task_names: Sequence[str], query: str
) -> tuple[list[tasks.Task], Callable[[tasks.Task], bool]]:
    """The tasks to look at, and which of them are meant. Raises Refusal."""
    if bool(task_names) == bool(query.strip()):
        raise errors.invalid(
            "filter", f"or names must be given, one of them; {EVERY} is the filter for every task"
        )
    if not task_names:
        matches = listing.task_filter("" if query.strip() == EVERY else query)
        return list(pool.book.tasks.values()), matches
    by_id = pool.book.tasks
    return [by_id[id_] for id_ in listing.ids(pool, task_names)], lambda _: True


async def run(
    pump_: pump.Pump,
    pool: pools.Pool,
    chosen: tuple[list[tasks.Task], Callable[[tasks.Task], bool]],
    verb: Verb,
    *,
    preview: bool,
) -> Found:
    """See the module's docstring. Returns when all of it is durable. Raises Refusal."""
    found = Found()
    there, matches = chosen
    there.reverse()
    while there:
        # Nothing is done to a task whose last change a crash could still take back.
        await pump_.everything_durable()
        if pump_.registry.by_uid.get(pool.config.uid) is not pool:
            raise errors.no_pool(pool.name)
        part = _part(pool, there, lambda task: verb.applies(task) and matches(task))
        if part and not preview:
            pump_.mark(pool)
            now = pump_.now()
            for task in part:
                verb.act(task, now)
        found.count += len(part)
        room = SAMPLE_MAX - len(found.names)
        found.names.extend(f"{pool.name}/tasks/{task.id}" for task in part[:room])
        await asyncio.sleep(0)
    await pump_.everything_durable()
    return found


def _part(
    pool: pools.Pool, there: list[tasks.Task], wanted: Callable[[tasks.Task], bool]
) -> list[tasks.Task]:
    """Take the next ones from the end of `there`, and return those that are wanted."""
    part: list[tasks.Task] = []
    for _ in range(min(LOOKED_AT_MAX, len(there))):
        task = there.pop()
        if pool.book.tasks.get(task.id) is task and wanted(task):
            part.append(task)
            if len(part) == STEP_TASKS:
                break
    return part
