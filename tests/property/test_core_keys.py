"""Who starts, and who waits, against a naive reading of the rules: lists that are sorted and
searched from end to end for each single task.

The machine drives a whole pool. After each turn the model takes the tasks that the pool has
assigned one by one, and says for each whether it was its turn; then it looks whether anything that
could have started still waits.
"""

import collections
import dataclasses
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import bucket, effects, outcome, settings, units, workers
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND
KEYS = ("", "a", "b", "c")
LIMIT = settings.RateLimit(tasks=1, period_ns=3 * S, burst=2)
OTHER_LIMIT = settings.RateLimit(tasks=3, period_ns=S, burst=1)
limits = st.sampled_from([None, LIMIT, OTHER_LIMIT])
kinds = st.sampled_from(outcome.OutcomeKind)


@dataclasses.dataclass
class Room:
    """A worker as the model sees it during a turn."""

    free: int
    slots: int
    types: frozenset[str]
    awaited: bool
    closed: bool = False

    def fits(self, task: tasks.Task) -> bool:
        return not self.closed and self.free >= task.slots and self.runs(task)

    def runs(self, task: tasks.Task) -> bool:
        return not self.types or task.type in self.types


class Buckets:
    """A bucket for each key, never forgotten."""

    def __init__(self, rate: settings.RateLimit, now: int, *, full: bool) -> None:
        self.all = {key: bucket.TokenBucket(rate, now=now, full=full) for key in KEYS}
        self.taken: dict[str, list[int]] = {key: [] for key in KEYS}

    def reconfigure(self, rate: settings.RateLimit, now: int) -> None:
        for key, one in self.all.items():
            one.reconfigure(rate, now)
            self.taken[key] = []

    def check_windows(self) -> None:
        for key, taken in self.taken.items():
            rate = self.all[key].rate
            for first, start in enumerate(taken):
                for last in range(first, len(taken)):
                    count, window = last - first + 1, taken[last] - start
                    assert (count - rate.burst) * rate.period_ns <= window * rate.tasks


class KeysMachine(stateful.RuleBasedStateMachine):
    bench: pool_bench.Bench
    sizes: bool

    @stateful.initialize(
        order=st.sampled_from(["plain", "aging", "fair"]),
        sizes=st.booleans(),
        cap=st.integers(0, 2),
        limit=limits,
        pool_limit=limits,
        in_flight=st.sampled_from([0, 0, 3]),
    )
    def begin(self, order: str, sizes: bool, **fields: Any) -> None:
        self.sizes = sizes
        self.number = 0
        self.bench = pool_bench.Bench(
            max_pending=1000,
            max_pending_bytes=10_000,
            lease_ns=10**6 * S,
            execution_timeout_ns=10**6 * S,
            max_worker_losses=10**6,
            retry=settings.RetryPolicy(max_attempts=10**6, initial_backoff_ns=S, jitter=0.0),
            **self.order_of(order),
            **self.limits_of(**fields),
        )
        config = self.bench.pool.config
        now = self.bench.now
        self.by_key = None
        if config.rate_limit_per_key:
            self.by_key = Buckets(config.rate_limit_per_key, now, full=True)
        self.of_pool = None
        if config.rate_limit:
            self.of_pool = bucket.TokenBucket(config.rate_limit, now=now, full=True)

    def order_of(self, order: str) -> dict[str, Any]:
        return {
            "priority_aging_ns": 2 * S if order == "aging" else 0,
            "fair": order == "fair",
            "fairness_weights": {"a": 3, "b": 7} if order == "fair" else {},
        }

    def limits_of(
        self,
        cap: int,
        limit: settings.RateLimit | None,
        pool_limit: settings.RateLimit | None,
        in_flight: int,
    ) -> dict[str, Any]:
        return {
            "max_in_flight_per_key": cap,
            "rate_limit_per_key": limit,
            "rate_limit": pool_limit,
            "max_in_flight": in_flight,
        }

    # ------------------------------------------------------------ what happens

    @stateful.rule(
        type_=st.sampled_from(["x", "x", "y"]),
        priority=st.integers(-1, 2),
        fairness_key=st.sampled_from(KEYS),
        concurrency_key=st.sampled_from(KEYS),
        slots=st.sampled_from([1, 1, 1, 2, 3]),
        delay=st.sampled_from([0, 0, 0, 4]),
        count=st.integers(1, 3),
    )
    def submit(self, type_: str, slots: int, delay: int, count: int, **fields: Any) -> None:
        for _ in range(count):
            self.number += 1
            answer = self.bench.submit(
                f"t{self.number}",
                type=type_,
                slots=slots if self.sizes else 1,
                not_before=self.bench.now + delay * S if delay else 0,
                **fields,
            )
            assert answer.admitted
        self.turn()

    @stateful.rule(slots=st.integers(1, 4), types=st.sampled_from(["", "x", "y", "xy"]))
    def worker(self, slots: int, types: str) -> None:
        fleet = self.bench.pool.fleet
        if len(fleet.workers) >= 4:
            return
        self.number += 1
        name = f"w{self.number}"
        assert fleet.hello(
            workers.Introduction(
                session_id=name,
                pod_name=name,
                pod_uid=name,
                slots=slots,
                task_types=frozenset(types),
            ),
            self.bench.now,
        )
        fleet.credit(name, slots)
        self.turn()

    @stateful.rule(data=st.data(), kind=kinds)
    def end(self, data: st.DataObject, kind: outcome.OutcomeKind) -> None:
        running = self.bench.pool.fleet.leases.all()
        if running:
            lease = data.draw(st.sampled_from(running))
            fleet = self.bench.pool.fleet
            ended = outcome.Outcome(lease_id=lease.id, token=lease.token, kind=kind)
            fleet.outcome(lease.session_id, ended, self.bench.now)
            fleet.credit(lease.session_id, lease.task.slots)
        self.turn()

    @stateful.rule(data=st.data())
    def lose_worker(self, data: st.DataObject) -> None:
        known = list(self.bench.pool.fleet.workers.all())
        if known:
            worker = data.draw(st.sampled_from(known))
            self.bench.pool.fleet.gone(worker.pod_uid, "gone", self.bench.now)
        self.turn()

    @stateful.rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiting = self.waiting()
        if waiting:
            task = data.draw(st.sampled_from(waiting))
            self.bench.pool.cancel(task, "", self.bench.now)
        self.turn()

    @stateful.rule(delta=st.integers(1, 5 * S))
    def pass_time(self, delta: int) -> None:
        self.bench.now += delta
        self.bench.pool.tick(self.bench.now)
        self.turn()

    @stateful.rule()
    def pass_time_to_the_next_deadline(self) -> None:
        due = self.bench.pool.next_deadline()
        if due < self.bench.now + 1000 * S:
            self.bench.now = due
            self.bench.pool.tick(due)
            self.turn()
            assert self.bench.pool.next_deadline() > due, "or its timer would fire all the time"

    @stateful.rule(
        order=st.sampled_from(["plain", "aging", "fair"]),
        cap=st.integers(0, 2),
        limit=limits,
        pool_limit=limits,
        in_flight=st.sampled_from([0, 0, 3]),
    )
    def configure(self, order: str, **fields: Any) -> None:
        changes = {**self.order_of(order), **self.limits_of(**fields)}
        config = dataclasses.replace(self.bench.pool.config, **changes)
        now = self.bench.now
        self.bench.pool.configure(config, now)
        if config.rate_limit_per_key is None:
            self.by_key = None
        elif self.by_key is None:
            self.by_key = Buckets(config.rate_limit_per_key, now, full=False)
        elif self.by_key.all[""].rate != config.rate_limit_per_key:
            self.by_key.reconfigure(config.rate_limit_per_key, now)
        if config.rate_limit is None:
            self.of_pool = None
        elif self.of_pool is None:
            self.of_pool = bucket.TokenBucket(config.rate_limit, now=now, full=False)
        elif self.of_pool.rate != config.rate_limit:
            self.of_pool.reconfigure(config.rate_limit, now)
        self.turn()

    # ------------------------------------------------------------ the model

    def waiting(self) -> list[tasks.Task]:
        known = self.bench.pool.book.tasks.values()
        return [task for task in known if not task.terminal and task.lease is None]

    def order(self, task: tasks.Task) -> tuple[int, int]:
        config, now = self.bench.pool.config, self.bench.now
        urgency = task.priority
        if config.priority_aging_ns:
            urgency = task.priority * config.priority_aging_ns + now - task.create_time
        return -urgency, task.sequence

    def turn(self) -> None:
        """Let the pool have its turn, and judge each assignment, and what was left."""
        bench = self.bench
        pool, now = bench.pool, bench.now
        config = pool.config
        rooms = {
            worker.session_id: Room(
                worker.free, worker.slots, worker.task_types, worker.awaited, worker.free < 1
            )
            for worker in pool.fleet.workers.all()
        }
        running = [lease.task for lease in pool.fleet.leases.all()]
        left = sorted((task for task in self.waiting() if task.not_before <= now), key=self.order)
        assigned = bench.effects(effects.Assigned)
        awaited = {worker.session_id: worker.awaited for worker in pool.fleet.workers.all()}
        aside: list[tasks.Task] = []

        def may_start(task: tasks.Task) -> bool:
            same = [
                each for each in running + aside if each.concurrency_key == task.concurrency_key
            ]
            cap = config.max_in_flight_per_key
            if cap and task.concurrency_key and len(same) >= cap:
                return False
            if self.by_key is None:
                return True
            kept = sum(each.fairness_key == task.fairness_key for each in aside)
            return self.by_key.all[task.fairness_key].available(now) > kept

        def stop() -> bool:
            cap = config.max_in_flight
            return bool(cap) and len(running) >= cap

        def next_one() -> tasks.Task | None:
            """The first that may start and fits; workers are set aside on the way."""
            for task in list(left):
                if stop() or not may_start(task):
                    continue
                if any(room.fits(task) for room in rooms.values()):
                    return task
                large = [
                    (room.free, room.awaited, -room.slots, awaited[name], name)
                    for name, room in rooms.items()
                    if not room.closed and room.slots >= task.slots and room.runs(task)
                ]
                if large:
                    rooms[max(large)[-1]].closed = True
                    aside.append(task)
                    left.remove(task)
            return None

        for effect in assigned:
            task, room = effect.task, rooms[effect.session_id]
            if config.fair:
                assert may_start(task)
                assert room.free >= task.slots
                self.check_fair(task, [each for each in left if may_start(each)], rooms)
            else:
                assert next_one() is task, "it was not its turn"
                assert room.fits(task)
            if self.of_pool is not None:
                assert self.of_pool.take(now)
            if self.by_key is not None:
                assert self.by_key.all[task.fairness_key].take(now)
                self.by_key.taken[task.fairness_key].append(now)
            room.free -= task.slots
            room.closed = room.free < 1
            room.awaited = False
            left.remove(task)
            running.append(task)
        if self.of_pool is None or self.of_pool.available(now):
            if not config.fair:
                assert next_one() is None, "it could run, and waits"
            elif not self.sizes and not stop():
                could = [
                    task
                    for task in left
                    if may_start(task) and any(room.fits(task) for room in rooms.values())
                ]
                assert not could, "they could run, and wait"

    def check_fair(self, task: tasks.Task, could: list[tasks.Task], rooms: dict[str, Room]) -> None:
        """Strict priority, and first in, first out within a key."""
        if self.sizes:
            return
        for other in could:
            if any(room.fits(other) for room in rooms.values()):
                assert other.priority <= task.priority
                if (other.priority, other.fairness_key) == (task.priority, task.fairness_key):
                    assert other.sequence >= task.sequence

    @stateful.invariant()
    def counts(self) -> None:
        if not hasattr(self, "bench"):
            return
        pool = self.bench.pool
        running = [lease.task for lease in pool.fleet.leases.all()]
        assert pool.fleet.leases.slots == sum(task.slots for task in running)
        by_key = collections.Counter(t.concurrency_key for t in running if t.concurrency_key)
        assert {key: pool.book.in_flight_by_key.of(key) for key in KEYS[1:]} == {
            key: by_key[key] for key in KEYS[1:]
        }
        waiting = self.waiting()
        assert {key: pool.book.by_key.of(key) for key in KEYS} == {
            key: sum(task.fairness_key == key for task in waiting) for key in KEYS
        }
        queued = [task for task in waiting if task.state is tasks.TaskState.PENDING]
        assert pool.book.backlog.ready_count == len(queued)
        assert {task.id for task in pool.book.backlog._ready.all()} == {t.id for t in queued}
        startable = pool.book.backlog.startable_slots(self.bench.now)
        assert startable <= sum(task.slots for task in queued)
        for worker in pool.fleet.workers.all():
            assert worker.slots_used == sum(lease.task.slots for lease in worker.leases.values())
            assert worker.slots_used <= worker.slots
        if self.by_key is not None:
            self.by_key.check_windows()


TestKeys = KeysMachine.TestCase
TestKeys.settings = hypothesis_settings(max_examples=200, stateful_step_count=40, deadline=None)
