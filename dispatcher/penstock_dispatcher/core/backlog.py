"""The tasks that wait: in order, counted, and found by their due time.

What could start now lies in order (see `ready`, and `lanes` where keys matter). Delayed tasks lie
in a heap by due time and cross over when it has come; tasks that must start by a certain time lie
in another one as well.

A task's `ticket` tells one stay in the backlog from the next: it is bumped when the task leaves,
and entries with an old ticket are dead (see `lazy_heap`).

Who counts: `len(backlog)` is ready + delayed. The pool adds what is being committed, and decides
about the bound.
"""

from collections.abc import Iterable
from typing import Final

from penstock_dispatcher.core import (
    budget,
    key_counts,
    key_rates,
    kinds,
    lanes,
    lazy_heap,
    places,
    priorities,
    ranks,
    ready,
    settings,
)
from penstock_dispatcher.core import task as tasks

# By name in an Enum they are found anew each time.
_DELAYED: Final = tasks.TaskState.DELAYED
_PENDING: Final = tasks.TaskState.PENDING
_Heap = lazy_heap.LazyHeap[lazy_heap.Stay]

PROMOTED_AT_ONCE: Final = 10_000
EXPIRED_AT_ONCE: Final = 1_000
"""Each of the two takes some milliseconds, and others wait for as long."""


class Backlog:
    """Waiting tasks of one pool."""

    def __init__(self) -> None:
        self._ready: ready.Ready | lanes.Lanes = ready.Ready()
        self._plain: ready.Ready | None = self._ready
        self.ready_count = 0
        """Tasks that could start now."""
        self.ready_slots = 0
        """What they take."""
        self.by_priority = priorities.Priorities()
        """The ready ones, counted."""
        self._places = places.Places()
        """Where each of the ready ones stands, among those of its priority; not under aging."""
        self._ranks: ranks.Ranks | None = None
        """The same under aging, among all."""
        self._aging_ns = 0
        self._delayed: _Heap = lazy_heap.LazyHeap(lazy_heap.waits)
        self._expiring: _Heap = lazy_heap.LazyHeap(lazy_heap.waits)

    def __len__(self) -> int:
        return self.ready_count + len(self._delayed)

    def configure(
        self,
        config: settings.PoolSettings,
        *,
        in_flight: key_counts.KeyCounts,
        rates: key_rates.KeyRates | None,
    ) -> None:
        """Order by another configuration: everything that is ready is put in order anew."""
        made: ready.Ready | lanes.Lanes = ready.Ready(config.priority_aging_ns)
        if config.fair or config.max_in_flight_per_key or rates is not None:
            made = lanes.Lanes(config, in_flight=in_flight, rates=rates)
        in_flight.unwatch_all()
        for task in self._ready.all():
            made.add(task)
        self._ready = made
        self._order_places(config.priority_aging_ns)
        self._plain = made if isinstance(made, ready.Ready) else None

    def _order_places(self, aging_ns: int) -> None:
        if aging_ns == self._aging_ns:
            return
        self._aging_ns = aging_ns
        self._places = places.Places()
        self._ranks = None
        if aging_ns:
            self._ranks = ranks.Ranks(
                (ready.rank(task, aging_ns), task.sequence) for task in self._ready.all()
            )
        else:
            for task in self._ready.all():
                self._places.add(task.priority, task.sequence)

    @property
    def plain(self) -> bool:
        """Neither keys nor sizes matter: `head` may be asked."""
        return self._plain is not None and self.ready_slots == self.ready_count

    @property
    def delayed_count(self) -> int:
        """Tasks whose time has not come."""
        return len(self._delayed)

    @property
    def structure_bytes(self) -> int:
        """What lies around the tasks takes so much: see `budget`."""
        return self._ready.structure_bytes + len(self.by_priority) * budget.PRIORITY_BYTES

    @property
    def dead_entries(self) -> int:
        """Entries of tasks that have left, kept by the heaps of times."""
        return self._delayed.dead + self._expiring.dead

    def add(self, task: tasks.Task, now: int) -> None:
        """Put a task in, ready or delayed by its `not_before`; sets its state."""
        if task.not_before > now:
            task.state = _DELAYED
            self._delayed.push((task.not_before, task.sequence, task.ticket, task))
        else:
            self._make_ready(task)
        if task.expire_time and task.may_expire:
            self._expiring.push((task.expire_time, task.sequence, task.ticket, task))

    def _make_ready(self, task: tasks.Task) -> None:
        task.state = _PENDING
        self._ready.add(task)
        self.ready_count += 1
        self.ready_slots += task.slots
        self.by_priority.add(task.priority)
        if self._ranks is None:
            self._places.add(task.priority, task.sequence)
        else:
            self._ranks.add(ready.rank(task, self._aging_ns), task.sequence)

    def _left(self, task: tasks.Task) -> None:
        self.ready_count -= 1
        self.ready_slots -= task.slots
        self.by_priority.remove(task.priority)
        if self._ranks is None:
            self._places.remove(task.priority, task.sequence)
        else:
            self._ranks.remove(ready.rank(task, self._aging_ns), task.sequence)

    def remove(self, task: tasks.Task) -> None:
        """Take a waiting task out of turn. Its state says where it is; the caller sets the next
        one.
        """
        self._take_out(task)
        if task.expire_time and task.may_expire:
            self._expiring.died()

    def _take_out(self, task: tasks.Task) -> None:
        task.ticket += 1
        if task.state is _DELAYED:
            self._delayed.died()
        else:
            self._ready.remove(task)
            self._left(task)

    def promote(self, now: int) -> int:
        """Delayed tasks that are due become ready, at most `PROMOTED_AT_ONCE`. Returns how many.
        Keys whose time has come may have theirs start.
        """
        self._ready.wake(now)
        promoted = 0
        while promoted < PROMOTED_AT_ONCE and (head := self._delayed.head()) and head[0] <= now:
            self._delayed.pop()
            self._make_ready(head[3])
            promoted += 1
        return promoted

    def take_expired(self, now: int) -> list[tasks.Task]:
        """Remove and return waiting tasks whose `expire_time` has passed before they ever started,
        at most `EXPIRED_AT_ONCE`.
        """
        expired: list[tasks.Task] = []
        while len(expired) < EXPIRED_AT_ONCE and (head := self._expiring.head()) and head[0] <= now:
            self._expiring.pop()
            self._take_out(head[3])
            expired.append(head[3])
        return expired

    def lags(self, now: int) -> bool:
        """Some are due, or have expired, that were too many for one call."""
        due, expires = self._delayed.head(), self._expiring.head()
        return bool((due and due[0] <= now) or (expires and expires[0] <= now))

    def head(self, types: Iterable[str] | None = None) -> tasks.Task | None:
        """The task that is next in order among those types (None = all), or None. Only while
        `plain`.
        """
        assert self._plain is not None, "who is next depends on keys"
        return self._plain.head(types)

    def shapes(self, reach: kinds.Reach) -> list[kinds.Shape]:
        """What to ask `first` for, to be told of every task that is within that reach: costs by
        what is within it, whatever else waits.
        """
        return self._ready.shapes(reach)

    def first(self, shape: kinds.Shape) -> ready.Standing | None:
        """The task of that shape that is next in order among those that may start as far as their
        keys are concerned, at the time of the last `promote`; or None.
        """
        return self._ready.first(shape)

    def pop(self, task: tasks.Task) -> None:
        """Take out the task that `head` or `first` just returned; its state is the caller's."""
        self._ready.pop(task)
        self._left(task)
        task.ticket += 1
        if task.expire_time and task.may_expire:
            self._expiring.died()

    def lift(self, task: tasks.Task) -> None:
        """Pass over the task that `first` just returned, until `put_back`; it goes on waiting."""
        self._ready.lift(task)

    def put_back(self, task: tasks.Task) -> None:
        """A lifted task is back in its place."""
        self._ready.put_back(task)

    def before(self, task: tasks.Task) -> int:
        """How many of the ready ones come before one of them, as far as keys are not concerned;
        places.UNKNOWN = it would cost too much to tell.
        """
        if self._ranks is not None:
            return self._ranks.before(ready.rank(task, self._aging_ns), task.sequence)
        before = self._places.before(task.priority, task.sequence)
        if before < 0:
            return places.UNKNOWN
        return before + self.by_priority.at_least(task.priority + 1)

    def before_new(self, priority: int, now: int) -> int:
        """How many of them come before a task of that priority that comes now."""
        if self._ranks is not None:
            # What has the very same rank came before it.
            return self._ranks.before(now - priority * self._aging_ns + 1, 0)
        return self.by_priority.at_least(priority)

    def open(self, fairness_keys: Iterable[str]) -> None:
        """These keys may have a token by now."""
        self._ready.open(fairness_keys)

    def next_due(self) -> int:
        """When the next delayed task is due, the next task expires, or a key has its next token."""
        due = self._ready.next_wake()
        for head in (self._delayed.head(), self._expiring.head()):
            if head is not None:
                due = min(due, head[0])
        return due

    def startable_slots(self, now: int) -> int:
        """What the ready ones take that may start as far as their keys are concerned."""
        if isinstance(self._ready, lanes.Lanes):
            return self._ready.startable_slots(now, self.ready_slots)
        return self.ready_slots
