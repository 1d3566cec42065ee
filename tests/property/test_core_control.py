"""Submissions, other terms, cancels, starts and restarts against a plain list."""

import dataclasses

from hypothesis import stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import control, effects, units
from penstock_dispatcher.core import task as tasks
from rig import pool_bench

S = units.SECOND


@dataclasses.dataclass(eq=False)
class Waiting:
    """A task of the model."""

    name: str
    number: int
    priority: int
    not_before: int


class ControlMachine(stateful.RuleBasedStateMachine):
    """Whatever is changed, the order of starts and the counts are those of the list."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = pool_bench.Bench(max_pending=1_000, max_pending_bytes=10_000)
        self.model: list[Waiting] = []
        self.number = 0

    @stateful.rule(priority=st.integers(-2, 2), delay=st.sampled_from([0, 0, 5]))
    def submit(self, priority: int, delay: int) -> None:
        self.number += 1
        not_before = self.bench.now + delay * S if delay else 0
        name = f"t{self.number}"
        assert self.bench.submit(name, priority=priority, not_before=not_before).admitted
        self.model.append(Waiting(name, self.number, priority, not_before))

    @stateful.rule(
        data=st.data(),
        priority=st.none() | st.integers(-2, 2),
        delay=st.none() | st.sampled_from([-5, 0, 5, 20]),
    )
    def update(self, data: st.DataObject, priority: int | None, delay: int | None) -> None:
        if not self.model:
            return
        chosen = data.draw(st.sampled_from(self.model))
        terms = control.terms_of(self.bench.task(chosen.name))
        if priority is not None:
            terms = dataclasses.replace(terms, priority=priority)
            chosen.priority = priority
        if delay is not None:
            terms = dataclasses.replace(terms, schedule_time=self.bench.now + delay * S)
            chosen.not_before = self.bench.now + delay * S
        control.update(self.bench.pool.book, self.bench.task(chosen.name), terms, self.bench.now)

    @stateful.rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.model:
            chosen = data.draw(st.sampled_from(self.model))
            self.model.remove(chosen)
            assert self.bench.pool.cancel(self.bench.task(chosen.name), "", self.bench.now)

    @stateful.rule(seconds=st.sampled_from([1, 5]))
    def pass_time(self, seconds: int) -> None:
        self.bench.wait(seconds)

    @stateful.rule()
    def commit(self) -> None:
        self.bench.effects()

    @stateful.rule()
    def restart(self) -> None:
        self.bench = self.bench.restarted()

    @stateful.rule(slots=st.integers(1, 4))
    def start(self, slots: int) -> None:
        """Tasks run to their end at once."""
        self.bench.effects()
        self.bench.worker("w", slots=slots)
        started = [each.task.id for each in self.bench.effects(effects.Assigned)]
        self.bench.pool.fleet.goodbye("w", self.bench.now)
        ready = [each for each in self.model if each.not_before <= self.bench.now]
        ready.sort(key=lambda each: (-each.priority, each.number))
        assert started == [each.name for each in ready[:slots]]
        self.bench.effects()

    @stateful.invariant()
    def counts(self) -> None:
        book = self.bench.pool.book
        assert book.waiting == len(self.model)
        assert book.waiting_bytes == len(self.model)
        for each in self.model:
            task = self.bench.task(each.name)
            assert (task.sequence, task.priority) == (each.number, each.priority)
            assert task.state in tasks.WAITING


TestControl = ControlMachine.TestCase
