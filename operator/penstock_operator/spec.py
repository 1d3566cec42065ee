"""What a WorkerPool manifest says, checked and complete.

`parse_manifest` turns a document (from an API server, or from a file: the local fleet and a
dispatcher without Kubernetes have no API server to fill in defaults) into a frozen
`WorkerPoolSpec`. Every default, bound and rule of the custom resource is repeated here; a test
compares the two. `pool_config` is the part of it that the dispatcher needs, as it travels.

Pure. What may stand in the pod template, and who is allowed to put it there, is `template`'s
business.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

from penstock.v1 import fleet_service_pb2, task_pb2
from penstock_operator import fields, sections, template

API_VERSION: Final = "penstock.dev/v1alpha1"
KIND: Final = "WorkerPool"
NAME_CHARACTERS_MAX: Final = 40
DEFAULT_SCALING: Final = sections.Scaling()
DEFAULT_QUEUE: Final = sections.Queue()
NO_RATE_LIMIT: Final = sections.RateLimit()
DEFAULT_DELIVERY: Final = sections.Delivery()
BACK_TO_AUTO: Final = (
    "kubectl patch wpool NAME --type=json -p "
    """'[{"op":"add","path":"/spec/scaling/mode","value":"Auto"},"""
    """{"op":"remove","path":"/spec/replicas"}]'"""
)
"""Both at once: in mode External the operator writes replicas anew, without it Auto is refused."""
NAME: Final = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPoolSpec:
    """One WorkerPool as its manifest says. `template` is the user's pod template; treat it as
    frozen.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    template: Mapping[str, Any]
    replicas: int | None = None
    suspend: bool = False
    worker_container: str = "worker"
    slots_per_worker: int = 1
    scaling: sections.Scaling = DEFAULT_SCALING
    queue: sections.Queue = DEFAULT_QUEUE
    rate_limit: sections.RateLimit = NO_RATE_LIMIT
    delivery: sections.Delivery = DEFAULT_DELIVERY
    drain_timeout_seconds: int = 600

    @property
    def full_name(self) -> str:
        """`namespaces/{namespace}/pools/{pool}`."""
        return pool_name(namespace=self.namespace, name=self.name)


def pool_name(*, namespace: str, name: str) -> str:
    """The pool's resource name on the wire."""
    return f"namespaces/{namespace}/pools/{name}"


def parse_manifest(
    document: object, *, default_namespace: str = "default", strict: bool = True
) -> WorkerPoolSpec:
    """Read a WorkerPool document.

    `strict` refuses fields that the resource does not have: right for a file, where they are
    typing errors; an API server has dropped them already, and may know newer ones. A document
    without a UID (a file) gets one that its namespace and name determine. Raises
    `fields.InvalidManifest` with every violation.
    """
    violations: list[fields.Violation] = []
    root = fields.Reader(document, path="", violations=violations)
    if not root.present:
        raise fields.InvalidManifest(
            (fields.Violation("manifest", f"must be a {KIND} object, is {fields.shown(document)}"),)
        )
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if root.raw(name) != wanted:
            violations.append(
                fields.Violation(name, f"must be {wanted}, is {fields.shown(root.raw(name))}")
            )
    metadata = root.child("metadata")
    name = str(metadata.raw("name") or "")
    if not NAME.match(name) or len(name) > NAME_CHARACTERS_MAX:
        metadata.refuse(
            "name",
            f"must be 1 to {NAME_CHARACTERS_MAX} characters of a-z, 0-9 and '-', because "
            "Deployment and pod "
            f"names derive from it; is {fields.shown(name)}",
        )
    namespace = str(metadata.raw("namespace") or default_namespace)
    if not root.has("spec"):
        violations.append(fields.Violation("spec", "is required"))
    spec = _read_spec(
        root.child("spec"),
        strict=strict,
        identity={
            "namespace": namespace,
            "name": name,
            "uid": str(metadata.raw("uid") or f"manifest:{namespace}/{name}"),
            "generation": metadata.integer("generation", default=1, minimum=0, maximum=2**63 - 1),
        },
    )
    if violations:
        raise fields.InvalidManifest(tuple(violations))
    return spec


def _read_spec(
    reader: fields.Reader, *, strict: bool, identity: Mapping[str, Any]
) -> WorkerPoolSpec:
    scaling = sections.read_scaling(reader.child("scaling"), strict=strict)
    replicas = reader.optional_integer("replicas", minimum=0, maximum=sections.REPLICAS_MAX)
    if scaling.mode is sections.Mode.AUTO and replicas is not None:
        reader.refuse(
            "replicas",
            "is owned by the autoscaler while spec.scaling.mode is Auto: leave spec.replicas "
            "out, or set spec.scaling.mode to Manual or External. Where it is the number that the "
            f"mode External has left behind, go back with {BACK_TO_AUTO}",
        )
    if scaling.mode is sections.Mode.MANUAL and not reader.has("replicas"):
        reader.refuse(
            "replicas",
            "is required while spec.scaling.mode is Manual: set it to the number of workers you "
            "want",
        )
    # In mode External somebody else writes replicas: the maximum bounds what is made of it, and
    # lowering it drains the surplus.
    manual = scaling.mode is sections.Mode.MANUAL
    if manual and replicas is not None and replicas > scaling.max_replicas:
        reader.refuse(
            "replicas",
            f"must not be above spec.scaling.maxReplicas ({scaling.max_replicas}), is "
            f"{replicas}: lower replicas or "
            "raise maxReplicas",
        )
    worker_container = reader.text("workerContainer", default="worker", characters_max=63)
    drain = reader.child("drain")
    drain_timeout_seconds = drain.integer("timeoutSeconds", default=600, minimum=1, maximum=604_800)
    if strict:
        drain.refuse_unknown()
    spec = WorkerPoolSpec(
        **identity,
        replicas=replicas,
        suspend=reader.boolean("suspend", default=False),
        worker_container=worker_container,
        slots_per_worker=reader.integer("slotsPerWorker", default=1, minimum=1, maximum=1000),
        template=reader.raw("template") if isinstance(reader.raw("template"), Mapping) else {},
        scaling=scaling,
        queue=sections.read_queue(reader.child("queue"), strict=strict),
        rate_limit=sections.read_rate_limit(reader.child("rateLimit"), strict=strict),
        delivery=sections.read_delivery(reader.child("delivery"), strict=strict),
        drain_timeout_seconds=drain_timeout_seconds,
    )
    reader.violations.extend(
        template.structure_violations(reader.raw("template"), worker_container=worker_container)
    )
    if strict:
        reader.refuse_unknown()
    return spec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What an object of the API server came to. Without `violations` there is a pool and its
    configuration; with some there may be.
    """

    pool: WorkerPoolSpec | None = None
    config: fleet_service_pb2.PoolConfig | None = None
    violations: tuple[fields.Violation, ...] = ()
    unexpected: Exception | None = None
    """A mistake of ours: something in the object that no check foresees."""


def examine(document: object, *, policy: template.SecurityPolicy | None = None) -> Examined:
    """Read an object of the API server; with a `policy`, look at its template's security, too.

    Whatever stands in it, this never raises: one bad object must not end the service of all.
    """
    try:
        pool = parse_manifest(document, strict=False)
        found = (
            template.security_violations(pool.template, policy=policy) if policy is not None else []
        )
        return Examined(pool=pool, config=pool_config(pool), violations=tuple(found))
    except fields.InvalidManifest as invalid:
        return Examined(violations=invalid.violations)
    except Exception as error:
        why = f"cannot be read ({type(error).__name__}: {error}): look for what is unusual in it"
        return Examined(violations=(fields.Violation("spec", why),), unexpected=error)


def pool_config(spec: WorkerPoolSpec) -> fleet_service_pb2.PoolConfig:
    """What the dispatcher needs to know of a pool, as it travels."""
    queue, delivery, limit = spec.queue, spec.delivery, spec.rate_limit
    config = fleet_service_pb2.PoolConfig(
        name=spec.full_name,
        uid=spec.uid,
        generation=spec.generation,
        paused=spec.suspend,
        slots_per_worker=spec.slots_per_worker,
        max_pending=queue.max_pending,
        max_pending_per_key=queue.max_pending_per_key,
        max_pending_bytes=queue.max_pending_bytes,
        max_payload_bytes=queue.max_payload_bytes,
        max_waiters=queue.max_waiters,
        default_priority=queue.default_priority,
        fair=queue.fairness.fair,
        fairness_weights=queue.fairness.weights,
        max_in_flight=limit.max_in_flight,
        max_in_flight_per_key=limit.max_in_flight_per_key,
        max_worker_losses=delivery.max_worker_losses,
        max_dead_letters=delivery.dead_letter_max_tasks,
        retry_policy=task_pb2.RetryPolicy(
            max_attempts=delivery.max_attempts,
            backoff_multiplier=delivery.backoff.multiplier_percent / 100,
            jitter=delivery.backoff.jitter_percent / 100,
            non_retryable_reasons=delivery.non_retryable_reasons,
        ),
    )
    config.retry_policy.initial_backoff.seconds = delivery.backoff.initial_seconds
    config.retry_policy.max_backoff.seconds = delivery.backoff.max_seconds
    config.max_wait.seconds = queue.max_wait_seconds
    config.ttl.seconds = queue.ttl_seconds
    config.priority_aging.seconds = queue.priority_aging_seconds
    config.lease_duration.seconds = delivery.lease_seconds
    config.heartbeat_interval.seconds = delivery.heartbeat_seconds
    config.reconnect_grace.seconds = delivery.reconnect_grace_seconds
    config.execution_timeout.seconds = delivery.execution_timeout_seconds
    config.cancel_grace.seconds = delivery.cancel_grace_seconds
    config.result_retention.seconds = queue.result_retention_seconds
    config.dead_letter_retention.seconds = delivery.dead_letter_retention_seconds
    config.pool_retention.seconds = queue.retention_seconds
    if limit.tasks:
        config.rate_limit.tasks = limit.tasks
        config.rate_limit.burst = limit.burst
        config.rate_limit.period.seconds = limit.period_seconds
    if limit.per_key_tasks:
        config.rate_limit_per_key.tasks = limit.per_key_tasks
        config.rate_limit_per_key.burst = limit.per_key_burst
        config.rate_limit_per_key.period.seconds = limit.period_seconds
    return config
