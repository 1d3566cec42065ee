"""Pools and workers as people see them: frozen values read from the wire."""

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping

from penstock import _names, _times
from penstock.v1 import pool_service_pb2


class PoolState(enum.Enum):
    """Whether a pool takes and dispatches tasks."""

    UNKNOWN = "UNKNOWN"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    DRAINING = "DRAINING"
    CLOSED = "CLOSED"


class WorkerState(enum.Enum):
    """Whether a worker takes tasks."""

    UNKNOWN = "UNKNOWN"
    READY = "READY"
    BUSY = "BUSY"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"
    LOST = "LOST"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolInfo:
    """One pool at one moment. Rates are per second; None = not known yet.

    `drained`: it is draining, and nothing is left to wait for.

    `slots_total` counts connected workers that take work, `slots_used` whatever runs. The totals
    begin at 0 with each start of the dispatcher.
    """

    name: str
    uid: str
    state: PoolState
    generation: int
    max_pending: int
    pending: int
    delayed: int
    in_flight: int
    waiters: int
    dead_lettered: int
    pending_bytes: int
    pending_by_priority: Mapping[int, int]
    oldest_pending_time: dt.datetime | None
    arrival_rate: float
    completion_rate: float
    mean_execution_seconds: float | None
    rate_limit_tokens: float
    rate_limited_seconds: float
    slots_total: int
    slots_used: int
    estimated_wait_seconds: float | None
    accepted_total: int
    refused_total: int
    succeeded_total: int
    failed_total: int
    drained: bool = False
    restorable_tasks: int = 0
    """What a deleted pool of this name still holds, and `restore` may move into this one."""
    restorable_uid: str = ""
    restorable_until: dt.datetime | None = None
    """When the deleted pool is forgotten."""

    @property
    def namespace(self) -> str:
        """The first part of the name that says something."""
        return _names.parts(self.name)[0]

    @property
    def id(self) -> str:
        """The last part of the name."""
        return _names.parts(self.name)[1]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One worker at one moment. `tasks` are names of what it runs, at most 100; `task_types` are
    those it has handlers for, empty = any.
    """

    name: str
    state: WorkerState
    pod_uid: str
    revision: str
    slots_total: int
    slots_used: int
    tasks: tuple[str, ...]
    last_heartbeat_time: dt.datetime | None
    connect_time: dt.datetime | None
    idle_since_time: dt.datetime | None
    sdk_version: str
    task_types: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The pod's name."""
        return _names.parts(self.name)[2]

    @property
    def pool(self) -> str:
        """`namespaces/{namespace}/pools/{pool}`."""
        return self.name.rpartition("/workers/")[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Purge:
    """How many waiting tasks matched, and the names of the first of them, at most 100."""

    count: int
    sample: tuple[str, ...]
    _: dataclasses.KW_ONLY
    deleted: bool
    """False = that was a preview."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """What went over from a deleted pool in one call, or would.

    `count` tasks, the names of the first of them (at most 100), and the deleted pool's uid. A call
    that was repeated, because its answer got lost, counts what it found.
    `remaining` are still there: they run or may still run, are dead letters that the pool would not
    keep, or `skipped`: the pool has their name or knows their `request_id`.
    """

    count: int
    sample: tuple[str, ...]
    from_uid: str
    remaining: int
    skipped: int
    moved: bool
    """False = that was a preview."""


_POOL_STATES = {
    number: PoolState.__members__.get(name, PoolState.UNKNOWN)
    for name, number in pool_service_pb2.Pool.State.items()
}
_WORKER_STATES = {
    number: WorkerState.__members__.get(name, WorkerState.UNKNOWN)
    for name, number in pool_service_pb2.Worker.State.items()
}


def pool_from_wire(message: pool_service_pb2.Pool) -> PoolInfo:
    """Read a pool as it travels."""
    stats = message.stats
    return PoolInfo(
        name=message.name,
        uid=message.uid,
        state=_POOL_STATES.get(message.state, PoolState.UNKNOWN),
        generation=message.generation,
        max_pending=message.max_pending,
        pending=stats.pending,
        delayed=stats.delayed,
        in_flight=stats.in_flight,
        waiters=stats.waiters,
        dead_lettered=stats.dead_lettered,
        pending_bytes=stats.pending_bytes,
        pending_by_priority=dict(sorted(stats.pending_by_priority.items(), reverse=True)),
        oldest_pending_time=_times.moment(stats, "oldest_pending_time"),
        arrival_rate=stats.arrival_rate,
        completion_rate=stats.completion_rate,
        mean_execution_seconds=_times.span(stats, "mean_execution_time"),
        rate_limit_tokens=stats.rate_limit_tokens,
        rate_limited_seconds=_times.from_duration(stats.rate_limited_for),
        slots_total=stats.slots_total,
        slots_used=stats.slots_used,
        estimated_wait_seconds=_times.span(stats, "estimated_wait"),
        accepted_total=stats.accepted_total,
        refused_total=stats.refused_total,
        succeeded_total=stats.succeeded_total,
        failed_total=stats.failed_total,
        drained=message.drained,
        restorable_tasks=message.restorable_tasks,
        restorable_uid=message.restorable_uid,
        restorable_until=_times.moment(message, "restorable_until"),
    )


def restore_from_wire(message: pool_service_pb2.RestorePoolResponse, *, moved: bool) -> Restore:
    """Read what was moved as it travels."""
    return Restore(
        count=message.restored_count,
        sample=tuple(message.restored_sample),
        from_uid=message.from_uid,
        remaining=message.remaining,
        skipped=message.skipped_count,
        moved=moved,
    )


def worker_from_wire(message: pool_service_pb2.Worker) -> WorkerInfo:
    """Read a worker as it travels."""
    return WorkerInfo(
        name=message.name,
        state=_WORKER_STATES.get(message.state, WorkerState.UNKNOWN),
        pod_uid=message.pod_uid,
        revision=message.revision,
        slots_total=message.slots_total,
        slots_used=message.slots_used,
        tasks=tuple(message.tasks),
        last_heartbeat_time=_times.moment(message, "last_heartbeat_time"),
        connect_time=_times.moment(message, "connect_time"),
        idle_since_time=_times.moment(message, "idle_since_time"),
        sdk_version=message.sdk_version,
        task_types=tuple(message.task_types),
    )
