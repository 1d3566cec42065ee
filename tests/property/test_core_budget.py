"""The memory of several pools against a sum that is made anew after every step."""

from hypothesis import stateful
from hypothesis import strategies as st

from penstock_dispatcher.core import admission, afterlife, bounds, budget, outcome
from penstock_dispatcher.core import task as tasks
from rig import counted_memory, pool_bench

LIMIT = 60_000
SIZES = st.sampled_from([0, 10, 3_000, 9_000, 25_000])
POOLS = st.integers(0, 2)
Kind = outcome.OutcomeKind
Reason = admission.AdmissionReason


class BudgetMachine(stateful.RuleBasedStateMachine):
    """Three pools; those that wait for room are let in when they are told, and not before."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = budget.Budget(LIMIT)
        self.number = 0
        self.benches = [self.bench() for _ in range(3)]
        self.waiting: list[tuple[pool_bench.Bench, admission.Waiter]] = []

    def bench(self) -> pool_bench.Bench:
        """One more pool, whose worker is there."""
        made = pool_bench.Bench(
            memory=self.memory,
            uid=self.name(),
            max_pending=1_000,
            max_pending_bytes=2**30,
            max_dead_letters=4,
            result_retention_ns=50 * pool_bench.S,
        )
        made.worker("w", slots=3)
        return made

    def fits(self, wanted: int) -> bool:
        """Beside what cannot go."""
        stay = 0
        for bench in self.benches:
            stay += bench.pool.book.memory.requests * budget.REQUEST_BYTES
            stay += bench.pool.book.memory.structures
            for task in bench.pool.book.tasks.values():
                if not task.terminal or task.state is tasks.TaskState.DEAD_LETTERED:
                    stay += task.charged
                elif task.request_id:
                    stay += budget.REQUEST_BYTES
        return stay + wanted <= LIMIT

    def name(self) -> str:
        self.number += 1
        return f"t{self.number}"

    def turn(self) -> None:
        """Of those whose callers were let in by what others gave back."""
        while let_in := self.memory.take_let_in():
            for bench in self.benches:
                if bench.pool.config.uid in let_in:
                    bench.effects()

    @stateful.rule(pool=POOLS, size=SIZES, named=st.booleans())
    def submit(self, pool: int, size: int, named: bool) -> None:
        bench, name = self.benches[pool], self.name()
        fits = self.fits(budget.task_bytes(size))
        answer = bench.submit(name, body=bytes(size), request_id=name if named else "")
        assert (answer.reason is Reason.ACCEPTED) == fits, "the bound is exact"
        bench.effects()

    @stateful.rule(pool=POOLS, size=SIZES)
    def wait_for_room(self, pool: int, size: int) -> None:
        name = self.name()
        bench = self.benches[pool]
        found = bench.wait_for_room(name, wait_s=20, body=bytes(size), request_id=name)
        if isinstance(found, admission.Waiter):
            self.waiting.append((bench, found))
        bench.effects()

    @stateful.rule(pool=POOLS, size=SIZES, kind=st.sampled_from(Kind), data=st.data())
    def end(self, pool: int, size: int, kind: outcome.OutcomeKind, data: st.DataObject) -> None:
        bench = self.benches[pool]
        running = [task.id for task in bench.pool.book.tasks.values() if task.lease]
        if running:
            failure = tasks.Failure(code=2, reason="NO", message="no", status=bytes(size))
            failed = {"failure": failure} if kind is Kind.FAILED else {"result": bytes(size)}
            bench.end(data.draw(st.sampled_from(running)), kind, **failed)
            bench.effects()

    @stateful.rule(pool=POOLS, size=SIZES, data=st.data())
    def progress(self, pool: int, size: int, data: st.DataObject) -> None:
        bench = self.benches[pool]
        running = [task.lease.id for task in bench.pool.book.tasks.values() if task.lease]
        if running:
            lease_id = data.draw(st.sampled_from(running))
            bench.pool.fleet.progress("w", lease_id, b"half", bytes(size))
            bench.effects()

    @stateful.rule(pool=POOLS, data=st.data())
    def change(self, pool: int, data: st.DataObject) -> None:
        bench = self.benches[pool]
        if bench.pool.book.tasks:
            task = bench.task(data.draw(st.sampled_from(list(bench.pool.book.tasks))))
            if not afterlife.redrive(bench.pool.book, task):
                afterlife.delete(bench.pool.book, task)
            bench.pool.cancel(task, "", bench.now)
            bench.effects()

    @stateful.rule(seconds=st.sampled_from([1, 30, 90_000]))
    def pass_time(self, seconds: int) -> None:
        for bench in self.benches:
            bench.wait(seconds)
            bench.worker("w", slots=3)
            bench.effects()

    @stateful.invariant()
    def memory_is_counted(self) -> None:
        self.turn()
        counted_memory.check_all(self.memory, [bench.pool.book for bench in self.benches])

    @stateful.invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        self.turn()
        self.waiting = [(bench, waiter) for bench, waiter in self.waiting if waiter.waits]
        for _, waiter in self.waiting:
            assert not self.fits(bounds.memory_bytes(waiter.wanted)), "there is room"
        assert self.memory.calls == sum(waiter.wanted.size for _, waiter in self.waiting)

    @stateful.rule(pool=POOLS)
    def forget_pool(self, pool: int) -> None:
        """With everything of it; another one comes in its place."""
        before = self.benches[pool]
        for waiter in before.pool.room.take_all():
            assert not waiter.waits
        self.memory.leave(before.pool.book.memory)
        self.memory.let_in(before.now)
        self.benches[pool] = self.bench()


TestBudget = BudgetMachine.TestCase
