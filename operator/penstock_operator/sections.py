"""The sections of a WorkerPool's spec as frozen values, and how each is read.

The defaults and bounds are those of the custom resource's schema. A `read_…` function takes a
reader that stands at its section, and leaves every rule that is broken in the reader's list.
Pure.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Final

from penstock_operator import fields

INT32_MAX: Final = 2**31 - 1
INT32_MIN: Final = -(2**31)
REPLICAS_MAX: Final = 1000
TASKS_MAX: Final = 10_000_000
WAITERS_MAX: Final = 10_000
WAIT_SECONDS_MAX: Final = 3600
WEIGHTS_MAX: Final = 1000
WEIGHT_MAX: Final = 1000
KEY_BYTES_MAX: Final = 64
"""Of a fairness key, as a task may carry it."""
REASONS_MAX: Final = 64
REASON_CHARACTERS_MAX: Final = 128
QUEUE_BYTES_MIN: Final = 1024
QUEUE_BYTES_MAX: Final = 2**50
DAY_SECONDS: Final = 86_400
YEAR_SECONDS: Final = 365 * DAY_SECONDS


class Mode(enum.Enum):
    """Who decides the number of workers."""

    AUTO = "Auto"
    MANUAL = "Manual"
    EXTERNAL = "External"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """spec.scaling: counts are workers."""

    mode: Mode = Mode.AUTO
    paused: bool = False
    min_replicas: int = 1
    max_replicas: int = 10
    warm_replicas: int = 0
    utilization_threshold_percent: int = 80
    rate_limit_aware: bool = True
    startup_timeout_seconds: int = 300
    idle_timeout_seconds: int = 60


class FairnessPolicy(enum.Enum):
    """How the tasks of one priority share what starts."""

    NONE = "None"
    WEIGHTED_ROUND_ROBIN = "WeightedRoundRobin"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """spec.queue.fairness. A fairness key that `weights` does not name has the weight 1."""

    policy: FairnessPolicy = FairnessPolicy.NONE
    weights: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def fair(self) -> bool:
        """Keys take turns."""
        return self.policy is FairnessPolicy.WEIGHTED_ROUND_ROBIN


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """spec.queue; max_pending_per_key 0 = no bound of its own, priority_aging_seconds 0 = none."""

    max_pending: int = 10_000
    max_pending_per_key: int = 0
    max_pending_bytes: int = 256 * 2**20
    max_waiters: int = 1_000
    max_wait_seconds: int = 30
    default_priority: int = 0
    priority_aging_seconds: int = 0
    ttl_seconds: int = 0
    max_payload_bytes: int = 2**20
    result_retention_seconds: int = 3600
    retention_seconds: int = DAY_SECONDS
    fairness: Fairness = Fairness()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """spec.rateLimit; tasks 0 = no limit on the rate, max_in_flight 0 = none on what runs. The same
    holds for one fairness key (per_key_tasks, in the same period) and for one concurrency key
    (max_in_flight_per_key).
    """

    tasks: int = 0
    period_seconds: int = 0
    burst: int = 1
    per_key_tasks: int = 0
    per_key_burst: int = 1
    max_in_flight: int = 0
    max_in_flight_per_key: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """spec.delivery.backoff."""

    initial_seconds: int = 1
    max_seconds: int = 300
    multiplier_percent: int = 200
    jitter_percent: int = 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """spec.delivery."""

    heartbeat_seconds: int = 5
    lease_seconds: int = 30
    reconnect_grace_seconds: int = 30
    execution_timeout_seconds: int = 600
    cancel_grace_seconds: int = 10
    max_attempts: int = 3
    max_worker_losses: int = 3
    non_retryable_reasons: tuple[str, ...] = ()
    backoff: Backoff = Backoff()
    dead_letter_max_tasks: int = 10_000
    dead_letter_retention_seconds: int = 7 * DAY_SECONDS


def read_scaling(reader: fields.Reader, *, strict: bool) -> Scaling:
    down = reader.child("scaleDown")
    scaling = Scaling(
        mode=Mode(
            reader.choice(
                "mode", default=Mode.AUTO.value, options=tuple(mode.value for mode in Mode)
            )
        ),
        paused=reader.boolean("paused", default=False),
        min_replicas=reader.integer("minReplicas", default=1, minimum=0, maximum=REPLICAS_MAX),
        max_replicas=reader.integer("maxReplicas", default=10, minimum=1, maximum=REPLICAS_MAX),
        warm_replicas=reader.integer("warmReplicas", default=0, minimum=0, maximum=REPLICAS_MAX),
        utilization_threshold_percent=reader.integer(
            "utilizationThresholdPercentage", default=80, minimum=1, maximum=100
        ),
        rate_limit_aware=reader.boolean("rateLimitAware", default=True),
        startup_timeout_seconds=reader.integer(
            "startupTimeoutSeconds", default=300, minimum=10, maximum=3600
        ),
        idle_timeout_seconds=down.integer(
            "idleTimeoutSeconds", default=60, minimum=0, maximum=DAY_SECONDS
        ),
    )
    for name, value in (
        ("minReplicas", scaling.min_replicas),
        ("warmReplicas", scaling.warm_replicas),
    ):
        if value > scaling.max_replicas:
            reader.refuse(
                name,
                f"must not be above spec.scaling.maxReplicas ({scaling.max_replicas}), is "
                f"{value}: lower {name} or "
                "raise maxReplicas",
            )
    if strict:
        down.refuse_unknown()
        reader.refuse_unknown()
    return scaling


def read_queue(reader: fields.Reader, *, strict: bool) -> Queue:
    queue = Queue(
        max_pending=reader.integer(
            "maxPending",
            default=10_000,
            minimum=1,
            maximum=TASKS_MAX,
            hint="to accept tasks without running them set spec.suspend",
        ),
        max_pending_per_key=reader.integer(
            "maxPendingPerKey",
            default=0,
            minimum=1,
            maximum=TASKS_MAX,
            hint="leave it out for no bound of its own",
        ),
        max_pending_bytes=reader.size_bytes(
            "maxPendingBytes",
            default=256 * 2**20,
            minimum=QUEUE_BYTES_MIN,
            maximum=QUEUE_BYTES_MAX,
        ),
        max_waiters=reader.integer(
            "maxWaiters",
            default=1_000,
            minimum=1,
            maximum=WAITERS_MAX,
            hint="callers that do not ask to wait are refused at once in any case",
        ),
        max_wait_seconds=reader.integer(
            "maxWaitSeconds", default=30, minimum=1, maximum=WAIT_SECONDS_MAX
        ),
        default_priority=reader.integer(
            "defaultPriority", default=0, minimum=INT32_MIN, maximum=INT32_MAX
        ),
        priority_aging_seconds=reader.integer(
            "priorityAgingSeconds", default=0, minimum=0, maximum=DAY_SECONDS
        ),
        ttl_seconds=reader.integer("ttlSeconds", default=0, minimum=0, maximum=YEAR_SECONDS),
        max_payload_bytes=reader.integer(
            "maxPayloadBytes", default=2**20, minimum=1024, maximum=4 * 2**20
        ),
        result_retention_seconds=reader.integer(
            "resultRetentionSeconds", default=3600, minimum=0, maximum=30 * DAY_SECONDS
        ),
        retention_seconds=reader.integer(
            "retentionSeconds", default=DAY_SECONDS, minimum=0, maximum=YEAR_SECONDS
        ),
        fairness=_read_fairness(reader.child("fairness"), strict=strict),
    )
    if queue.fairness.fair and queue.priority_aging_seconds:
        reader.refuse(
            "priorityAgingSeconds",
            f"must be 0 while spec.queue.fairness.policy is {queue.fairness.policy.value}, is "
            f"{queue.priority_aging_seconds}: aging orders tasks by when they came, fairness by "
            "whose turn it is; choose one of the two",
        )
    if queue.max_pending_bytes < queue.max_payload_bytes:
        reader.refuse(
            "maxPendingBytes",
            f"must be at least spec.queue.maxPayloadBytes ({queue.max_payload_bytes}), or the "
            "largest task would never "
            f"fit, is {queue.max_pending_bytes}: raise maxPendingBytes or lower maxPayloadBytes",
        )
    if strict:
        reader.refuse_unknown()
    return queue


def _read_fairness(reader: fields.Reader, *, strict: bool) -> Fairness:
    policy = FairnessPolicy(
        reader.choice(
            "policy",
            default=FairnessPolicy.NONE.value,
            options=tuple(policy.value for policy in FairnessPolicy),
        )
    )
    fairness = Fairness(policy=policy, weights=_read_weights(reader.child("weights")))
    if fairness.weights and not fairness.fair:
        reader.refuse(
            "weights",
            "has no meaning unless spec.queue.fairness.policy is WeightedRoundRobin: set the "
            "policy, or leave weights out",
        )
    if strict:
        reader.refuse_unknown()
    return fairness


def _read_weights(reader: fields.Reader) -> dict[str, int]:
    keys = reader.names
    if len(keys) > WEIGHTS_MAX:
        reader.refuse("", f"must have at most {WEIGHTS_MAX} keys, has {len(keys)}")
        return {}
    weights = {}
    for key in keys:
        if not isinstance(key, str) or not 1 <= len(key.encode(errors="replace")) <= KEY_BYTES_MAX:
            reader.refuse(
                "",
                f"must have keys of 1 to {KEY_BYTES_MAX} bytes, as a task's fairness key is; has "
                f"{fields.shown(key)}; a key that only looks like a number must be in quotes",
            )
            continue
        weights[key] = reader.integer(key, default=1, minimum=1, maximum=WEIGHT_MAX)
    return weights


def read_rate_limit(reader: fields.Reader, *, strict: bool) -> RateLimit:
    hint = "leave spec.rateLimit out for no limit, set spec.suspend to stop dispatch"
    limit = RateLimit(
        tasks=reader.integer("tasks", default=0, minimum=1, maximum=TASKS_MAX, hint=hint),
        period_seconds=reader.integer(
            "periodSeconds",
            default=0,
            minimum=1,
            maximum=DAY_SECONDS,
            hint="for 0.5 s periods double spec.rateLimit.tasks instead",
        ),
        burst=reader.integer("burst", default=1, minimum=1, maximum=TASKS_MAX),
        per_key_tasks=reader.integer(
            "perKeyTasks", default=0, minimum=1, maximum=TASKS_MAX, hint=hint
        ),
        per_key_burst=reader.integer("perKeyBurst", default=1, minimum=1, maximum=TASKS_MAX),
        max_in_flight=reader.integer("maxInFlight", default=0, minimum=1, maximum=TASKS_MAX),
        max_in_flight_per_key=reader.integer(
            "maxInFlightPerKey", default=0, minimum=1, maximum=TASKS_MAX
        ),
    )
    rated = reader.has("tasks") or reader.has("perKeyTasks")
    if rated != reader.has("periodSeconds"):
        reader.refuse(
            "periodSeconds" if rated else "tasks",
            "is required: spec.rateLimit.tasks or perKeyTasks and spec.rateLimit.periodSeconds "
            "must be set together; tasks 10, periodSeconds 1 means ten starts a second",
        )
    elif reader.has("burst") and not reader.has("tasks"):
        reader.refuse(
            "burst",
            "has no meaning without spec.rateLimit.tasks and periodSeconds: set them, or leave "
            "burst out",
        )
    elif reader.present and not (
        rated or reader.has("maxInFlight") or reader.has("maxInFlightPerKey")
    ):
        reader.refuse(
            "",
            "is empty: set periodSeconds with tasks or perKeyTasks, or maxInFlight, or "
            "maxInFlightPerKey, or leave rateLimit out for no limit",
        )
    if reader.has("perKeyBurst") and not reader.has("perKeyTasks"):
        reader.refuse(
            "perKeyBurst",
            "has no meaning without spec.rateLimit.perKeyTasks and periodSeconds: set them, or "
            "leave perKeyBurst out",
        )
    if strict:
        reader.refuse_unknown()
    return limit


def read_delivery(reader: fields.Reader, *, strict: bool) -> Delivery:
    back = reader.child("backoff")
    dead = reader.child("deadLetter")
    backoff = Backoff(
        initial_seconds=back.integer("initialSeconds", default=1, minimum=0, maximum=3600),
        max_seconds=back.integer("maxSeconds", default=300, minimum=0, maximum=DAY_SECONDS),
        multiplier_percent=back.integer(
            "multiplierPercent", default=200, minimum=100, maximum=1000
        ),
        jitter_percent=back.integer("jitterPercent", default=20, minimum=0, maximum=100),
    )
    if backoff.initial_seconds > backoff.max_seconds:
        back.refuse(
            "initialSeconds",
            f"must not be above maxSeconds ({backoff.max_seconds}), is "
            f"{backoff.initial_seconds}: lower initialSeconds "
            "or raise maxSeconds",
        )
    delivery = Delivery(
        heartbeat_seconds=reader.integer("heartbeatSeconds", default=5, minimum=1, maximum=60),
        lease_seconds=reader.integer("leaseSeconds", default=30, minimum=3, maximum=3600),
        reconnect_grace_seconds=reader.integer(
            "reconnectGraceSeconds", default=30, minimum=0, maximum=3600
        ),
        execution_timeout_seconds=reader.integer(
            "executionTimeoutSeconds", default=600, minimum=1, maximum=604_800
        ),
        cancel_grace_seconds=reader.integer(
            "cancelGraceSeconds", default=10, minimum=0, maximum=600
        ),
        max_attempts=reader.integer("maxAttempts", default=3, minimum=1, maximum=100),
        max_worker_losses=reader.integer("maxWorkerLosses", default=3, minimum=1, maximum=100),
        non_retryable_reasons=reader.texts(
            "nonRetryableReasons", items_max=REASONS_MAX, characters_max=REASON_CHARACTERS_MAX
        ),
        backoff=backoff,
        dead_letter_max_tasks=dead.integer(
            "maxTasks", default=10_000, minimum=0, maximum=TASKS_MAX
        ),
        dead_letter_retention_seconds=dead.integer(
            "retentionSeconds", default=7 * DAY_SECONDS, minimum=0, maximum=YEAR_SECONDS
        ),
    )
    if delivery.lease_seconds < 3 * delivery.heartbeat_seconds:
        reader.refuse(
            "leaseSeconds",
            "must be at least three times spec.delivery.heartbeatSeconds "
            f"({delivery.heartbeat_seconds}), is "
            f"{delivery.lease_seconds}: raise leaseSeconds or lower heartbeatSeconds",
        )
    if strict:
        back.refuse_unknown()
        dead.refuse_unknown()
        reader.refuse_unknown()
    return delivery
