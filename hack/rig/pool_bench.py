"""A pool on the bench: verb by verb, its clock moved by hand, records durable once looked at."""

import dataclasses
from typing import Any

from penstock_dispatcher import loading
from penstock_dispatcher.core import (
    admission,
    budget,
    effects,
    leases,
    outcome,
    records,
    settings,
    units,
    workers,
)
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from rig import simulated_disk

S = units.SECOND
T0 = 1_000_000 * S
CONFIG = settings.PoolSettings(
    name="namespaces/default/pools/demo",
    uid="u",
    max_pending=3,
    max_pending_bytes=100,
    max_payload_bytes=60,
    lease_ns=6 * S,
    heartbeat_ns=2 * S,
    reconnect_grace_ns=10 * S,
    execution_timeout_ns=60 * S,
    cancel_grace_ns=2 * S,
    retry=settings.RetryPolicy(max_attempts=2, initial_backoff_ns=S, jitter=0.0),
    max_worker_losses=2,
    result_retention_ns=100 * S,
)


class Bench:
    """A pool whose records are durable as soon as they are looked at."""

    def __init__(
        self, epoch: int = 1, *, memory: budget.Budget | None = None, **changes: Any
    ) -> None:
        self.now = T0
        self.epoch = epoch
        self.log = records.RecordLog()
        self.disk = simulated_disk.Disk(CONFIG.uid)
        self.pool = pools.Pool(
            dataclasses.replace(CONFIG, **changes),
            log=self.log,
            tokens=leases.TokenSource(epoch),
            draw=lambda: 0.0,
            now=self.now,
            memory=memory,
        )

    def restarted(self) -> "Bench":
        """The next run, a moment later, with what this one has written."""
        self.disk.sync(self.log.take())
        config = self.pool.config
        fields = {each.name: getattr(config, each.name) for each in dataclasses.fields(config)}
        memory = budget.Budget(self.pool.book.memory.budget.limit)
        after = Bench(self.epoch + 1, memory=memory, **fields)
        after.now, after.disk = self.now, self.disk
        after.pool.restore(
            stored=[loading.task_of(entry, config) for entry in self.disk.stored_tasks()],
            requests=self.disk.outlived(),
            sessions=self.disk.sessions().items(),
            tombstones=self.disk.tombstones(),
            paused=False,
            closed_time=0,
            now=self.now,
        )
        return after

    def claim(self, task_id: str) -> workers.ClaimedLease:
        """How the worker that runs the task names it."""
        task = self.task(task_id)
        assert task.lease is not None
        return workers.ClaimedLease(
            task_id=task_id,
            lease_id=task.lease.id,
            token=task.lease.token,
            attempt=task.attempt,
            start_time=task.lease.start_time,
        )

    def submit(self, task_id: str, **fields: Any) -> admission.Admission:
        fields = {"type": "work", "body": b"", "size": 1, **fields}
        return self.pool.submit(tasks.Submission(task_id=task_id, **fields), self.now)

    def wait_for_room(
        self, task_id: str, *, wait_s: float = 30, **fields: Any
    ) -> admission.Waiter | admission.Admission:
        wanted = {"type": "work", "body": b"", "size": 1, **fields}
        return self.pool.submit_or_wait(
            tasks.Submission(task_id=task_id, **wanted), wait_ns=int(wait_s * S), now=self.now
        )

    def answers(self) -> list[tuple[str, str]]:
        """Who waited and was answered, and how, since the last look."""
        return [
            (each.waiter.wanted.task_id, each.answer.reason.value)
            for each in self.effects(effects.WaiterAnswered)
        ]

    def effects(self, kind: type = object) -> list[Any]:
        taken = self.pool.take_effects(self.log.last, self.now)
        return [each for each in taken if isinstance(each, kind)]

    def worker(self, name: str, *, slots: int = 1, running: Any = (), credit: int = -1) -> None:
        intro = workers.Introduction(
            session_id=name, pod_name=name, pod_uid=name, slots=slots, running=running
        )
        assert self.pool.fleet.hello(intro, self.now)
        self.pool.fleet.credit(name, slots if credit < 0 else credit)

    def beat(self, name: str) -> bool:
        """The worker is alive, and names every lease that it has. True = the pool needs a turn."""
        worker = self.pool.fleet.workers.get(name)
        assert worker is not None
        return self.pool.fleet.heartbeat(name, list(worker.leases), self.now)

    def assigned(self) -> list[str]:
        return [each.task.id for each in self.effects(effects.Assigned)]

    def end(
        self, task_id: str, kind: outcome.OutcomeKind = outcome.OutcomeKind.COMPLETED, **fields: Any
    ) -> None:
        lease = self.task(task_id).lease
        assert lease is not None
        slots = lease.task.slots
        ended = outcome.Outcome(lease_id=lease.id, token=lease.token, kind=kind, **fields)
        self.pool.fleet.outcome(lease.session_id, ended, self.now)
        self.pool.fleet.credit(lease.session_id, slots)

    def task(self, task_id: str) -> tasks.Task:
        return self.pool.book.tasks[task_id]

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * S)
        self.pool.tick(self.now)
