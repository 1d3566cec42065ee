"""Metrics, computed when they are scraped: nothing is counted twice, and nothing on the hot path.

A scrape looks at some pools at a time, so that nobody waits for one of thousands; what was seen
becomes text in a thread of its own.

Labels are bounded: namespace, pool, and enums. A pool that is forgotten takes its series with it.
"""

import asyncio
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from penstock_dispatcher import pump
from penstock_dispatcher.core import demand, estimate, workers
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.services import answering

_POOL = ("namespace", "pool")
POOLS_AT_ONCE: Final = 50
"""Looked at in about two milliseconds; then others have their turn."""

_GAUGES = (
    ("pending", "Tasks that wait for a worker, a token or room in flight."),
    ("delayed", "Tasks that wait for their time."),
    ("in_flight", "Tasks that a worker holds a lease for."),
    ("waiters", "Submitting calls that wait for room."),
    ("dead_lettered", "Dead letters that are kept."),
    ("pending_bytes", "Payload bytes of waiting tasks."),
    ("slots_total", "Slots of connected workers that take work."),
    ("slots_used", "Slots with a running task."),
    ("rate_limit_tokens", "Tokens at hand; 0 without a rate limit."),
)
_COUNTERS = (
    ("accepted", "Tasks accepted."),
    ("refused", "Submissions refused."),
    ("succeeded", "Tasks that succeeded."),
    ("failed", "Tasks that failed, expired or were dead-lettered."),
)
_FOR_WANT_OF_MEMORY = (
    ("results_given_up", "Results that were deleted before their time, for want of memory."),
    (
        "dead_letters_given_up",
        "Dead letters that were deleted before their time, because all took too much memory.",
    ),
    (
        "request_ids_forgotten",
        "Request ids that were forgotten before their day was over, for want of room.",
    ),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is told of one pool."""

    labels: tuple[str, str]
    stats: demand.PoolStats
    max_pending: int
    oldest_seconds: float
    memory_bytes: int
    results_given_up: int
    dead_letters_given_up: int
    request_ids_forgotten: int
    workers: dict[str, int]
    """By state."""
    errors: tuple[tuple[str, tuple[int, ...], float], ...]
    """Of estimates: what started when, counts, and their sum in seconds."""


class _Snapshot(Collector):
    """What one scrape tells; nothing of it changes any more."""

    def __init__(self, seen: list[_Seen], process: list[Metric]) -> None:
        self._seen = seen
        self._process = process

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        for name, text in _GAUGES:
            gauge = GaugeMetricFamily(f"penstock_pool_{name}", text, labels=_POOL)
            for pool in self._seen:
                gauge.add_metric(pool.labels, getattr(pool.stats, name))
            yield gauge
        for name, text in _COUNTERS:
            counter = CounterMetricFamily(f"penstock_pool_tasks_{name}", text, labels=_POOL)
            for pool in self._seen:
                counter.add_metric(pool.labels, getattr(pool.stats, f"{name}_total"))
            yield counter
        for name, text in _FOR_WANT_OF_MEMORY:
            counter = CounterMetricFamily(f"penstock_pool_{name}", text, labels=_POOL)
            for pool in self._seen:
                counter.add_metric(pool.labels, getattr(pool, name))
            yield counter
        bound = GaugeMetricFamily("penstock_pool_max_pending", "The bound.", labels=_POOL)
        oldest = GaugeMetricFamily(
            "penstock_pool_oldest_pending_seconds", "Age of the oldest waiting task.", labels=_POOL
        )
        execution = GaugeMetricFamily(
            "penstock_pool_mean_execution_seconds", "Mean execution time.", labels=_POOL
        )
        memory = GaugeMetricFamily(
            "penstock_pool_memory_bytes",
            "What the tasks take, results and remembered request ids included.",
            labels=_POOL,
        )
        for pool in self._seen:
            bound.add_metric(pool.labels, pool.max_pending)
            oldest.add_metric(pool.labels, pool.oldest_seconds)
            execution.add_metric(pool.labels, pool.stats.mean_execution_ns / 1e9)
            memory.add_metric(pool.labels, pool.memory_bytes)
        yield from (bound, oldest, execution, memory)
        yield self._workers()
        yield self._waits()
        yield self._estimates()
        yield from self._process

    def _workers(self) -> Metric:
        family = GaugeMetricFamily(
            "penstock_pool_workers", "Known workers.", labels=(*_POOL, "state")
        )
        for pool in self._seen:
            for state, count in pool.workers.items():
                family.add_metric((*pool.labels, state), count)
        return family

    def _waits(self) -> Metric:
        family = GaugeMetricFamily(
            "penstock_pool_estimated_wait_seconds",
            "Of a new task of default priority; no sample while it cannot be told.",
            labels=_POOL,
        )
        for pool in self._seen:
            if pool.stats.estimated_wait_ns >= 0:
                family.add_metric(pool.labels, pool.stats.estimated_wait_ns / 1e9)
        return family

    def _estimates(self) -> Metric:
        family = HistogramMetricFamily(
            "penstock_pool_wait_estimate_error_seconds",
            "By how much tasks started later or earlier than predicted at their admission; of"
            " every 16th task, and of those with a max_queue_time.",
            labels=(*_POOL, "started"),
        )
        bounds = [*(str(bound) for bound in estimate.BUCKETS_SECONDS), "+Inf"]
        for pool in self._seen:
            for started, counts, seconds in pool.errors:
                sums = itertools.accumulate(counts)
                family.add_metric(
                    (*pool.labels, started), list(zip(bounds, sums, strict=True)), seconds
                )
        return family


def _look(pool: pools.Pool, now: int) -> _Seen:
    stats, forecast = pool.stats(now), pool.forecast
    counts = dict.fromkeys((state.name.lower() for state in workers.WorkerState), 0)
    for worker in pool.fleet.workers.all():
        counts[worker.state.name.lower()] += 1
    since = stats.oldest_pending_time
    return _Seen(
        labels=_labels(pool),
        stats=stats,
        max_pending=pool.config.max_pending,
        oldest_seconds=(now - since) / 1e9 if since else 0,
        memory_bytes=pool.book.memory.used,
        results_given_up=pool.book.given_up_total,
        dead_letters_given_up=pool.book.dead_given_up_total,
        request_ids_forgotten=pool.book.requests.forgotten_total,
        workers=counts,
        errors=(
            ("later", tuple(forecast.late_errors.counts), forecast.late_errors.total_seconds),
            ("earlier", tuple(forecast.early_errors.counts), forecast.early_errors.total_seconds),
        ),
    )


def _process(pump_: pump.Pump, calls: answering.Calls) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "penstock_dispatcher_epoch", "Grows with each start.", value=pump_.registry.tokens.epoch
    )
    yield GaugeMetricFamily(
        "penstock_dispatcher_loop_lag_seconds",
        "How late the event loop was in the last second.",
        value=pump_.loop_lag_seconds,
    )
    yield GaugeMetricFamily(
        "penstock_dispatcher_task_memory_bytes",
        "What the tasks of all pools take.",
        value=pump_.registry.memory.used,
    )
    yield GaugeMetricFamily(
        "penstock_dispatcher_task_memory_bound_bytes",
        "What they may take.",
        value=pump_.registry.memory.limit,
    )
    yield GaugeMetricFamily(
        "penstock_journal_backlog_records",
        "Records that are not durable yet.",
        value=pump_.commits.backlog(),
    )
    yield CounterMetricFamily(
        "penstock_journal_records", "Records made durable.", value=pump_.commits.durable_lsn
    )
    yield GaugeMetricFamily(
        "penstock_journal_storage_full",
        "1 while admission is closed for lack of room.",
        value=float(pump_.storage_full()),
    )
    family = GaugeMetricFamily(
        "penstock_dispatcher_open_calls", "Calls being answered.", labels=("method",)
    )
    for method, count in sorted(calls.open.items()):
        family.add_metric((method,), count)
    yield family


def _labels(pool: pools.Pool) -> tuple[str, str]:
    _, namespace, _, name = pool.name.split("/")
    return namespace, name


async def scrape(pump_: pump.Pump, calls: answering.Calls) -> bytes:
    """Every metric of the dispatcher, as text."""
    seen = []
    # By name: an older pool of the same name would be the same series.
    for number, pool in enumerate(list(pump_.registry.by_name.values())):
        if number and number % POOLS_AT_ONCE == 0:
            await asyncio.sleep(0)
        seen.append(_look(pool, pump_.now()))
    # One of its own: several dispatchers may live in one process.
    registry = CollectorRegistry()
    registry.register(_Snapshot(seen, list(_process(pump_, calls))))
    return await asyncio.to_thread(generate_latest, registry)
