"""The waiting room against a naive model: a plain list that is searched from end to end."""

import dataclasses

from hypothesis import stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import admission, effects
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

MAX_PENDING, MAX_BYTES, MAX_WAITERS = 4, 60, 5
Reason = admission.AdmissionReason


@dataclasses.dataclass(eq=False)
class Waiting:
    """One waiter of the model."""

    name: str
    priority: int
    size: int
    deadline: int
    waiter: admission.Waiter


class WaitingRoomMachine(stateful.RuleBasedStateMachine):
    """A pool without workers: tasks come, wait, and are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = pool_bench.Bench(
            max_pending=MAX_PENDING, max_pending_bytes=MAX_BYTES, max_waiters=MAX_WAITERS
        )
        self.queued: dict[str, int] = {}
        self.waiting: list[Waiting] = []
        self.told: list[tuple[str, Reason]] = []
        self.number = 0

    def name(self) -> str:
        self.number += 1
        return f"t{self.number}"

    def fits(self, size: int) -> bool:
        return len(self.queued) < MAX_PENDING and sum(self.queued.values()) + size <= MAX_BYTES

    def let_in(self) -> None:
        """What must have happened by now, before anybody else is looked at."""
        while fitting := [each for each in self.waiting if self.fits(each.size)]:
            best = max(fitting, key=lambda each: each.priority)  # the first of the highest
            self.waiting.remove(best)
            self.queued[best.name] = best.size
            self.told.append((best.name, Reason.ACCEPTED))

    @stateful.rule(size=st.integers(1, 60), priority=st.integers(-2, 2))
    def submit(self, size: int, priority: int) -> None:
        self.let_in()
        name = self.name()
        answer = self.bench.submit(name, size=size, priority=priority)
        assert (answer.reason is Reason.ACCEPTED) == self.fits(size), "the bound is exact"
        if answer.admitted:
            self.queued[name] = size

    @stateful.rule(
        size=st.integers(1, 60), priority=st.integers(-2, 2), seconds=st.sampled_from([0, 1, 5])
    )
    def submit_or_wait(self, size: int, priority: int, seconds: int) -> None:
        self.let_in()
        name = self.name()
        found = self.bench.wait_for_room(name, wait_s=seconds, size=size, priority=priority)
        if self.fits(size):
            assert isinstance(found, admission.Admission)
            assert found.reason is Reason.ACCEPTED
            self.queued[name] = size
            return
        held = sum(each.size for each in self.waiting)
        if len(self.waiting) == MAX_WAITERS or held + size > MAX_BYTES:
            assert isinstance(found, admission.Admission)
            assert found.reason is Reason.TOO_MANY_WAITERS
            return
        assert isinstance(found, admission.Waiter)
        deadline = self.bench.now + seconds * pool_bench.S
        self.waiting.append(Waiting(name, priority, size, deadline, found))

    @stateful.rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.let_in()
        self.turn()
        if self.waiting:
            gone = data.draw(st.sampled_from(self.waiting))
            self.waiting.remove(gone)
            self.bench.pool.room.leave(gone.waiter)

    @stateful.rule(data=st.data())
    def make_room(self, data: st.DataObject) -> None:
        if self.queued:
            name = data.draw(st.sampled_from(list(self.queued)))
            task = self.bench.pool.book.tasks.get(name)
            if task is not None:
                self.bench.pool.cancel(task, "", self.bench.now)
                del self.queued[name]

    @stateful.rule(seconds=st.integers(1, 3))
    def pass_time(self, seconds: int) -> None:
        self.let_in()
        self.bench.wait(seconds)
        late = [each for each in self.waiting if each.deadline <= self.bench.now]
        self.waiting = [each for each in self.waiting if each not in late]
        late.sort(key=lambda each: each.deadline)
        self.told += [(each.name, Reason.ADMISSION_TIMEOUT) for each in late]

    @stateful.rule()
    def turn(self) -> None:
        self.let_in()
        answered = self.bench.effects(effects.WaiterAnswered)
        found = [(each.waiter.wanted.task_id, each.answer.reason) for each in answered]
        assert found == self.told, "the right ones, in the right order"
        self.told = []

    @stateful.invariant()
    def bounds_hold(self) -> None:
        book, room = self.bench.pool.book, self.bench.pool.room
        waiting = [task for task in book.tasks.values() if task.place is not tasks.Place.NOWHERE]
        assert len(waiting) == book.waiting <= MAX_PENDING
        assert sum(task.size for task in waiting) == book.waiting_bytes <= MAX_BYTES
        assert len(room) <= MAX_WAITERS
        assert room.payload_bytes <= MAX_BYTES


TestWaitingRoom = WaitingRoomMachine.TestCase
