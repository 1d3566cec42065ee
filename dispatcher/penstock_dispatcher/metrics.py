"""Metrics, computed when they are scraped: nothing is counted twice, and nothing on the hot path.

Labels are bounded: namespace, pool, and enums. A pool that is forgotten takes its series with it.
"""

import itertools
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
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
_Found = tuple[tuple[str, str], pools.Pool, demand.PoolStats]

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


class DispatcherCollector(Collector):
    """Every metric of the dispatcher."""

    def __init__(self, pump_: pump.Pump, calls: answering.Calls) -> None:
        self._pump = pump_
        self._calls = calls

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        now = self._pump.now()
        found = [(_labels(pool), pool, pool.stats(now)) for pool in self._pools()]
        for name, text in _GAUGES:
            gauge = GaugeMetricFamily(f"penstock_pool_{name}", text, labels=_POOL)
            for labels, _, stats in found:
                gauge.add_metric(labels, getattr(stats, name))
            yield gauge
        for name, text in _COUNTERS:
            counter = CounterMetricFamily(f"penstock_pool_tasks_{name}", text, labels=_POOL)
            for labels, _, stats in found:
                counter.add_metric(labels, getattr(stats, f"{name}_total"))
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
        given_up = CounterMetricFamily(
            "penstock_pool_results_given_up",
            "Results that were deleted before their time, because their memory was needed.",
            labels=_POOL,
        )
        dead = CounterMetricFamily(
            "penstock_pool_dead_letters_given_up",
            "Dead letters that were deleted before their time, because all took too much memory.",
            labels=_POOL,
        )
        forgotten = CounterMetricFamily(
            "penstock_pool_request_ids_forgotten",
            "Request ids that were forgotten before their day was over, for want of room.",
            labels=_POOL,
        )
        for labels, pool, stats in found:
            forgotten.add_metric(labels, pool.book.requests.forgotten_total)
            memory.add_metric(labels, pool.book.memory.used)
            given_up.add_metric(labels, pool.book.given_up_total)
            dead.add_metric(labels, pool.book.dead_given_up_total)
            bound.add_metric(labels, pool.config.max_pending)
            since = stats.oldest_pending_time
            oldest.add_metric(labels, (now - since) / 1e9 if since else 0)
            execution.add_metric(labels, stats.mean_execution_ns / 1e9)
        yield from (bound, oldest, execution, memory, given_up, dead, forgotten)
        yield self._workers()
        yield self._waits(found)
        yield self._estimates()
        yield from self._process()

    def _pools(self) -> list[pools.Pool]:
        # By name: an older pool of the same name would be the same series.
        return list(self._pump.registry.by_name.values())

    def _workers(self) -> Metric:
        family = GaugeMetricFamily(
            "penstock_pool_workers", "Known workers.", labels=(*_POOL, "state")
        )
        for pool in self._pools():
            counts = dict.fromkeys(workers.WorkerState, 0)
            for worker in pool.fleet.workers.all():
                counts[worker.state] += 1
            for state, count in counts.items():
                family.add_metric((*_labels(pool), state.name.lower()), count)
        return family

    def _waits(self, found: list[_Found]) -> Metric:
        family = GaugeMetricFamily(
            "penstock_pool_estimated_wait_seconds",
            "Of a new task of default priority; no sample while it cannot be told.",
            labels=_POOL,
        )
        for labels, _, stats in found:
            if stats.estimated_wait_ns >= 0:
                family.add_metric(labels, stats.estimated_wait_ns / 1e9)
        return family

    def _estimates(self) -> Metric:
        family = HistogramMetricFamily(
            "penstock_pool_wait_estimate_error_seconds",
            "By how much tasks started later or earlier than predicted at their admission; of"
            " every 16th task, and of those with a max_queue_time.",
            labels=(*_POOL, "started"),
        )
        for pool in self._pools():
            for started, errors in (
                ("later", pool.forecast.late_errors),
                ("earlier", pool.forecast.early_errors),
            ):
                sums = itertools.accumulate(errors.counts)
                bounds = [*(str(bound) for bound in estimate.BUCKETS_SECONDS), "+Inf"]
                family.add_metric(
                    (*_labels(pool), started),
                    list(zip(bounds, sums, strict=True)),
                    errors.total_seconds,
                )
        return family

    def _process(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "penstock_dispatcher_epoch",
            "Grows with each start.",
            value=self._pump.registry.tokens.epoch,
        )
        yield GaugeMetricFamily(
            "penstock_dispatcher_loop_lag_seconds",
            "How late the event loop was in the last second.",
            value=self._pump.loop_lag_seconds,
        )
        memory = self._pump.registry.memory
        yield GaugeMetricFamily(
            "penstock_dispatcher_task_memory_bytes",
            "What the tasks of all pools take.",
            value=memory.used,
        )
        yield GaugeMetricFamily(
            "penstock_dispatcher_task_memory_bound_bytes",
            "What they may take.",
            value=memory.limit,
        )
        yield GaugeMetricFamily(
            "penstock_journal_backlog_records",
            "Records that are not durable yet.",
            value=self._pump.commits.backlog(),
        )
        yield CounterMetricFamily(
            "penstock_journal_records",
            "Records made durable.",
            value=self._pump.commits.durable_lsn,
        )
        yield GaugeMetricFamily(
            "penstock_journal_storage_full",
            "1 while admission is closed for lack of room.",
            value=float(self._pump.storage_full()),
        )
        calls = GaugeMetricFamily(
            "penstock_dispatcher_open_calls", "Calls being answered.", labels=("method",)
        )
        for method, count in sorted(self._calls.open.items()):
            calls.add_metric((method,), count)
        yield calls


def _labels(pool: pools.Pool) -> tuple[str, str]:
    _, namespace, _, name = pool.name.split("/")
    return namespace, name


def registry(pump_: pump.Pump, calls: answering.Calls) -> CollectorRegistry:
    """A registry of this dispatcher's own: several may live in one process."""
    made = CollectorRegistry()
    made.register(DispatcherCollector(pump_, calls))
    return made
