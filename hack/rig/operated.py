"""The simulated world with everybody in it who may say something to a pool.

On top of `rig.simulation`: a pool is paused, drained, closed and taken back, and its configuration
changes; tasks that are over are deleted and their names used again, waiting ones are purged; pods
are shut out before they ever connect, and told to stop; workers take only some types, report lost
children, and say things twice or in another order; the disk is slow for a while, and the whole
machine stands still.

A stream keeps its order, which gRPC promises; what is doubled and swapped here is what a worker
that was written by somebody else may send. `Drain` and `Undrain` keep theirs: a worker obeys the
last one.
"""

import collections
import dataclasses
from collections.abc import Callable

from penstock.v1 import worker_service_pb2
from penstock_dispatcher.core import afterlife, settings, units
from penstock_dispatcher.core import task as tasks
from rig import clients, simulation

Outcome = worker_service_pb2.TaskOutcome
TYPES = ("work", "rest")
CALLS_MAX = 80
"""Clients that come in the place of deleted tasks, and those of the beginning."""
STALL_SECONDS_MAX = 300


class OperatedWorld(simulation.World):
    """One history; see the module's docstring."""

    def _begin(self) -> None:
        self.latches = 0
        self.slow_commits = 0
        """Turns of the disk that take no effect: it is slow."""
        for one in self.clients.calls:
            one.wanted = dataclasses.replace(one.wanted, type=self.rng.choice(TYPES))
        super()._begin()

    def _worker_types(self) -> tuple[str, ...]:
        return self.rng.choice([(), (), ("work",), ("rest",)])

    def _events(self) -> tuple[list[Callable[[], None]], list[int]]:
        events, weights = super()._events()
        table = dict(zip(events, weights, strict=True))
        table |= {
            self._pause: 2,
            self._resume: 3,
            self._drain: 1,
            self._undrain: 3,
            self._close: 1,
            self._open: 3,
            self._configure: 2,
            self._delete: 4,
            self._purge: 1,
            self._redrive: 2,
            self._shut_out: 1,
            self._stop_worker: 1,
            self._slow_disk: 1,
            self._stand_still: 1,
            self._say_twice: 2,
            self._swap: 2,
        }
        return list(table), list(table.values())

    # ------------------------------------------------------------ the operator and people

    def _pause(self) -> None:
        if self.server is not None:
            self.server.pool.pause(True)
            number = self.latches

            def told() -> None:
                # Unless somebody has asked for something else meanwhile.
                self.promises.paused = number == self.latches

            self.server.when_durable(told)

    def _resume(self) -> None:
        if self.server is not None:
            self.latches += 1
            self.promises.paused = False
            self.server.pool.pause(False)
            self.server.turn()

    def _drain(self) -> None:
        if self.server is not None:
            self.server.pool.drain(True)
            self.server.turn()

    def _undrain(self) -> None:
        if self.server is not None:
            self.server.pool.drain(False)
            self.server.turn()

    def _close(self) -> None:
        if self.server is not None:
            self.server.pool.close(self.now)
            self.server.turn()

    def _open(self) -> None:
        if self.server is not None and self.server.pool.closed_time:
            self._put_in_force(self.config)

    def _configure(self) -> None:
        self._put_in_force(self._another_config())

    def _another_config(self) -> settings.PoolSettings:
        rng = self.rng
        rate = settings.RateLimit(
            tasks=rng.randint(1, 5), period_ns=units.SECOND, burst=rng.randint(1, 6)
        )
        return dataclasses.replace(
            self.config,
            generation=self.config.generation + 1,
            suspended=rng.random() < 0.2,
            max_pending=rng.choice([2, 3, 10, 1000]),
            max_pending_bytes=rng.choice([15, 21, 2**28]),
            rate_limit=rng.choice([None, rate]),
            max_in_flight=rng.choice([0, 1, 2]),
            default_priority=rng.choice([0, 7]),
            max_worker_losses=rng.choice([1, 3, 100]),
            retry=settings.RetryPolicy(
                max_attempts=rng.choice([1, 2, 5]), initial_backoff_ns=units.SECOND
            ),
        )

    def _put_in_force(self, config: settings.PoolSettings) -> None:
        """A dispatcher that starts finds it in its journal."""
        if self.server is not None:
            self.config = config
            self.promises.saw_config(config, self.now)
            self.server.pool.configure(config, self.now)
            self.server.turn()

    def _delete(self) -> None:
        """A task that is over, as may be seen; somebody wants another one of that name."""
        over = self._calls_of(lambda task: task.terminal)
        if self.server is not None and over:
            one = self.rng.choice(over)
            one.deleting = True
            assert afterlife.delete(self.server.pool.book, self.server.pool.book.tasks[one.task_id])
            self.server.when_durable(lambda: self._use_again(one.task_id))

    def _use_again(self, task_id: str) -> None:
        number = len(self.clients.calls)
        if number >= CALLS_MAX:
            return
        again = clients.call(number, self.rng, timed=self.timed)
        again.wanted = dataclasses.replace(again.wanted, task_id=task_id)
        self.clients.add(again)

    def _purge(self) -> None:
        if self.server is not None:
            pool = self.server.pool
            waiting = self._calls_of(lambda task: afterlife.purgeable(pool.book, task))
            if waiting:
                one = self.rng.choice(waiting)
                one.deleting = True
                afterlife.purge(pool, pool.book.tasks[one.task_id], self.now)
                self.server.turn()

    def _calls_of(self, which: Callable[[tasks.Task], bool]) -> list[clients.Call]:
        """Clients whose task may be seen as it is, and is one of those."""
        if self.server is None:
            return []
        book, durable_lsn = self.server.pool.book, self.server.durable_lsn
        found = []
        for one in self.clients.calls:
            task = None if one.deleting else book.tasks.get(one.task_id)
            if task is not None and task.lsn <= durable_lsn and which(task):
                found.append(one)
        return found

    def _shut_out(self) -> None:
        """The operator gives up on pods that have not connected; one of them may yet."""
        if self.server is not None:
            fleet, seen = self.server.pool.fleet, self.promises
            pods = [self.rng.choice(self.workers).pod_uid, f"pod-{self.names + 1}"]
            taken = self.server.pool.reservations.shut_out(
                pods, expected=frozenset(fleet.expected.values())
            )
            self.server.when_durable(lambda: seen.saw_drained(taken))

    # ------------------------------------------------------------ workers

    def _stop_worker(self) -> None:
        """SIGTERM."""
        self.rng.choice(self.workers).session.stop("SIGTERM", 60)

    def _failure(self) -> Outcome:
        if self.rng.random() < 0.3:
            return Outcome(failed=Outcome.Failed(retryable=True, worker_loss=True))
        return super()._failure()

    def _remove_drained(self) -> None:
        """Processes that have said goodbye end, too."""
        for worker in [each for each in self.workers if each.session.finished]:
            self._end_process(worker)
        super()._remove_drained()

    def _frames(self) -> collections.deque[bytes] | None:
        """Some frames on their way that may be doubled or swapped."""
        kind = worker_service_pb2.WorkResponse
        ways: list[collections.deque[bytes]] = []
        for link in self.links:
            if link.session_id and len(link.up) > 1:
                ways.append(link.up)
            if len(link.down) > 1 and not any(
                kind.FromString(each).WhichOneof("message") in ("drain", "undrain")
                for each in link.down
            ):
                ways.append(link.down)
        return self.rng.choice(ways) if ways else None

    def _say_twice(self) -> None:
        frames = self._frames()
        if frames is not None:
            first = self.rng.randrange(len(frames))
            frames.insert(self.rng.randint(first + 1, len(frames)), frames[first])

    def _swap(self) -> None:
        frames = self._frames()
        if frames is not None:
            first = self.rng.randrange(len(frames) - 1)
            frames[first], frames[first + 1] = frames[first + 1], frames[first]

    # ------------------------------------------------------------ the machine

    def _slow_disk(self) -> None:
        self.slow_commits = self.rng.randint(1, 10)

    def _commit(self) -> None:
        if self.slow_commits:
            self.slow_commits -= 1
            return
        super()._commit()

    def _stand_still(self) -> None:
        """A paused machine goes on: the dispatcher notices before it looks at any lease."""
        self.now += self.rng.randrange(STALL_SECONDS_MAX) * units.SECOND
        if self.server is not None:
            self.server.pool.stalled(self.now)
            self.promises.saw_stall(self.server, self.now)
            kept = {lease.id: lease for lease in self.server.pool.fleet.leases.all()}
            self._tick()
            for lease in self.server.pool.fleet.leases.all():
                kept.pop(lease.id, None)
            assert all(lease.deadline <= self.now for lease in kept.values()), (
                "a stall of its own costs nobody a lease"
            )

    # ------------------------------------------------------------ the end

    def _quiet_turn(self) -> None:
        if self.server is not None:
            self._resume()
            self._undrain()
            if self.server.pool.closed_time or self.config.suspended:
                self._put_in_force(dataclasses.replace(self.config, suspended=False))
        if all(worker.session.identity.task_types for worker in self.workers):
            self._new_worker(types=())
        super()._quiet_turn()
