"""A world in one thread, on a virtual clock, from a seed: real pool and real sessions under faults.

Each step draws one thing that may happen: a frame arrives, a disk syncs, an attempt ends, a stream
breaks, a process dies, the clock jumps. After each step the promises are checked. When the steps
are over the faults stop, and everything that was accepted must end. The same seed is the same
history.

Promises (see DESIGN): nothing accepted is lost and nothing is invented; a task is accepted once
under one request id; it has at most one valid lease, and one recorded outcome, the right one;
tokens only grow; the bound, the order, the delays and the rate are exact; nobody waits for room
while there is some; a cancelled task never starts again; a drained pod gets no more work; no timer
fires without need; and in a gentle world (dispatcher crashes and broken streams only) no task runs
twice.
"""

import dataclasses
import random
from collections.abc import Callable

from penstock.v1 import worker_service_pb2
from penstock_dispatcher.core import afterlife, budget, settings, units
from rig import clients, promises, simulated, simulated_disk, simulated_worker, streams

Outcome = worker_service_pb2.TaskOutcome
TURNS_TO_END_MAX = 5_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What kind of world: `gentle` = workers live for ever and leases outlast every fault."""

    steps: int = 600
    clients: int = 40
    gentle: bool = False
    crowded: bool = False
    """Clients may wait for room, and retry what failed; the pool has little room, in bytes also."""
    tight: bool = False
    """Payloads are large, and there is memory for few of them: results go before their time."""


class World(streams.Streams):
    """One history. `run` plays it to its end; any broken promise is an AssertionError."""

    judge = promises.Promises

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self.rng = random.Random(seed)
        self.scenario = scenario
        self.timed = self.rng.random() < 0.5
        """Tasks may be delayed, and may have to start by a certain time."""
        self.now = 1_000_000 * units.SECOND
        self.config = self._config()
        self.memory_limit = budget.UNLIMITED
        self.disk = simulated_disk.Disk(simulated_worker.UID)
        self.server: simulated.Server | None = None
        self.clients = clients.Clients(
            [
                clients.call(number, self.rng, timed=self.timed)
                for number in range(scenario.clients)
            ],
            self.rng,
        )
        self.workers: list[simulated_worker.WorkerProcess] = []
        self.links: list[simulated_worker.Link] = []
        self.promises = self.judge(self.config, self.disk, self.clients, now=self.now)
        self.names = 0
        self.faults = True
        if scenario.tight:
            self.memory_limit = self.rng.randint(3, 12) * clients.LARGE_BYTES
            self.clients.swell()
        self._begin()
        self._start()

    def _begin(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            self._new_worker()

    def _config(self) -> settings.PoolSettings:
        rng, long = self.rng, self.scenario.gentle
        few = self.scenario.crowded and not self.scenario.tight
        rate = settings.RateLimit(
            tasks=rng.randint(1, 5), period_ns=units.SECOND, burst=rng.randint(1, 6)
        )
        # Drawn only here, so that the other scenarios' seeds stay the histories that they were.
        little = rng.random() < 0.5 if self.scenario.crowded else False
        return settings.PoolSettings(
            name=simulated_worker.POOL,
            uid=simulated_worker.UID,
            max_pending=3 if few else rng.choice([3, 10, 1000]),
            max_pending_bytes=21 if little else 2**28,
            max_waiters=rng.choice([1, 4, 100]) if self.scenario.crowded else 1000,
            ttl_ns=rng.choice([0, 60]) * units.SECOND if self.timed else 0,
            rate_limit=rate if rng.random() < 0.5 else None,
            max_in_flight=rng.choice([0, 0, 2]),
            lease_ns=(3600 if long else 6) * units.SECOND,
            heartbeat_ns=2 * units.SECOND,
            reconnect_grace_ns=(3600 if long else 10) * units.SECOND,
            execution_timeout_ns=(36_000 if long else 60) * units.SECOND,
            cancel_grace_ns=2 * units.SECOND,
            retry=settings.RetryPolicy(max_attempts=3, initial_backoff_ns=units.SECOND),
            max_worker_losses=rng.choice([1, 3, 100]),
            result_retention_ns=10_000 * 3600 * units.SECOND,
        )

    # ------------------------------------------------------------ what may happen

    def run(self) -> None:
        """Play the history: faults first, then none until everything has ended."""
        events = self._events()
        for _ in range(self.scenario.steps):
            self.rng.choices(*events)[0]()
            self.check()
        self.faults = False
        for _ in range(TURNS_TO_END_MAX):
            if self._over():
                break
            self._quiet_turn()
            self.check()
        self._check_end()

    def _events(self) -> tuple[list[Callable[[], None]], list[int]]:
        table: dict[Callable[[], None], int] = {
            self._pass_time: 12,
            self._submit: 12,
            self._submit_next_door: 3,
            self._cancel: 1,
            self._deliver: 30,
            self._write: 30,
            self._read: 30,
            self._commit: 14,
            self._tick: 10,
            self._finish: 12,
            self._connect: 6,
            self._break_link: 2,
            self._crash: 1,
            self._start: 4,
        }
        if self.scenario.crowded:
            table |= {self._submit_or_wait: 20, self._abandon: 2, self._redrive: 3}
        if not self.scenario.gentle:
            table |= {
                self._kill_worker: 1,
                self._jump: 1,
                self._reserve: 1,
                self._release: 1,
                self._remove_drained: 2,
            }
        return list(table), list(table.values())

    def _pass_time(self) -> None:
        self.now += self.rng.randrange(units.SECOND)

    def _jump(self) -> None:
        self.now += self.rng.randrange(30) * units.SECOND

    def _start(self) -> None:
        if self.server is None:
            if self.disk.epoch:
                self.promises.saw_restart(self.now)
            self.server = simulated.Server(
                self.config,
                self.disk,
                now=lambda: self.now,
                draw=self.rng.random,
                eyes=self.promises,
                memory=budget.Budget(self.memory_limit),
            )

    def _crash(self) -> None:
        """The process is gone: of what was not synced, a part of the oldest may have been."""
        if self.server is None:
            return
        unsynced = self.server.unsynced
        if not unsynced:
            self.promises.check_written(self.server)
        self.disk.sync(unsynced[: self.rng.randint(0, len(unsynced))])
        self.server = None
        for link in self.links:
            link.served = False
            self._lose_tail(link.down)

    def _commit(self) -> None:
        if self.server is not None and self.server.unsynced:
            self.server.commit(self.rng.randint(1, len(self.server.unsynced)))

    def _tick(self) -> None:
        if self.server is not None:
            self.server.tick()
            self.promises.check_ticked(self.server, self.now)

    # ---- clients

    def _submit(self) -> None:
        if self.server is not None:
            self.clients.submit(self.server, self.now)

    def _submit_or_wait(self) -> None:
        if self.server is not None:
            self.clients.submit_or_wait(self.server, self.now)

    def _abandon(self) -> None:
        if self.server is not None:
            self.clients.abandon(self.server)

    def _redrive(self) -> None:
        if self.server is not None:
            failed = [
                task
                for task in self.server.pool.book.tasks.values()
                if task.state in afterlife.REDRIVABLE
            ]
            if failed and self.server.redrive(task := self.rng.choice(failed)):
                self.promises.saw_redriven(task)

    def _submit_next_door(self) -> None:
        if self.server is not None:
            self.server.neighbour.submit(self.now)
            if self.scenario.tight:
                self.server.turn()  # results of the pool may have made room for it

    def _cancel(self) -> None:
        if self.server is not None:
            self.clients.cancel(self.server)

    # ---- workers

    def _worker_types(self) -> tuple[str, ...]:
        """What a process takes that starts; empty = everything."""
        return ()

    def _new_worker(
        self,
        pod_uid: str = "",
        *,
        slots: int = 0,
        revision: str = "",
        types: tuple[str, ...] | None = None,
    ) -> None:
        self.names += 1
        self.workers.append(
            simulated_worker.WorkerProcess(
                pod_uid or f"pod-{self.names}",
                slots=slots or self.rng.randint(1, 3),
                revision=revision,
                on_start=self.promises.saw_start,
                types=self._worker_types() if types is None else types,
            )
        )

    def _finish(self) -> None:
        busy = [worker for worker in self.workers if worker.running]
        if busy:
            worker = self.rng.choice(busy)
            self._end_attempt(worker, self.rng.choice(list(worker.running)))

    def _end_attempt(self, worker: simulated_worker.WorkerProcess, lease_id: str) -> None:
        task = worker.running[lease_id]
        done = Outcome(completed=Outcome.Completed(result=task.payload[::-1]))
        if lease_id in worker.stopped and self.rng.random() < 0.8:
            done = Outcome(cancelled=Outcome.Cancelled())
        elif self.faults and not self.scenario.gentle and self.rng.random() < 0.3:
            done = self._failure()
        worker.end(lease_id, done)

    def _failure(self) -> worker_service_pb2.TaskOutcome:
        return self.rng.choice(
            [
                Outcome(failed=Outcome.Failed(retryable=True)),
                Outcome(failed=Outcome.Failed(retryable=False)),
                Outcome(released=Outcome.Released(reason="no")),
            ]
        )

    def _kill_worker(self) -> None:
        """A process dies. Its pod starts another, or goes, which the operator may report."""
        worker = self.rng.choice(self.workers)
        self._end_process(worker)
        if self.rng.random() < 0.5:
            self._new_worker(worker.pod_uid)
            return
        self._new_worker()
        if self.server is not None and self.rng.random() < 0.7:
            self.server.pool.fleet.gone(worker.pod_uid, "Error", self.now)
            self.server.turn()

    def _end_process(self, worker: simulated_worker.WorkerProcess) -> None:
        if worker.link is not None:
            worker.link.held = False
            self._lose_tail(worker.link.up)
        self.workers.remove(worker)

    def _reserve(self) -> None:
        if self.server is not None:
            self.server.pool.reservations.reserve(
                count=1,
                idle_for_ns=self.rng.choice([0, None]),
                revision="",
                reservation_id=f"r{self.rng.randint(1, 3)}",
                now=self.now,
            )
            self.server.turn()

    def _release(self) -> None:
        if self.server is not None:
            self.server.pool.reservations.release(f"r{self.rng.randint(1, 3)}", frozenset())
            self.server.turn()

    def _remove_drained(self) -> None:
        """The operator removes pods that have confirmed; another one may come."""
        for worker in [each for each in self.workers if each.session.drained]:
            self._end_process(worker)
            if self.server is not None:
                self.server.pool.fleet.gone(worker.pod_uid, "Completed", self.now)
                self.server.turn()
        if not self.workers:
            self._new_worker()

    # ------------------------------------------------------------ the end

    def _quiet_turn(self) -> None:
        """Everybody does all that can be done; nothing goes wrong any more."""
        self.now += units.SECOND // 2
        self._start()
        assert self.server is not None
        self._remove_drained()
        self.clients.submit_missing(self.server, self.now)
        for worker in self.workers:
            self._connect_worker(worker)
            while worker.write(self.now):
                pass
        for link in list(self.links):
            while self._deliver_on(link):
                pass
        self.server.commit(len(self.server.unsynced))
        self._tick()
        for worker in self.workers:
            while worker.read(self.now):
                pass
            for lease_id in list(worker.running):
                self._end_attempt(worker, lease_id)
        self.server.commit(len(self.server.unsynced))

    def _over(self) -> bool:
        if self.server is None or self.server.unsynced:
            return False
        book = self.server.pool.book
        return (
            self.clients.satisfied
            and all(task.terminal for task in book.tasks.values())
            and not any(worker.running for worker in self.workers)
            and not any(worker.session.unacknowledged for worker in self.workers)
        )

    # ------------------------------------------------------------ promises

    def check(self) -> None:
        """What must hold after every step."""
        if self.server is not None:
            self.promises.check(self.server, self.now)

    def _check_end(self) -> None:
        assert self._over(), self._why_not_over()
        assert self.server is not None
        self.promises.check_end(self.server, gentle=self.scenario.gentle)

    def _why_not_over(self) -> str:
        assert self.server is not None
        left = [task for task in self.server.pool.book.tasks.values() if not task.terminal]
        return f"not over: {left}; {len(self.server.unsynced)} unsynced; {self.workers}"
