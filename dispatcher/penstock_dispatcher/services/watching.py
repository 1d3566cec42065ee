"""WatchTasks: what is shown first, a mark that this was all, then every change."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from penstock.v1 import task_service_pb2
from penstock_dispatcher import auth, pump, watches
from penstock_dispatcher.convert import names, times
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.services import listing


async def watch(
    pump_: pump.Pump,
    order_of: Callable[[pools.Pool], listing.Order],
    request: task_service_pb2.WatchTasksRequest,
    context: Any,
) -> None:
    """One stream, until its caller has enough or it is cut off. Raises Refusal."""
    pool = pump_.registry.named(request.parent)
    auth.check_namespace(names.namespace_of(request.parent))
    found = listing.named(pool, request.names).values()
    ids = [task.id for task in sorted(found, key=lambda task: task.sequence)]
    del found  # none of them is kept for as long as this lasts
    made = watches.Watch(pool, frozenset(ids), listing.task_filter(request.filter))
    news = None
    if request.resume_token:
        news = watches.since(request.resume_token, pool.book.tokens.epoch)
    elif ids:
        news = -1
    pump_.watches.add(made, pump_.commits.durable_lsn)
    try:
        # The caller may wait for this: from here on it misses nothing.
        await context.send_initial_metadata(())
        there = looked_at(pool, ids, order_of)
        first = _news(pump_, made, there, since=news, resume_token=request.resume_token)
        await made.run(context.write, first=first)
    finally:
        pump_.watches.remove(made)


async def looked_at(
    pool: pools.Pool, ids: Sequence[str], order_of: Callable[[pools.Pool], listing.Order]
) -> AsyncIterator[tasks.Task]:
    """Those of the named tasks, or of all, that are still there when their turn comes."""
    by_id = pool.book.tasks
    if not ids:
        async for task in order_of(pool).walk(by_id, last=pool.book.sequence):
            yield task
    for each in ids:
        named = by_id.get(each)
        if named is not None:
            yield named


async def _news(
    pump_: pump.Pump,
    made: watches.Watch,
    there: AsyncIterator[tasks.Task],
    *,
    since: int | None,
    resume_token: str,
) -> AsyncIterator[watches.Event]:
    """What has changed since that record (None = nothing is shown), as it is when its turn comes.

    Each has the token that this began with, and only the mark at the end a newer one: a stream that
    breaks in between is resumed from the beginning.
    """
    begun = pump_.watches.token(made.pool)
    if since is not None:
        async for task in there:
            # What is under way will be a change.
            if since < task.lsn <= pump_.commits.durable_lsn and made.wants(task, task.state):
                shown = pump_.watches.event(made.pool, task, task.state, pump_.now())
                shown.resume_token = resume_token
                yield shown
    yield watches.Event(resume_token=begun, event_time=times.timestamp(pump_.now()))
