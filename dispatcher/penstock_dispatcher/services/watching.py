"""WatchTasks: what is shown first, a mark that this was all, then every change."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from penstock.v1 import task_service_pb2
from penstock_dispatcher import auth, pump, watches
from penstock_dispatcher.convert import names, times
from penstock_dispatcher.services import listing

LOOKED_AT_MAX: Final = 1_000
"""Tasks in one go; then others have their turn."""


async def watch(
    pump_: pump.Pump, request: task_service_pb2.WatchTasksRequest, context: Any
) -> None:
    """One stream, until its caller has enough or it is cut off. Raises Refusal."""
    pool = pump_.registry.named(request.parent)
    auth.check_namespace(names.namespace_of(request.parent))
    ids = frozenset(listing.named(pool, request.names))
    made = watches.Watch(pool, ids, listing.task_filter(request.filter))
    news = None
    if request.resume_token:
        news = watches.since(request.resume_token, pool.book.tokens.epoch)
    elif ids:
        news = -1
    pump_.watches.add(made, pump_.commits.durable_lsn)
    try:
        # The caller may wait for this: from here on it misses nothing.
        await context.send_initial_metadata(())
        first = _news(pump_, made, news, request.resume_token)
        await made.run(context.write, first=first)
    finally:
        pump_.watches.remove(made)


async def _news(
    pump_: pump.Pump, made: watches.Watch, since: int | None, resume_token: str
) -> AsyncIterator[watches.Event]:
    """What has changed since that record (None = nothing is shown), as it is when its turn comes.

    Each has the token that this began with, and only the mark at the end a newer one: a stream that
    breaks in between is resumed from the beginning.
    """
    book = made.pool.book
    begun = pump_.watches.token(made.pool)
    there = [] if since is None else list(book.tasks.values())
    for number, task in enumerate(there, start=1):
        if number % LOOKED_AT_MAX == 0:
            await asyncio.sleep(0)
        # What is under way will be a change.
        settled = since is not None and since < task.lsn <= pump_.commits.durable_lsn
        if settled and book.tasks.get(task.id) is task and made.wants(task):
            shown = pump_.watches.event(made.pool, task, task.state, pump_.now())
            shown.resume_token = resume_token
            yield shown
    yield watches.Event(resume_token=begun, event_time=times.timestamp(pump_.now()))
