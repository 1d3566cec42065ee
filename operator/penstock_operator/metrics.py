"""The operator's own metrics, for Prometheus. Names begin with `penstock_operator_`."""

import contextlib

import prometheus_client
from prometheus_client import registry

DECISION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """One set, in a registry of its own. Pools are labelled `namespace` and `pool`."""

    def __init__(self) -> None:
        self.registry = registry.CollectorRegistry()
        pool = ("namespace", "pool")
        self.turns = prometheus_client.Counter(
            "penstock_operator_reconciles",
            "Reconciles, by outcome (done, failed, held: a failure is fresh, it only looked).",
            (*pool, "outcome"),
            registry=self.registry,
        )
        self.turn_seconds = prometheus_client.Histogram(
            "penstock_operator_reconcile_seconds",
            "How long a reconcile takes, its writes included.",
            buckets=DECISION_BUCKETS,
            registry=self.registry,
        )
        self.scale_seconds = prometheus_client.Histogram(
            "penstock_operator_demand_to_scale_seconds",
            "From the arrival of demand to the Deployment's answer, for scale-ups.",
            buckets=DECISION_BUCKETS,
            registry=self.registry,
        )
        self.scales = prometheus_client.Counter(
            "penstock_operator_scales",
            "Changes of the number of workers, by direction (up, down) and reason.",
            (*pool, "direction", "reason"),
            registry=self.registry,
        )
        self.desired = prometheus_client.Gauge(
            "penstock_operator_desired_replicas",
            "Workers that the pool is heading for.",
            pool,
            registry=self.registry,
        )
        self.ready = prometheus_client.Gauge(
            "penstock_operator_ready_replicas",
            "Workers that are ready and stay.",
            pool,
            registry=self.registry,
        )
        self.requests = prometheus_client.Histogram(
            "penstock_operator_kubernetes_request_seconds",
            "Requests to the Kubernetes API; code 0 = no answer.",
            ("verb", "resource", "code"),
            buckets=DECISION_BUCKETS,
            registry=self.registry,
        )
        self.connected = prometheus_client.Gauge(
            "penstock_operator_dispatcher_connected",
            "1 while demand is complete.",
            registry=self.registry,
        )
        self.watch_late = prometheus_client.Gauge(
            "penstock_operator_watch_late",
            "Served namespaces whose watch does not deliver.",
            registry=self.registry,
        )

    def request(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """A request to the Kubernetes API has ended."""
        self.requests.labels(verb, resource, str(code)).observe(seconds)

    def forget(self, *, namespace: str, pool: str) -> None:
        """A pool is gone: its gauges would stay for ever."""
        for gauge in (self.desired, self.ready):
            with contextlib.suppress(KeyError):  # none was set
                gauge.remove(namespace, pool)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry)
