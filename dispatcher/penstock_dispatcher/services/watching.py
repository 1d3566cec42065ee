"""WatchTasks: what is shown first, a mark that this was all, then every change.

A resumed watch walks through the tasks in the order of admission and shows each that has changed
since its token, as it is when its turn comes; and each that is in flight, because a start has no
record that a token could name. Meanwhile the pool goes on. What changes before the walk gets there
is dropped: the walk shows it. What changes behind the walk is kept in the outbox, and is sent
before the walk goes on. So every task is shown in its last state, nothing is kept for tasks to
come, and whoever reads faster than changes come reaches the end.

Whoever does not is cut off, and a stream may break at any time; then the next one goes on from its
last token. It says how far the walk was (`reached`), up to which record everything behind it has
been sent (`lsn`), and since when news was looked for (`floor`): all that is true because a step of
the walk begins with an empty outbox. The next stream first walks from there to the end, with
`floor`, and hears of no changes: they are later than `lsn`. Then all is as if it had been resumed
with `lsn`, and it walks from the beginning, with that. Each step of a walk is a step forward that
no interruption takes back, and each walk to the end leaves only what has changed since it began.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from penstock.v1 import task_service_pb2
from penstock_dispatcher import auth, pump, resuming, watches
from penstock_dispatcher.convert import names, times
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.services import listing

_OrderOf = Callable[[pools.Pool], listing.Order]
_First = AsyncIterator[watches.Event | None]


async def watch(
    pump_: pump.Pump,
    order_of: _OrderOf,
    request: task_service_pb2.WatchTasksRequest,
    context: Any,
) -> None:
    """One stream, until its caller has enough or it is cut off. Raises Refusal."""
    pool = pump_.registry.named(request.parent)
    auth.check_namespace(names.namespace_of(request.parent))
    ids = listing.ids(pool, request.names, some_gone=bool(request.resume_token))
    made = watches.Watch(pool, frozenset(ids), listing.task_filter(request.filter))
    seen = None
    if request.resume_token:
        seen = resuming.seen(request.resume_token, pool.book.tokens.epoch)
    elif ids:
        seen = resuming.Seen()
    catch_up = CatchUp(pump_, made, ids, order_of, seen=seen)
    pump_.watches.add(made, pump_.commits.durable_lsn)
    try:
        # The caller may wait for this: from here on it misses nothing.
        await context.send_initial_metadata(())
        await made.run(context.write, first=catch_up.run())
    finally:
        pump_.watches.remove(made)


class CatchUp:
    """What one stream shows first; see the module's docstring. `ids` empty = all of the pool.
    `seen` None = nothing is news. Make it before changes are offered to the watch.
    """

    def __init__(
        self,
        pump_: pump.Pump,
        made: watches.Watch,
        ids: Sequence[str],
        order_of: _OrderOf,
        *,
        seen: resuming.Seen | None,
    ) -> None:
        self._pump = pump_
        self._made = made
        self._ids = ids
        self._order_of = order_of
        self._seen = seen
        if seen is not None:
            made.mute()

    async def run(self) -> _First:
        """The news, and the mark. None = send what was offered before more is asked for."""
        made, pool, seen = self._made, self._made.pool, self._seen
        if seen is not None:
            if seen.reached < resuming.EVERY:
                begun = resuming.token(pool.book.tokens.epoch, seen.lsn)
                async for shown in self._walk(seen.floor, after=seen.reached, begun=begun):
                    yield shown
            async for shown in self._walk(seen.lsn):
                yield shown
        while made.behind:
            yield None
        made.reach(resuming.EVERY, last=resuming.EVERY, suffix="")
        token = self._pump.watches.token(pool)
        yield watches.Event(resume_token=token, event_time=times.timestamp(self._pump.now()))

    async def _walk(self, floor: int, *, after: int = -1, begun: str = "") -> _First:
        """Tasks after that sequence that have changed since record `floor`; with `begun`, which
        their tokens begin with, no change is heard meanwhile.
        """
        pump_, made = self._pump, self._made
        last = made.pool.book.sequence
        if not begun:
            made.reach(-1, last=last, suffix=resuming.suffix(floor, -1))
        there = looked_at(made.pool, self._ids, self._order_of, after=after, last=last)
        async for task in there:
            while made.behind:
                yield None
            if made.pool.book.tasks.get(task.id) is not task:
                continue  # deleted, or moved to another pool
            suffix = resuming.suffix(floor, task.sequence)
            if not begun:
                made.reach(task.sequence, last=last, suffix=suffix)
            # What is under way will be a change.
            if task.lsn > pump_.commits.durable_lsn:
                continue
            if (task.lsn > floor or task.lease is not None) and made.wants(task, task.state):
                shown = pump_.watches.event(made.pool, task, task.state, pump_.now())
                shown.resume_token = (begun or shown.resume_token) + suffix
                yield shown


async def looked_at(
    pool: pools.Pool, ids: Sequence[str], order_of: _OrderOf, *, after: int, last: int
) -> AsyncIterator[tasks.Task]:
    """Those of the named tasks, or of all, with a sequence after `after` and up to `last`, in that
    order, that are still there when their turn comes.
    """
    by_id = pool.book.tasks
    if not ids:
        async for task in order_of(pool).walk(by_id, after=after, last=last):
            yield task
    named = ((by_id[each].sequence, each) for each in ids if each in by_id)
    for sequence, each in sorted(named):
        found = by_id.get(each)
        if after < sequence <= last and found is not None and found.sequence == sequence:
            yield found
