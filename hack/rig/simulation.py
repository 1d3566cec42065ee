"""A world in one thread, on a virtual clock, from a seed: real pool and real sessions under faults.

Each step draws one thing that may happen: a frame arrives, a disk syncs, an attempt ends, a stream
breaks, a process dies, the clock jumps. After each step the promises are checked. When the steps
are over the faults stop, and everything that was accepted must end. The same seed is the same
history.

Promises (see DESIGN): nothing accepted is lost and nothing is invented; a task is accepted once
under one request id; it has at most one valid lease, and one recorded outcome, the right one;
tokens only grow; the bound, the order, the delays and the rate are exact; nobody waits for room
while there is some; a cancelled task never starts again; terms that a caller was told of are in
force, also after a crash; a drained pod gets no more work; no timer
fires without need; and in a gentle world (dispatcher crashes and broken streams only) no task runs
twice.
"""

import collections
import dataclasses
import random
from collections.abc import Callable

from penstock.v1 import worker_service_pb2
from penstock_dispatcher.core import afterlife, settings, units
from rig import changing, clients, promises, simulated, simulated_disk

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
    controlled: bool = False
    """Priorities and times of tasks that wait are changed; more is cancelled, and retried."""


class World:
    """One history. `run` plays it to its end; any broken promise is an AssertionError."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self.rng = random.Random(seed)
        self.scenario = scenario
        self.timed = self.rng.random() < 0.5
        """Tasks may be delayed, and may have to start by a certain time."""
        self.now = 1_000_000 * units.SECOND
        self.config = self._config()
        self.disk = simulated_disk.Disk(simulated.UID)
        self.server: simulated.Server | None = None
        self.clients = clients.Clients(
            [
                clients.call(number, self.rng, timed=self.timed)
                for number in range(scenario.clients)
            ],
            self.rng,
        )
        self.workers: list[simulated.WorkerProcess] = []
        self.links: list[simulated.Link] = []
        self.promises = promises.Promises(self.config, self.disk, self.clients.calls)
        self.names = 0
        self.faults = True
        self._begin()
        self._start()

    def _begin(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            self._new_worker()

    def _config(self) -> settings.PoolSettings:
        rng, long = self.rng, self.scenario.gentle
        rate = settings.RateLimit(
            tasks=rng.randint(1, 5), period_ns=units.SECOND, burst=rng.randint(1, 6)
        )
        # Drawn only here, so that the other scenarios' seeds stay the histories that they were.
        little = rng.random() < 0.5 if self.scenario.crowded else False
        return settings.PoolSettings(
            name=simulated.POOL,
            uid=simulated.UID,
            max_pending=3 if self.scenario.crowded else rng.choice([3, 10, 1000]),
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
        if self.scenario.controlled:
            table |= {self._update: 15, self._cancel: 4, self._redrive: 3}
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
            self.server = simulated.Server(
                self.config,
                self.disk,
                now=lambda: self.now,
                draw=self.rng.random,
                on_assigned=lambda one: self.promises.saw_assigned(one, self.server),
            )

    def _crash(self) -> None:
        """The process is gone: of what was not synced, a part of the oldest may have been."""
        if self.server is None:
            return
        unsynced = self.server.unsynced
        self.disk.sync(unsynced[: self.rng.randint(0, len(unsynced))])
        self.server = None
        for link in self.links:
            link.served = False
            self._lose_tail(link.down)

    def _lose_tail(self, frames: collections.deque[bytes]) -> None:
        for _ in range(self.rng.randint(0, len(frames))):
            frames.pop()

    def _commit(self) -> None:
        if self.server is not None and self.server.unsynced:
            self.server.commit(self.rng.randint(1, len(self.server.unsynced)))

    def _tick(self) -> None:
        if self.server is not None:
            self.server.tick()

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
                self.promises.saw_redriven(task.id)

    def _update(self) -> None:
        if self.server is not None:
            changing.update(self.server, self.promises, self.rng, self.now)

    def _submit_next_door(self) -> None:
        if self.server is not None:
            self.server.neighbour.submit(self.now)

    def _cancel(self) -> None:
        if self.server is not None:
            self.clients.cancel(self.server)

    # ---- streams

    def _connect(self) -> None:
        if self.workers:
            self._connect_worker(self.rng.choice(self.workers))

    def _connect_worker(self, worker: simulated.WorkerProcess) -> None:
        if worker.link is None and self.server is not None and not worker.session.finished:
            self.links.append(worker.connect())

    def _break_link(self) -> None:
        """A stream breaks; each side notices on its own."""
        if self.links:
            link = self.rng.choice(self.links)
            self._lose_tail(link.up)
            self._lose_tail(link.down)
            link.held = False
            link.served = False
            if self.server is not None and self.rng.random() < 0.7:
                self.server.disconnected(link)

    def _deliver(self) -> None:
        """One frame reaches the dispatcher, or it notices the end of a stream."""
        self.links = [link for link in self.links if link.held or link.served or link.up]
        if self.links and self.server is not None:
            self._deliver_on(self.rng.choice(self.links))

    def _deliver_on(self, link: simulated.Link) -> bool:
        assert self.server is not None
        if not link.served:
            self.server.disconnected(link)
            link.up.clear()
            return False
        if link.up:
            self.server.receive(link, link.up.popleft())
            return True
        if not link.held:
            self.server.disconnected(link)
        return False

    def _write(self) -> None:
        if self.workers:
            self.rng.choice(self.workers).write(self.now)

    def _read(self) -> None:
        if self.workers:
            self.rng.choice(self.workers).read(self.now)

    # ---- workers

    def _new_worker(self, pod_uid: str = "", *, slots: int = 0, revision: str = "") -> None:
        self.names += 1
        self.workers.append(
            simulated.WorkerProcess(
                pod_uid or f"pod-{self.names}",
                slots=slots or self.rng.randint(1, 3),
                revision=revision,
                on_start=self.promises.saw_start,
            )
        )

    def _finish(self) -> None:
        busy = [worker for worker in self.workers if worker.running]
        if busy:
            worker = self.rng.choice(busy)
            self._end_attempt(worker, self.rng.choice(list(worker.running)))

    def _end_attempt(self, worker: simulated.WorkerProcess, lease_id: str) -> None:
        task = worker.running[lease_id]
        done = Outcome(completed=Outcome.Completed(result=task.payload[::-1]))
        if lease_id in worker.stopped and self.rng.random() < 0.8:
            done = Outcome(cancelled=Outcome.Cancelled())
        elif self.faults and not self.scenario.gentle and self.rng.random() < 0.3:
            done = self.rng.choice(
                [
                    Outcome(failed=Outcome.Failed(retryable=True)),
                    Outcome(failed=Outcome.Failed(retryable=False)),
                    Outcome(released=Outcome.Released(reason="no")),
                ]
            )
        worker.end(lease_id, done)

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

    def _end_process(self, worker: simulated.WorkerProcess) -> None:
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
        self.server.tick()
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
