"""The tasks that could start now, in their order, where keys matter.

Three things may depend on a key: whose turn it is (`fair`), whether it may start (a token bucket
for each fairness key, a cap for each concurrency key), and both at once. Tasks that are alike in
all of that lie in one *lane*, a heap in their order; the lanes of one shape and fairness key (and
of one priority, where the pool is fair) make a *flow*. Of each lane and each flow only the head
counts:

    shape ── flows by place ── lanes by place ── tasks by (rank, sequence)

A lane whose concurrency key is at its cap, and a flow whose fairness key has no token, are found
out when they come up, and *parked*: from then on they cost nothing, however many tasks they hold.
They are offered again when one of the key has ended, or when its token is due. What does not come
up is not looked at. Lanes, flows and shapes without a task are dropped, so there are never more of
them than tasks.

In a fair pool a flow's place is (priority, the turn of its key, sequence); see `fairness`.
Otherwise it is the place of its first task.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from penstock_dispatcher.core import (
    fairness,
    heads,
    key_counts,
    key_rates,
    lazy_heap,
    ready,
    settings,
    waiting_keys,
)
from penstock_dispatcher.core import task as tasks

NO_CAP: Final = settings.PENDING_MAX
"""As many as a pool can hold."""

_Listed = tuple[heads.Place, int, Any] | None


@dataclasses.dataclass(slots=True, eq=False)
class _Lane:
    """Tasks of one flow and one concurrency key; where there is no cap, of all of them."""

    flow: "_Flow"
    key: str
    tasks: lazy_heap.LazyHeap[lazy_heap.Stay]
    listed: _Listed = None
    parked: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class _Flow:
    """Lanes of one shape and one fairness key; where that does not matter, of all of them."""

    shape: "_Shape"
    key: str
    priority: int
    share: fairness.Share | None
    heads: heads.Heads[_Lane]
    lanes: dict[str, _Lane]
    listed: _Listed = None
    parked: bool = False
    owed: bool = False
    """A task of it was passed over because it fitted nowhere: it is first of its priority."""


@dataclasses.dataclass(slots=True, eq=False)
class _Shape:
    shape: tasks.Shape
    heads: heads.Heads[_Flow]
    flows: dict[tuple[int, str], _Flow]


class Lanes:
    """Tasks of one pool that are not delayed. `in_flight` counts what runs by concurrency key;
    `rates` are the buckets of fairness keys, None = no limit.
    """

    def __init__(
        self,
        config: settings.PoolSettings,
        *,
        in_flight: key_counts.KeyCounts,
        rates: key_rates.KeyRates | None,
    ) -> None:
        self._aging_ns = config.priority_aging_ns
        self._cap = config.max_in_flight_per_key
        self._by_key = config.fair or rates is not None
        self._in_flight = in_flight
        self._rates = rates
        self._shares = fairness.Shares(config.fairness_weights) if config.fair else None
        self._shapes: dict[tasks.Shape, _Shape] = {}
        self._capped: dict[str, dict[_Lane, None]] = {}
        """Parked lanes by concurrency key."""
        self._tokenless: dict[str, dict[_Flow, None]] = {}
        """Parked flows by fairness key."""
        self._throttled = key_rates.Throttled()
        self._of_capped = waiting_keys.WaitingKeys() if self._cap else None
        """By concurrency key."""
        self._of_limited = None if rates is None else waiting_keys.WaitingKeys()
        """By fairness key."""
        self._now = 0

    # ------------------------------------------------------------ coming and leaving

    def add(self, task: tasks.Task) -> None:
        """Put a task in."""
        share = None
        if self._shares is not None:
            share = self._shares.join(task.priority, task.fairness_key, task.slots)
        self._insert(task, share)
        if self._of_capped is not None:
            self._of_capped.add(task.concurrency_key, task.slots)
        if self._of_limited is not None:
            self._of_limited.add(task.fairness_key, task.slots)

    def _insert(self, task: tasks.Task, share: fairness.Share | None) -> _Flow:
        shape = self._shapes.get(task.shape)
        if shape is None:
            shape = self._shapes[task.shape] = _Shape(task.shape, heads.Heads(), {})
        flow_key = self._flow_key(task)
        flow = shape.flows.get(flow_key)
        if flow is None:
            flow = _Flow(shape, flow_key[1], task.priority, share, heads.Heads(), {})
            shape.flows[flow_key] = flow
        lane_key = task.concurrency_key if self._cap else ""
        lane = flow.lanes.get(lane_key)
        if lane is None:
            lane = flow.lanes[lane_key] = _Lane(flow, lane_key, lazy_heap.LazyHeap(lazy_heap.waits))
        entry = (ready.rank(task, self._aging_ns), task.sequence, task.ticket, task)
        lane.tasks.push(entry)
        if lane.tasks.head() == entry:
            self._offer(lane, entry)
        return flow

    def _flow_key(self, task: tasks.Task) -> tuple[int, str]:
        return (
            0 if self._shares is None else task.priority,
            task.fairness_key if self._by_key else "",
        )

    def _offer(self, lane: _Lane, entry: lazy_heap.Stay) -> None:
        flow = lane.flow
        flow.heads.offer(lane, entry[:2])
        flow.shape.heads.offer(flow, self._place(flow, entry))

    def _place(self, flow: _Flow, entry: lazy_heap.Stay) -> heads.Place:
        if flow.share is None:
            return entry[:2]
        turn = fairness.OWED if flow.owed else flow.share.turn
        return -flow.priority, turn, entry[1]

    def remove(self, task: tasks.Task) -> None:
        """A task has left out of turn; its ticket is another one already."""
        lane = self._lane(task)
        lane.tasks.died()
        self._left(task, lane)

    def pop(self, task: tasks.Task) -> None:
        """Take out the task that `first` just returned: it starts, and its key pays for it."""
        lane = self._lane(task)
        self._take(task, lane)
        if self._shares is not None and lane.flow.share is not None:
            self._shares.charge(lane.flow.share, task.slots, owed=lane.flow.owed)
            lane.flow.owed = False
        self._left(task, lane)

    def lift(self, task: tasks.Task) -> None:
        """Take out the task that `first` just returned for a while: see `put_back`."""
        lane = self._lane(task)
        self._take(task, lane)
        self._drop_if_empty(lane)

    def put_back(self, task: tasks.Task) -> None:
        """A lifted task is back in its place; it is first of its priority from now on, whatever its
        key has had meanwhile.
        """
        share = None
        if self._shares is not None:
            share = self._shares.of(task.priority, task.fairness_key)
        flow = self._insert(task, share)
        if share is not None:
            flow.owed = True
            flow.shape.heads.offer(flow, (-flow.priority, fairness.OWED, task.sequence))

    def _lane(self, task: tasks.Task) -> _Lane:
        flow = self._shapes[task.shape].flows[self._flow_key(task)]
        return flow.lanes[task.concurrency_key if self._cap else ""]

    def _take(self, task: tasks.Task, lane: _Lane) -> None:
        lane.tasks.head()
        entry = lane.tasks.pop()
        assert entry[3] is task, "tasks are popped in their order"

    def _left(self, task: tasks.Task, lane: _Lane) -> None:
        if self._shares is not None:
            self._shares.leave(task.priority, task.fairness_key)
        if self._of_capped is not None:
            self._of_capped.remove(task.concurrency_key, task.slots)
        if self._of_limited is not None:
            self._of_limited.remove(task.fairness_key, task.slots)
        self._drop_if_empty(lane)

    def _drop_if_empty(self, lane: _Lane) -> None:
        if lane.tasks:
            return
        flow = lane.flow
        flow.heads.withdraw(lane)
        del flow.lanes[lane.key]
        if lane.parked:
            _unpark(self._capped, lane.key, lane)
            if lane.key not in self._capped:
                self._in_flight.unwatch(lane.key)
        if flow.lanes:
            return
        shape = flow.shape
        shape.heads.withdraw(flow)
        del shape.flows[0 if flow.share is None else flow.priority, flow.key]
        if flow.parked:
            _unpark(self._tokenless, flow.key, flow)
        if not shape.flows:
            del self._shapes[shape.shape]

    # ------------------------------------------------------------ who is next

    def first(self, stuck: Collection[tasks.Shape]) -> tasks.Task | None:
        """The task that is next in order among those of other shapes than `stuck` that may start
        at the time of the last `wake`, or None.
        """
        best: _Flow | None = None
        best_place: heads.Place = ()
        for key, shape in self._shapes.items():
            if key in stuck:
                continue
            flow = shape.heads.first(self._look_at_flow)
            if flow is None:
                continue
            assert flow.listed is not None, "who is first is listed"
            if best is None or flow.listed[0] < best_place:
                best, best_place = flow, flow.listed[0]
        if best is None:
            return None
        entry = self._entry(best)
        return None if entry is None else entry[3]

    def _entry(self, flow: _Flow) -> lazy_heap.Stay | None:
        lane = flow.heads.first(self._look_at_lane)
        return None if lane is None else lane.tasks.head()

    def _look_at_flow(self, flow: _Flow) -> heads.Place | None:
        rates = self._rates
        if rates is not None and rates.available(flow.key, self._now) < 1:
            if not flow.parked:
                flow.parked = True
                self._tokenless.setdefault(flow.key, {})[flow] = None
            due = rates.ready_at(flow.key, self._now)
            if due is not None:
                self._throttled.add(flow.key, due)
            return None
        entry = self._entry(flow)
        return None if entry is None else self._place(flow, entry)

    def _look_at_lane(self, lane: _Lane) -> heads.Place | None:
        if self._cap and lane.key and self._in_flight.of(lane.key) >= self._cap:
            if not lane.parked:
                lane.parked = True
                self._capped.setdefault(lane.key, {})[lane] = None
                self._in_flight.watch(lane.key)
            return None
        entry = lane.tasks.head()
        return None if entry is None else entry[:2]

    # ------------------------------------------------------------ waking

    def wake(self, now: int) -> None:
        """Offer again what was parked and need not be any more."""
        self._now = now
        if self._in_flight.freed:
            for key in self._in_flight.take_freed():
                for lane in self._capped.pop(key, ()):
                    lane.parked = False
                    entry = lane.tasks.head()
                    assert entry is not None, "lanes without a task are dropped"
                    self._offer(lane, entry)
        self.open(self._throttled.take_due(now))

    def next_wake(self) -> int:
        """When a parked key has its next token; may be early, never late."""
        return self._throttled.next_due()

    def open(self, fairness_keys: Iterable[str]) -> None:
        """Offer the flows of these keys again; what cannot start yet will be parked anew."""
        for key in fairness_keys:
            for flow in self._tokenless.pop(key, ()):
                flow.parked = False
                entry = self._entry(flow)
                if entry is not None:
                    flow.shape.heads.offer(flow, self._place(flow, entry))

    # ------------------------------------------------------------ looking

    def all(self) -> Iterator[tasks.Task]:
        """Every task, in no order."""
        for shape in self._shapes.values():
            for flow in shape.flows.values():
                for lane in flow.lanes.values():
                    for entry in lane.tasks:
                        yield entry[3]

    def startable_slots(self, now: int, slots: int) -> int:
        """What those tasks take that their keys let start at this moment, at most. `slots`: what
        all of them take.
        """
        in_flight, cap, rates = self._in_flight, self._cap, self._rates
        if self._of_capped is not None:
            slots = min(
                slots,
                self._of_capped.startable(lambda key: cap - in_flight.of(key) if key else NO_CAP),
            )
        if self._of_limited is not None and rates is not None:
            slots = min(slots, self._of_limited.startable(lambda key: rates.available(key, now)))
        return slots


def _unpark(parked: dict[str, dict[Any, None]], key: str, member: object) -> None:
    of_key = parked[key]
    del of_key[member]
    if not of_key:
        del parked[key]
