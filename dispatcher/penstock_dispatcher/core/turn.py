"""A turn of dispatch where keys or sizes matter: who is next, whether it fits, and what becomes of
workers and keys if it does not.

Tasks are asked for in their order. One that fits on no worker at the moment is passed over, and a
worker that is large enough is *set aside* for it: for the rest of the turn nothing else is given to
that worker, while what comes after in the order goes to others. The same happens in the next turn,
before anything of lower order is looked at, so the worker's room only grows until the task fits:
it cannot starve, and nobody waits who could use the room of another worker. What comes before it in
the order may still take that room. Nothing is remembered between turns but which worker it was.

A task that is passed over is as good as started where its keys are concerned: its place under the
cap of its concurrency key and a token of its fairness key are kept for it, or smaller tasks of the
same keys could be quicker for ever. The pool's own tokens and its places in flight are not kept:
others can use them, and it is first in line for the next one.

A token is taken only from where it is certain that the task starts: of the key it was asked
before, the pool's is taken, then the key's.

Nothing that no open worker could take is looked at: the turn asks for the shapes that are within
the workers' reach, and compares the first tasks of those. In a turn tasks only leave and workers
only close, so none of them moves forward, and one that is out of reach stays so: whoever comes up
is looked at again, and nobody else.
"""

import heapq
from typing import TYPE_CHECKING

from penstock_dispatcher.core import heads, kinds, workers
from penstock_dispatcher.core import task as tasks

if TYPE_CHECKING:
    from penstock_dispatcher.core import pool as pools


class Turn:
    """One turn of one pool."""

    def __init__(self, pool: "pools.Pool", now: int) -> None:
        self._pool = pool
        self._backlog = pool.book.backlog
        self._table = pool.fleet.workers
        self._limits = pool.limits
        self._now = now
        self._firsts: list[tuple[heads.Place, int, kinds.Shape]] = []
        """A heap: where the first task of each shape within reach stood when it was looked at."""
        self._aside: list[tuple[tasks.Task, workers.Worker]] = []
        self.throttled = False
        """A task lacks nothing but a token of the pool."""

    def run(self) -> int:
        """Assign what can run. Returns how many."""
        assigned = 0
        if self._goes_on():
            self._look_around()
        while self._goes_on():
            task = self._first()
            if task is None:
                break
            worker = self._table.pick(task.type, task.slots)
            if worker is None:
                self._pass_over(task)
            elif self._limits.pool is None or self._limits.pool.take(self._now):
                self._start(task, worker)
                assigned += 1
            else:
                self.throttled = True
                break
        self._restore()
        return assigned

    def _look_around(self) -> None:
        for shape in self._backlog.shapes(self._table.kinds.reach()):
            first = self._backlog.first(shape)
            if first is not None:
                self._firsts.append((first[0], len(self._firsts), shape))
        heapq.heapify(self._firsts)

    def _first(self) -> tasks.Task | None:
        """The task that is next in order among those that some open worker is large enough for."""
        firsts = self._firsts
        while firsts:
            place, number, shape = firsts[0]
            first = self._backlog.first(shape) if self._table.kinds.serve(shape) else None
            if first is None:
                heapq.heappop(firsts)
            elif first[0] == place:
                return first[1]
            else:
                heapq.heapreplace(firsts, (first[0], number, shape))
        return None

    def run_plainly(self) -> int:
        """The same where neither keys nor sizes matter, for far less: the best task fits on every
        worker that knows its type. Returns how many.
        """
        book, table, bucket = self._pool.book, self._table, self._limits.pool
        room = self._room() if self._pool.config.max_in_flight else book.backlog.ready_count
        assigned = 0
        while assigned < room:
            types = table.open_types()
            if types is not None and not types:
                break
            task = book.backlog.head(types)
            if task is None:
                break
            if bucket is not None and not bucket.take(self._now):
                self.throttled = True
                break
            worker = table.pick(task.type)
            assert worker is not None, "an open type has an open worker"
            self._give(task, worker)
            assigned += 1
        return assigned

    def _goes_on(self) -> bool:
        capped = self._pool.config.max_in_flight and self._room() <= 0
        return self._table.any_open and not capped

    def _room(self) -> int:
        """Places in flight, where there is a cap. What may be running since a restart has one."""
        pool = self._pool
        return pool.config.max_in_flight - len(pool.fleet.leases) - len(pool.book.held)

    def _start(self, task: tasks.Task, worker: workers.Worker) -> None:
        if self._limits.keys is not None:
            self._limits.keys.take(task.fairness_key, self._now)
        self._give(task, worker)

    def _give(self, task: tasks.Task, worker: workers.Worker) -> None:
        self._pool.book.take_head(task)
        if task.predicted_wait_ns >= 0:
            self._pool.forecast.started(task, self._now)
        self._pool.fleet.assign(worker, task, self._now)

    def _pass_over(self, task: tasks.Task) -> None:
        worker = self._table.widest(task.type, task.slots)
        assert worker is not None, "only what some open worker is large enough for is looked at"
        self._table.set_aside(worker)
        self._backlog.lift(task)
        if task.concurrency_key:
            self._pool.book.in_flight_by_key.add(task.concurrency_key)
        if self._limits.keys is not None:
            self._limits.keys.hold(task.fairness_key)
        self._aside.append((task, worker))

    def _restore(self) -> None:
        for task, worker in self._aside:
            self._backlog.put_back(task)
            self._table.reopen(worker)
            if task.concurrency_key:
                self._pool.book.in_flight_by_key.remove(task.concurrency_key)
        if self._limits.keys is not None:
            self._backlog.open(self._limits.keys.release_all())
