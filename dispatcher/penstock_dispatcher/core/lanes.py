"""The tasks that could start now, in their order, where keys matter.

Three things may depend on a key: whose turn it is (`fair`), whether it may start (a token bucket
for each fairness key, a cap for each concurrency key), and both at once. Tasks that are alike in
all of that lie in one *lane*, a heap in their order; how lanes are found is in `flows`. Of each
lane and each flow only the head counts.

A lane whose concurrency key is at its cap, and a flow whose fairness key has no token, are found
out when they come up, and *parked*: from then on they cost nothing, however many tasks they hold.
They are offered again when one of the key has ended, or when its token is due. What does not come
up is not looked at: neither is a type that nobody asks for. What is left without a task is dropped,
so there is never more of anything than tasks.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from penstock_dispatcher.core import (
    budget,
    fairness,
    flows,
    heads,
    key_counts,
    key_rates,
    kinds,
    lazy_heap,
    ready,
    settings,
    waiting_keys,
)
from penstock_dispatcher.core import task as tasks

NO_CAP: Final = settings.PENDING_MAX
"""As many as a pool can hold."""


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
        self._sizes: dict[int, flows.Size] = {}
        self._capped: dict[str, dict[flows.Lane, None]] = {}
        """Parked lanes by concurrency key."""
        self._tokenless: dict[str, dict[flows.Flow, None]] = {}
        """Parked flows by fairness key."""
        self._throttled = key_rates.Throttled()
        self._of_capped = waiting_keys.WaitingKeys() if self._cap else None
        """By concurrency key."""
        self._of_limited = None if rates is None else waiting_keys.WaitingKeys()
        """By fairness key."""
        self._now = 0
        self._flow_count = self._lane_count = 0

    @property
    def structure_bytes(self) -> int:
        """What lies around the tasks takes so much."""
        buckets = 0 if self._rates is None else len(self._rates) * budget.BUCKET_BYTES
        lanes = self._flow_count * budget.FLOW_BYTES + self._lane_count * budget.LANE_BYTES
        return lanes + buckets

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

    def _insert(self, task: tasks.Task, share: fairness.Share | None) -> flows.Flow:
        size = self._sizes.get(task.slots)
        if size is None:
            size = self._sizes[task.slots] = flows.Size(task.slots, heads.Heads(), {}, {})
        of_type = size.by_type.get(task.type)
        if of_type is None:
            of_type = size.by_type[task.type] = flows.Type(size, task.type, heads.Heads(), {})
        flow = of_type.flows.get(self._flow_key(task))
        if flow is None:
            flow = self._make_flow(task, of_type, share)
        lane_key = task.concurrency_key if self._cap else ""
        lane = flow.lanes.get(lane_key)
        if lane is None:
            lane = flow.lanes[lane_key] = flows.Lane(
                flow, lane_key, lazy_heap.LazyHeap(lazy_heap.waits)
            )
            self._lane_count += 1
        entry = self._stay(task)
        lane.tasks.push(entry)
        if lane.tasks.head() == entry:
            self._offer(lane, entry)
        return flow

    def _stay(self, task: tasks.Task) -> lazy_heap.Stay:
        return ready.rank(task, self._aging_ns), task.sequence, task.ticket, task

    def _make_flow(
        self, task: tasks.Task, of_type: flows.Type, share: fairness.Share | None
    ) -> flows.Flow:
        flow_key = self._flow_key(task)
        columns = of_type.size.columns
        column = columns.get(flow_key)
        if column is None:
            column = columns[flow_key] = flows.Column(heads.Heads(), {})
        flow = flows.Flow(of_type, column, flow_key[1], task.priority, share, heads.Heads(), {})
        of_type.flows[flow_key] = flow
        column.spots[task.type] = flows.Spot(flow)
        self._flow_count += 1
        return flow

    def _flow_key(self, task: tasks.Task) -> tuple[int, str]:
        return (
            0 if self._shares is None else task.priority,
            task.fairness_key if self._by_key else "",
        )

    def _offer(self, lane: flows.Lane, entry: lazy_heap.Stay) -> None:
        lane.flow.heads.offer(lane, entry[:2])
        flows.offer(lane.flow, entry)

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
            flows.offer(flow, self._stay(task))

    def _lane(self, task: tasks.Task) -> flows.Lane:
        flow = self._sizes[task.slots].by_type[task.type].flows[self._flow_key(task)]
        return flow.lanes[task.concurrency_key if self._cap else ""]

    def _take(self, task: tasks.Task, lane: flows.Lane) -> None:
        lane.tasks.head()
        entry = lane.tasks.pop()
        assert entry[3] is task, "tasks are popped in their order"

    def _left(self, task: tasks.Task, lane: flows.Lane) -> None:
        if self._shares is not None:
            self._shares.leave(task.priority, task.fairness_key)
        if self._of_capped is not None:
            self._of_capped.remove(task.concurrency_key, task.slots)
        if self._of_limited is not None:
            self._of_limited.remove(task.fairness_key, task.slots)
        self._drop_if_empty(lane)

    def _drop_if_empty(self, lane: flows.Lane) -> None:
        if lane.tasks:
            return
        flow = lane.flow
        flow.heads.withdraw(lane)
        del flow.lanes[lane.key]
        self._lane_count -= 1
        if lane.parked:
            _unpark(self._capped, lane.key, lane)
            if lane.key not in self._capped:
                self._in_flight.unwatch(lane.key)
        if not flow.lanes:
            self._drop_flow(flow)

    def _drop_flow(self, flow: flows.Flow) -> None:
        if flow.parked:
            _unpark(self._tokenless, flow.key, flow)
        flow_key = (0 if flow.share is None else flow.priority, flow.key)
        of_type, column = flow.of_type, flow.column
        size = of_type.size
        column.heads.withdraw(column.spots.pop(of_type.type))
        if not column.spots:
            size.heads.withdraw(column)
            del size.columns[flow_key]
        of_type.heads.withdraw(flow)
        del of_type.flows[flow_key]
        self._flow_count -= 1
        if not of_type.flows:
            del size.by_type[of_type.type]
            if not size.by_type:
                del self._sizes[size.slots]

    # ------------------------------------------------------------ who is next

    def shapes(self, reach: kinds.Reach) -> list[kinds.Shape]:
        """What to ask `first` for, to be told of every task that is within that reach."""
        found: list[kinds.Shape] = []
        for slots in reach.sizes(self._sizes):
            found += reach.shapes(slots, self._sizes[slots].by_type)
        return found

    def first(self, shape: kinds.Shape) -> ready.Standing | None:
        """The task of that shape that is next in order among those that may start at the time of
        the last `wake`, or None.
        """
        type_, slots = shape
        size = self._sizes.get(slots)
        if size is None:
            return None
        flow: flows.Flow | None = None
        if type_ is None:
            column = size.heads.first(self._look_at_column)
            spot = None if column is None else column.heads.first(self._look_at_spot)
            flow = None if spot is None else spot.flow
        else:
            of_type = size.by_type.get(type_)
            flow = None if of_type is None else of_type.heads.first(self._look_at_flow)
        entry = None if flow is None else self._entry(flow)
        if flow is None or entry is None:
            return None
        return flows.place(flow, entry), entry[3]

    def _entry(self, flow: flows.Flow) -> lazy_heap.Stay | None:
        lane = flow.heads.first(self._look_at_lane)
        return None if lane is None else lane.tasks.head()

    def _startable(self, flow: flows.Flow) -> lazy_heap.Stay | None:
        rates = self._rates
        if rates is not None and rates.available(flow.key, self._now) < 1:
            if not flow.parked:
                flow.parked = True
                self._tokenless.setdefault(flow.key, {})[flow] = None
            due = rates.ready_at(flow.key, self._now)
            if due is not None:
                self._throttled.add(flow.key, due)
            return None
        return self._entry(flow)

    def _look_at_column(self, column: flows.Column) -> heads.Place | None:
        spot = column.heads.first(self._look_at_spot)
        entry = None if spot is None else self._entry(spot.flow)
        return None if spot is None or entry is None else flows.place(spot.flow, entry)

    def _look_at_spot(self, spot: flows.Spot) -> heads.Place | None:
        entry = self._startable(spot.flow)
        return None if entry is None else flows.place_in_column(spot.flow, entry)

    def _look_at_flow(self, flow: flows.Flow) -> heads.Place | None:
        entry = self._startable(flow)
        return None if entry is None else flows.place(flow, entry)

    def _look_at_lane(self, lane: flows.Lane) -> heads.Place | None:
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
                    flows.offer(flow, entry)

    # ------------------------------------------------------------ looking

    def all(self) -> Iterator[tasks.Task]:
        """Every task, in no order."""
        for size in self._sizes.values():
            for of_type in size.by_type.values():
                for flow in of_type.flows.values():
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
