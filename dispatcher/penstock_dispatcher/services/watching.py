"""WatchTasks: what is shown first, then every change."""

from collections.abc import Iterator
from typing import Any, Final

from penstock.v1 import task_service_pb2
from penstock_dispatcher import auth, errors, pump, watches
from penstock_dispatcher.convert import names
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.services import listing

NAMES_MAX: Final = 1_000


async def watch(
    pump_: pump.Pump, request: task_service_pb2.WatchTasksRequest, context: Any
) -> None:
    """One stream, until its caller has enough or it is cut off. Raises Refusal."""
    pool = pump_.registry.named(request.parent)
    auth.check_namespace(names.namespace_of(request.parent))
    ids = _ids(request, pool)
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
        await made.run(context.write, first=_news(pump_, made, news))
    finally:
        pump_.watches.remove(made)


def _ids(request: task_service_pb2.WatchTasksRequest, pool: pools.Pool) -> frozenset[str]:
    if len(request.names) > NAMES_MAX:
        raise errors.invalid("names", f"must be at most {NAMES_MAX}")
    found = set()
    for name in request.names:
        child = names.task(name)
        if child.pool != pool.name:
            raise errors.invalid("names", f"must be tasks of {pool.name}, {name[:256]!r} is not")
        if child.id not in pool.book.tasks:
            raise errors.no_task(name)
        found.add(child.id)
    return frozenset(found)


def _news(pump_: pump.Pump, made: watches.Watch, since: int | None) -> Iterator[watches.Event]:
    """What has changed since that record, as it is when its turn comes; None = nothing is shown."""
    book = made.pool.book
    if since is None:
        return
    for task in list(book.tasks.values()):
        # What is under way will be a change.
        settled = since < task.lsn <= pump_.commits.durable_lsn
        if settled and book.tasks.get(task.id) is task and made.wants(task):
            yield pump_.watches.event(made.pool, task, task.state, pump_.now())
