"""Demand as the dispatcher pushes it: a pool's load, and the table of its workers.

The dispatcher sends a pool's workers in full in the first message about it and changes
afterwards; `merge` keeps the table. A worker is known by its pod's UID. Nothing here decides
anything. Pure.

Times are float seconds since the epoch, as the dispatcher's clock has them.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Final

from google.protobuf import duration_pb2, timestamp_pb2

from penstock.v1 import fleet_service_pb2, pool_service_pb2

WORKERS_MAX: Final = 10_000
"""Most workers kept for one pool; ten times the most replicas."""


class WorkerState(enum.Enum):
    """Values are the wire's numbers (`penstock.v1.Worker.State`)."""

    UNSPECIFIED = 0
    READY = 1
    BUSY = 2
    DRAINING = 3
    DRAINED = 4
    LOST = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as the dispatcher knows it. `idle_since` None = it has something to do."""

    pod_name: str
    pod_uid: str
    state: WorkerState
    slots_used: int = 0
    revision: str = ""
    idle_since: float | None = None
    reservation_id: str = ""

    @property
    def leaving(self) -> bool:
        """It gets no more work: it is to be removed."""
        return self.state in (WorkerState.DRAINING, WorkerState.DRAINED) or bool(
            self.reservation_id
        )

    @property
    def connected(self) -> bool:
        """It has a stream to the dispatcher, and is heard on it."""
        return self.state not in (WorkerState.LOST, WorkerState.UNSPECIFIED)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One pool's load, complete. Counts are tasks, or slots where the name says so."""

    generation: int = 0
    runnable_slots: int = 0
    slots_in_use: int = 0
    mean_execution_seconds: float | None = None
    """None = no task has started yet."""
    tokens: float = 0.0
    """Of the pool's rate limit, available now."""
    pending: int = 0
    delayed: int = 0
    in_flight: int = 0
    waiters: int = 0
    dead_lettered: int = 0
    failed_total: int = 0
    oldest_pending_time: float | None = None
    pending_by_priority: Mapping[int, int] = dataclasses.field(default_factory=dict)
    slots_total: int = 0
    """Of workers that take work."""
    succeeded_total: int = 0
    completion_rate: float = 0.0
    """Tasks per second, lately."""
    workers: Mapping[str, Worker] = dataclasses.field(default_factory=dict)
    """By pod UID."""
    config_error: str = ""
    """Why the dispatcher refused the last configuration; the earlier one is in force."""
    restorable_tasks: int = 0
    """What a deleted pool of this name still holds, and what `penstock restore` would move."""
    restorable_uid: str = ""
    restorable_until: float | None = None
    """Seconds since the epoch: then the deleted pool is forgotten."""

    @property
    def slots_per_task(self) -> float:
        """The mean: of the tasks that run, or, while none does, of those that could; at least 1."""
        if self.in_flight:
            return max(1.0, self.slots_in_use / self.in_flight)
        # Caps may leave some of the pending ones out: that makes it less, never more.
        return max(1.0, self.runnable_slots / self.pending) if self.pending else 1.0


def merge(previous: Demand | None, message: fleet_service_pb2.PoolDemand, *, first: bool) -> Demand:
    """The pool's demand after a message. `first` = the message has the whole table of workers."""
    workers = {} if first or previous is None else dict(previous.workers)
    for gone in (worker for worker in message.workers if worker.gone):
        workers.pop(gone.pod_uid, None)
    for worker in (worker for worker in message.workers if not worker.gone):
        if worker.pod_uid in workers or len(workers) < WORKERS_MAX:
            workers[worker.pod_uid] = worker_of(worker)
    stats = message.stats
    return Demand(
        generation=message.observed_generation,
        runnable_slots=message.runnable_slots,
        slots_in_use=stats.slots_used,
        mean_execution_seconds=(
            _seconds(stats.mean_execution_time) if stats.HasField("mean_execution_time") else None
        ),
        tokens=stats.rate_limit_tokens,
        pending=stats.pending,
        delayed=stats.delayed,
        in_flight=stats.in_flight,
        waiters=stats.waiters,
        dead_lettered=stats.dead_lettered,
        failed_total=stats.failed_total,
        oldest_pending_time=(
            _time(stats.oldest_pending_time) if stats.HasField("oldest_pending_time") else None
        ),
        pending_by_priority=dict(stats.pending_by_priority),
        slots_total=stats.slots_total,
        succeeded_total=stats.succeeded_total,
        completion_rate=stats.completion_rate,
        workers=workers,
        config_error=message.config_error.message if message.HasField("config_error") else "",
        restorable_tasks=message.restorable_tasks,
        restorable_uid=message.restorable_uid,
        restorable_until=(
            _time(message.restorable_until) if message.HasField("restorable_until") else None
        ),
    )


def worker_of(message: pool_service_pb2.Worker) -> Worker:
    """A worker from its message."""
    return Worker(
        pod_name=message.name.rpartition("/")[2],
        pod_uid=message.pod_uid,
        state=WorkerState(message.state),
        slots_used=message.slots_used,
        revision=message.revision,
        idle_since=(
            _time(message.idle_since_time) if message.HasField("idle_since_time") else None
        ),
        reservation_id=message.reservation_id,
    )


def _seconds(duration: duration_pb2.Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _time(timestamp: timestamp_pb2.Timestamp) -> float:
    return timestamp.seconds + timestamp.nanos / 1e9
