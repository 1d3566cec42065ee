"""Who watches tasks: one bounded outbox a stream, filled in the turn in which a change may be seen.

Nothing is built for changes that nobody watches. A watcher that does not read is cut off when its
outbox is full, and told so: it never holds up the pool or another watcher.

How a resumed watch catches up is in `services.watching`. Meanwhile its outbox takes only changes of
tasks that it has shown already (`reached`), or that came later (`last`): the others are shown as
they are when their turn comes, so that nothing is kept for them.
"""

import asyncio
import collections
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NamedTuple

from penstock.v1 import task_service_pb2
from penstock_dispatcher import errors, resuming
from penstock_dispatcher.convert import task_view, times
from penstock_dispatcher.core import effects, units
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks

EVENTS_MAX: Final = 1_000
"""Events of one watch that are not sent yet."""
EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
"""The same in bytes: a task may carry 32 KiB of labels and 64 KiB of its error."""
_RETRY_AFTER_NS: Final = units.SECOND
Event = task_service_pb2.TaskEvent
_Write = Callable[[Event], Awaitable[None]]


class Moment(NamedTuple):
    """What a filter looks at, in the state that is shown: the task may have left it."""

    state: tasks.TaskState
    type: str
    priority: int
    body: bytes


class Watch:
    """One stream. `ids` empty = every task of the pool."""

    def __init__(
        self, pool: pools.Pool, ids: frozenset[str], matches: Callable[[Moment], bool]
    ) -> None:
        self.pool = pool
        self._ids = ids
        self._matches = matches
        self._outbox: collections.deque[tuple[Event, int]] = collections.deque()
        """Each with its size."""
        self._outbox_bytes = 0
        self._filled = asyncio.Event()
        self._ended: asyncio.Future[errors.Refusal] = asyncio.get_running_loop().create_future()
        self._reached = self._last = resuming.EVERY
        self._suffix = ""
        """Of the tokens of what is sent."""

    def wants(self, task: tasks.Task, state: tasks.TaskState) -> bool:
        """It is one of those that are watched, in that state."""
        if self._ids and task.id not in self._ids:
            return False
        return self._matches(Moment(state, task.type, task.priority, task.body))

    def hears(self, task: tasks.Task) -> bool:
        """A change of the task is to be offered; else it is still shown as it will be then."""
        return task.sequence <= self._reached or task.sequence > self._last

    def mute(self) -> None:
        """Nothing is to be offered: every change is shown later."""
        self._reached, self._last = -1, resuming.EVERY

    def reach(self, sequence: int, *, last: int, suffix: str) -> None:
        """Tasks up to that sequence have been shown, and those up to `last` will be; until the next
        call, tokens have that suffix.
        """
        self._reached, self._last, self._suffix = sequence, last, suffix

    @property
    def behind(self) -> bool:
        """Something that was offered is not sent yet."""
        return bool(self._outbox)

    def offer(self, event: Event, size_bytes: int) -> None:
        """Send the event when the stream has room; cut off whoever is behind by too much."""
        if len(self._outbox) >= EVENTS_MAX or self._outbox_bytes + size_bytes > EVENT_BYTES_MAX:
            self.end(
                errors.Refusal(
                    errors.Reason.WATCH_TOO_SLOW,
                    f"{len(self._outbox)} changes ({self._outbox_bytes} bytes) were not read in "
                    "time: resume with the last token, or watch fewer tasks",
                    errors.Details(retry_after_ns=_RETRY_AFTER_NS),
                )
            )
            return
        self._outbox.append((event, size_bytes))
        self._outbox_bytes += size_bytes
        self._filled.set()

    def end(self, refusal: errors.Refusal) -> None:
        """The stream is over, even if its last write is stuck. Idempotent."""
        if not self._ended.done():
            self._ended.set_result(refusal)

    async def run(self, write: _Write, *, first: AsyncIterator[Event | None]) -> None:
        """Send `first`, then what is offered, until the end; where `first` has None, what has been
        offered goes before the rest of it. Raises the Refusal that ends it.
        """
        sending = asyncio.ensure_future(self._send(write, first))
        try:
            await asyncio.wait((sending, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                raise self._ended.result()
            sending.result()
        finally:
            sending.cancel()
            # Its caller may be gone in the middle of a write: there is nobody to tell.
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, write: _Write, first: AsyncIterator[Event | None]) -> None:
        async for event in first:
            if event is None:
                await self._flush(write)
            else:
                await write(event)
        while True:
            await self._flush(write)
            self._filled.clear()
            await self._filled.wait()

    async def _flush(self, write: _Write) -> None:
        while self._outbox:
            event, size_bytes = self._outbox.popleft()
            self._outbox_bytes -= size_bytes
            if self._suffix:
                shared, event = event, Event()
                event.CopyFrom(shared)
                event.resume_token += self._suffix
            await write(event)


class Watches:
    """All streams that watch."""

    def __init__(self) -> None:
        self._of: dict[pools.Pool, set[Watch]] = {}
        self._seen: dict[pools.Pool, int] = {}
        """Changes up to this record were handed out; for pools that are watched."""

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, watch: Watch, durable_lsn: int) -> None:
        """From now on."""
        pool = watch.pool
        self._of.setdefault(pool, set()).add(watch)
        # What has just become durable is handed out in the pool's next turn.
        self._seen.setdefault(pool, pool.book.awaiting.told(durable_lsn))

    def remove(self, watch: Watch) -> None:
        """Its call is over. Idempotent."""
        watching = self._of.get(watch.pool, set())
        watching.discard(watch)
        if not watching:
            self._of.pop(watch.pool, None)
            self._seen.pop(watch.pool, None)

    def token(self, pool: pools.Pool) -> str:
        """To resume from what was handed out before this turn."""
        return resuming.token(pool.book.tokens.epoch, self._seen.get(pool, 0))

    def changed(self, pool: pools.Pool, effect: effects.TaskChanged, now: int) -> None:
        """Tell those who watch the task."""
        task, state = effect.task, effect.state
        wanted = [
            watch
            for watch in self._of.get(pool, ())
            if watch.hears(task) and watch.wants(task, state)
        ]
        if wanted:
            event = self.event(pool, task, state, now)
            if effect.previous is not None:
                event.previous_state = effect.previous.value  # type: ignore[assignment]
            size_bytes = event.ByteSize()
            for watch in wanted:
                watch.offer(event, size_bytes)

    def event(self, pool: pools.Pool, task: tasks.Task, state: tasks.TaskState, now: int) -> Event:
        """The task in that state."""
        return Event(
            task=task_view.moment(task, pool.name, state),
            resume_token=self.token(pool),
            event_time=times.timestamp(now),
        )

    def turned(self, pool: pools.Pool, durable_lsn: int) -> None:
        """The pool's changes up to this record were handed out."""
        if pool in self._of:
            self._seen[pool] = durable_lsn

    def end(self, refusal: errors.Refusal, of: pools.Pool | None = None) -> None:
        """Nobody watches that pool, or any, any more."""
        for pool, watching in self._of.items():
            if of is None or pool is of:
                for watch in watching:
                    watch.end(refusal)
