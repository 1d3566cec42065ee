"""Backlog and bucket against naive models."""

import collections

from hypothesis import given, stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import backlog, bucket, lazy_heap, settings, units
from penstock_dispatcher.core import task as tasks

TYPES = ("a", "b", "c")


def make(number: int, *, type_: str, priority: int, not_before: int, expire: int) -> tasks.Task:
    return tasks.Task(
        id=f"t{number}",
        uid="",
        sequence=number,
        type=type_,
        priority=priority,
        body=b"",
        size=0,
        create_time=0,
        not_before=not_before,
        expire_time=expire,
        execution_timeout_ns=0,
        retry=settings.RetryPolicy(),
        request_id="",
        state=tasks.TaskState.PENDING,
    )


def may_expire(task: tasks.Task) -> bool:
    return task.expire_time > 0 and task.attempt == 0


class BacklogMachine(stateful.RuleBasedStateMachine):
    """The model is a plain list, searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.real = backlog.Backlog()
        self.model: list[tasks.Task] = []
        self.running: list[tasks.Task] = []
        self.number = 0
        self.now = 0

    @stateful.rule(
        type_=st.sampled_from(TYPES),
        priority=st.integers(-3, 3),
        delay=st.sampled_from([0, 0, 5, 50]),
        expire=st.sampled_from([0, 0, 30]),
    )
    def add(self, type_: str, priority: int, delay: int, expire: int) -> None:
        self.number += 1
        task = make(
            self.number,
            type_=type_,
            priority=priority,
            not_before=self.now + delay if delay else 0,
            expire=self.now + expire if expire else 0,
        )
        self.model.append(task)
        self.real.add(task, self.now)

    @stateful.rule(delta=st.integers(1, 40))
    def pass_time(self, delta: int) -> None:
        self.now += delta
        self.real.promote(self.now)
        expired = {task.id for task in self.real.take_expired(self.now)}
        wanted = {t.id for t in self.model if may_expire(t) and t.expire_time <= self.now}
        assert expired == wanted
        self.model = [task for task in self.model if task.id not in expired]

    @stateful.rule(types=st.none() | st.sets(st.sampled_from(TYPES)))
    def take(self, types: set[str] | None) -> None:
        ready = [
            task
            for task in self.model
            if task.not_before <= self.now and (types is None or task.type in types)
        ]
        best = min(ready, key=lambda task: (-task.priority, task.sequence), default=None)
        head = self.real.head(types)
        assert head is best
        if head is not None:
            self.real.pop(head)
            head.state = tasks.TaskState.RUNNING
            self.model.remove(head)
            self.running.append(head)

    @stateful.rule(data=st.data(), charged=st.booleans())
    def hand_back(self, data: st.DataObject, charged: bool) -> None:
        if self.running:
            task = data.draw(st.sampled_from(self.running))
            self.running.remove(task)
            task.attempt += charged
            self.model.append(task)
            self.real.add(task, self.now)

    @stateful.rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            task = data.draw(st.sampled_from(self.model))
            self.real.remove(task)
            task.state = tasks.TaskState.CANCELLED
            self.model.remove(task)

    @stateful.invariant()
    def counts(self) -> None:
        ready = [task for task in self.model if task.state is tasks.TaskState.PENDING]
        assert len(self.real) == len(self.model)
        assert self.real.ready_count == len(ready)
        counted = collections.Counter(task.priority for task in ready)
        best = sorted(counted, reverse=True)[:2]
        assert list(self.real.by_priority.highest(2).items()) == [(p, counted[p]) for p in best]
        assert {task.id for task in self.real._ready.all()} == {task.id for task in ready}
        due = [t.not_before for t in self.model if t.state is tasks.TaskState.DELAYED]
        due += [t.expire_time for t in self.model if may_expire(t)]
        assert self.real.next_due() == min(due, default=units.NEVER)
        assert self.real.dead_entries <= 2 * len(self.model) + 2 * lazy_heap.DEAD_ENTRIES_FREE


TestBacklog = BacklogMachine.TestCase

limits = st.builds(
    settings.RateLimit,
    tasks=st.integers(1, 1000),
    period_ns=st.integers(1, 10**10),
    burst=st.integers(1, 20),
)


@given(limit=limits, gaps=st.lists(st.integers(0, 10**10), max_size=40), full=st.booleans())
def test_in_every_window_at_most_burst_and_rate(
    limit: settings.RateLimit, gaps: list[int], full: bool
) -> None:
    now = 0
    one = bucket.TokenBucket(limit, now=now, full=full)
    taken: list[int] = []
    for gap in gaps:
        now += gap
        while len(taken) < 200 and one.take(now):
            taken.append(now)
        assert one.available(now) == 0 or len(taken) >= 200
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            count, window = last - first + 1, taken[last] - start
            assert count * limit.period_ns <= limit.burst * limit.period_ns + window * limit.tasks


@given(limit=limits, now=st.integers(0, 10**12))
def test_ready_at_is_the_first_moment(limit: settings.RateLimit, now: int) -> None:
    one = bucket.TokenBucket(limit, now=now, full=False)
    ready = one.ready_at(now)
    assert not one.take(ready - 1)
    assert one.take(ready)
