"""The operated world, where tasks have keys and sizes.

On top of `rig.operated`: a pool may be fair, or let its tasks age; it may bound what waits of a
fairness key, limit how often one of a key starts, and how many of a concurrency key run; tasks take
several slots of one worker. Attempts save checkpoints, and the terms of tasks that wait change.
What must hold then stands in `rig.keyed_promises`.
"""

import dataclasses
from collections.abc import Callable

from penstock.v1 import task_pb2
from penstock_dispatcher.core import settings, units
from rig import clients, keyed_promises, operated, simulation

SLOTS_MAX = 3
"""Of a task, and of a worker."""


class KeyedWorld(operated.OperatedWorld):
    """One history; see the module's docstring."""

    judge = keyed_promises.KeyedPromises
    promises: keyed_promises.KeyedPromises

    def __init__(self, seed: int, scenario: simulation.Scenario) -> None:
        self.saved = 0
        super().__init__(seed, scenario)

    def _begin(self) -> None:
        for one in self.clients.calls:
            self._give_keys(one)
        super()._begin()

    def _give_keys(self, one: clients.Call) -> None:
        rng = self.rng
        fairness_key = rng.choice(keyed_promises.FAIRNESS_KEYS)
        concurrency_key = rng.choice(keyed_promises.CONCURRENCY_KEYS)
        slots = rng.choice([1, 1, 1, 2, SLOTS_MAX])
        keys = task_pb2.Task(
            fairness_key=fairness_key, concurrency_key=concurrency_key, slots=slots
        )
        one.wanted = dataclasses.replace(
            one.wanted,
            body=one.wanted.body + keys.SerializeToString(),
            fairness_key=fairness_key,
            concurrency_key=concurrency_key,
            slots=slots,
        )

    def _use_again(self, task_id: str) -> None:
        before = len(self.clients.calls)
        super()._use_again(task_id)
        for one in self.clients.calls[before:]:
            self._give_keys(one)

    def _config(self) -> settings.PoolSettings:
        config = dataclasses.replace(super()._config(), max_waiters=self.rng.choice([1, 4, 100]))
        return self._with_keys(config)

    def _another_config(self) -> settings.PoolSettings:
        return self._with_keys(super()._another_config())

    def _with_keys(self, config: settings.PoolSettings) -> settings.PoolSettings:
        rng, fair = self.rng, self.rng.random() < 0.4
        rate = settings.RateLimit(
            tasks=rng.randint(1, 3), period_ns=units.SECOND, burst=rng.randint(1, 3)
        )
        return dataclasses.replace(
            config,
            fair=fair,
            fairness_weights={"a": rng.randint(1, 3)},
            priority_aging_ns=0 if fair else rng.choice([0, 1, 10]) * units.SECOND,
            max_pending_per_key=rng.choice([0, 1, 3]),
            rate_limit_per_key=rng.choice([None, None, rate]),
            max_in_flight_per_key=rng.choice([0, 1, 2]),
        )

    def _events(self) -> tuple[list[Callable[[], None]], list[int]]:
        events, weights = super()._events()
        table = dict(zip(events, weights, strict=True))
        table |= {
            self._tell: 15,
            self._update: 8,
            self._submit_or_wait: 8,
            self._abandon: 1,
            # Pools that work most of the time: what is promised here concerns starts.
            self._start: 12,
            self._resume: 8,
            self._undrain: 8,
            self._open: 8,
            self._put_on: 8,
            self._connect: 30,
            self._commit: 40,
            self._remove_drained: 10,
            self._finish: 30,
            self._deliver: 60,
            self._write: 60,
            self._read: 60,
            self._pass_time: 20,
        }
        return list(table), list(table.values())

    def _put_on(self) -> None:
        if self.config.suspended:
            self._put_in_force(dataclasses.replace(self.config, suspended=False))

    # ---- each of them moves on, or not: with one at a time most histories are about starting up

    def _some(self) -> bool:
        return self.rng.random() < 0.8

    def _connect(self) -> None:
        for worker in self.workers:
            if self._some():
                self._connect_worker(worker)

    def _deliver(self) -> None:
        self.links = [link for link in self.links if link.held or link.served or link.up]
        for link in list(self.links):
            if self.server is not None and self._some():
                self._deliver_on(link)

    def _write(self) -> None:
        for worker in self.workers:
            if self._some():
                worker.write(self.now)

    def _read(self) -> None:
        for worker in self.workers:
            if self._some():
                worker.read(self.now)

    def _tell(self) -> None:
        busy = [worker for worker in self.workers if worker.running]
        if busy:
            worker = self.rng.choice(busy)
            self.saved += 1
            worker.save(self.rng.choice(list(worker.running)), f"c{self.saved}".encode())

    def _update(self) -> None:
        if self.server is not None:
            self.promises.changes.ask(self.server, self.rng, self.now)

    def _quiet_turn(self) -> None:
        identities = [worker.session.identity for worker in self.workers]
        if not any(who.slots >= SLOTS_MAX and not who.task_types for who in identities):
            self._new_worker(slots=SLOTS_MAX, types=())
        super()._quiet_turn()
