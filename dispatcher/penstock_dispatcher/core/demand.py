"""Snapshots of a pool: what people see (`PoolStats`) and what scaling needs (`Demand`)."""

import dataclasses
from typing import Final

from penstock_dispatcher.core import workers

PRIORITIES_SHOWN_MAX: Final = 100
"""Distinct priorities in a snapshot: the highest ones."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """Counts are tasks unless named otherwise. Times in nanoseconds since the epoch, 0 = none;
    durations in nanoseconds.
    """

    pending: int
    delayed: int
    in_flight: int
    waiters: int
    """Submitting calls that wait for room."""
    dead_lettered: int
    pending_bytes: int
    oldest_pending_time: int
    arrival_per_second: float
    completion_per_second: float
    mean_execution_ns: int
    """0 = nothing has run yet."""
    rate_limit_tokens: int
    rate_limited_ns: int
    slots_total: int
    slots_used: int
    pending_by_priority: dict[int, int]
    """Of the highest priorities, at most `PRIORITIES_SHOWN_MAX`."""
    accepted_total: int
    refused_total: int
    succeeded_total: int
    failed_total: int
    estimated_wait_ns: int
    """For a new task of default priority; -1 = cannot be told."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """`runnable_slots`: demand that could run now if workers existed; in-flight caps and what is
    per key applied, the pool's rate not.
    """

    complete: bool
    """All workers are shown."""
    generation: int
    stats: PoolStats
    runnable_slots: int
    workers: tuple[workers.Worker, ...]
    """Changed since the last snapshot, or all of them; forgotten ones are `gone`."""
    gone: frozenset[str]
    """Session ids among `workers` that were forgotten."""
