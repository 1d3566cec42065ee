"""What a pool's manifest tells the dispatcher, checked.

A `PoolSettings` value is complete: nothing falls back to anything at run time. `violations` finds
every bad field at once, so that a person mends a manifest in one go; nothing is ever changed
quietly.
"""

import dataclasses
from collections.abc import Mapping
from typing import Final

from penstock_dispatcher.core import units

PAYLOAD_BYTES_MAX: Final = 4 * 1024 * 1024
PENDING_MAX: Final = 10_000_000
WAITERS_MAX: Final = 10_000
"""Each is a call that is kept open, with its payload in memory."""
WAIT_NS_MAX: Final = 3600 * units.SECOND
MULTIPLIER_MAX: Final = 100.0
WEIGHT_MAX: Final = 1_000
WEIGHTS_MAX: Final = 1_000
KEY_BYTES_MAX: Final = 64
UID_CHARS_MAX: Final = 253
"""Of a pool's uid, which every record of it names."""
SLOTS_MAX: Final = 10_000
"""Of a worker."""
INT32_MAX: Final = 2**31 - 1
INT32_MIN: Final = -(2**31)


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: its name as the caller wrote it, and what to do about it."""

    field: str
    description: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """`tasks` assignments per `period_ns`, and at most `burst` at once."""

    tasks: int
    period_ns: int
    burst: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential back-off. `jitter` is the share of the delay that is drawn at random, 0 to 1."""

    max_attempts: int = 3
    initial_backoff_ns: int = units.SECOND
    max_backoff_ns: int = 300 * units.SECOND
    multiplier: float = 2.0
    jitter: float = 0.2
    non_retryable_reasons: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """A pool's configuration. Durations in nanoseconds, sizes in bytes; 0 = none where so said."""

    name: str
    uid: str
    generation: int = 1
    suspended: bool = False
    max_pending: int = 10_000
    max_pending_per_key: int = 0
    max_pending_bytes: int = 256 * 1024 * 1024
    max_payload_bytes: int = 1024 * 1024
    max_waiters: int = 1_000
    max_wait_ns: int = 30 * units.SECOND
    default_priority: int = 0
    priority_aging_ns: int = 0
    """A task gains one unit of priority by waiting so long."""
    fair: bool = False
    fairness_weights: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Of keys that do not count as 1."""
    ttl_ns: int = 0
    rate_limit: RateLimit | None = None
    rate_limit_per_key: RateLimit | None = None
    """For each fairness key."""
    max_in_flight: int = 0
    max_in_flight_per_key: int = 0
    """For each concurrency key; tasks without one are not capped."""
    slots_per_worker: int = 0
    """A task that takes more is refused; 0 = not known."""
    lease_ns: int = 30 * units.SECOND
    heartbeat_ns: int = 5 * units.SECOND
    reconnect_grace_ns: int = 30 * units.SECOND
    execution_timeout_ns: int = 600 * units.SECOND
    cancel_grace_ns: int = 10 * units.SECOND
    retry: RetryPolicy = RetryPolicy()
    max_worker_losses: int = 3
    result_retention_ns: int = 3600 * units.SECOND
    max_dead_letters: int = 10_000
    dead_letter_retention_ns: int = 7 * 86_400 * units.SECOND
    pool_retention_ns: int = 86_400 * units.SECOND

    @property
    def ordering(self) -> tuple[object, ...]:
        """What the order of waiting tasks, and what may hold them up, depend on."""
        return (
            self.priority_aging_ns,
            self.fair,
            self.fairness_weights,
            self.max_in_flight_per_key,
            self.rate_limit_per_key,
        )

    def expire_time(self, now: int, schedule_time: int) -> int:
        """When a task that says nothing of it expires, 0 = never: its time begins when it may
        start.
        """
        return max(now, schedule_time) + self.ttl_ns if self.ttl_ns else 0

    def violations(self) -> list[Violation]:
        """Every field that cannot be used, in the wire's names. Empty = usable."""
        found: list[Violation] = []

        def want(condition: bool, field: str, description: str) -> None:
            if not condition:
                found.append(Violation(field, description))

        want(
            1 <= len(self.uid) <= UID_CHARS_MAX,
            "uid",
            f"must have 1 to {UID_CHARS_MAX} characters",
        )
        want(
            1 <= self.max_pending <= PENDING_MAX,
            "max_pending",
            f"must be 1 to {PENDING_MAX}, is {self.max_pending}",
        )
        want(
            self.max_pending_bytes >= self.max_payload_bytes,
            "max_pending_bytes",
            f"must be at least max_payload_bytes ({self.max_payload_bytes}),"
            f" is {self.max_pending_bytes}",
        )
        want(
            1 <= self.max_payload_bytes <= PAYLOAD_BYTES_MAX,
            "max_payload_bytes",
            f"must be 1 to {PAYLOAD_BYTES_MAX}, is {self.max_payload_bytes}",
        )
        want(
            1 <= self.max_waiters <= WAITERS_MAX,
            "max_waiters",
            f"must be 1 to {WAITERS_MAX}, is {self.max_waiters}",
        )
        want(
            0 < self.max_wait_ns <= WAIT_NS_MAX,
            "max_wait",
            f"must be positive, and at most {WAIT_NS_MAX // units.SECOND} s",
        )
        want(
            INT32_MIN <= self.default_priority <= INT32_MAX,
            "default_priority",
            "must be an int32",
        )
        want(self.ttl_ns >= 0, "ttl", "must not be negative")
        want(self.max_in_flight >= 0, "max_in_flight", "must not be negative; 0 = no cap")
        want(self.heartbeat_ns > 0, "heartbeat_interval", "must be positive")
        want(
            self.lease_ns >= 3 * self.heartbeat_ns,
            "lease_duration",
            "must be at least three times heartbeat_interval",
        )
        want(self.reconnect_grace_ns >= 0, "reconnect_grace", "must not be negative")
        want(self.execution_timeout_ns > 0, "execution_timeout", "must be positive")
        want(self.cancel_grace_ns >= 0, "cancel_grace", "must not be negative")
        want(self.max_worker_losses >= 1, "max_worker_losses", "must be at least 1")
        want(self.result_retention_ns >= 0, "result_retention", "must not be negative")
        want(self.max_dead_letters >= 0, "max_dead_letters", "must not be negative")
        want(self.dead_letter_retention_ns >= 0, "dead_letter_retention", "must not be negative")
        want(self.pool_retention_ns >= 0, "pool_retention", "must not be negative")
        found.extend(_key_violations(self))
        for field, rate in (
            ("rate_limit", self.rate_limit),
            ("rate_limit_per_key", self.rate_limit_per_key),
        ):
            if rate is not None:
                found.extend(_rate_violations(rate, field))
        found.extend(retry_violations(self.retry))
        return found


def _key_violations(pool: PoolSettings) -> list[Violation]:
    """Of order, keys and slots."""
    found = []
    if pool.priority_aging_ns < 0:
        found.append(Violation("priority_aging", "must not be negative; 0 = no aging"))
    if pool.fair and pool.priority_aging_ns:
        found.append(
            Violation(
                "fair",
                "must not be set together with priority_aging, which leaves no two tasks of the"
                " same priority to be fair between: unset one of the two",
            )
        )
    for field, value, most in (
        ("max_pending_per_key", pool.max_pending_per_key, PENDING_MAX),
        ("max_in_flight_per_key", pool.max_in_flight_per_key, INT32_MAX),
        ("slots_per_worker", pool.slots_per_worker, SLOTS_MAX),
    ):
        if not 0 <= value <= most:
            found.append(Violation(field, f"must be 0 (none) to {most}, is {value}"))
    weights = pool.fairness_weights
    if len(weights) > WEIGHTS_MAX:
        found.append(
            Violation("fairness_weights", f"must be at most {WEIGHTS_MAX}, are {len(weights)}")
        )
    for key, weight in list(weights.items())[:WEIGHTS_MAX]:
        field = f"fairness_weights[{key[:KEY_BYTES_MAX]!r}]"
        if len(key.encode()) > KEY_BYTES_MAX:
            found.append(Violation(field, f"must have a key of at most {KEY_BYTES_MAX} bytes"))
        if not 1 <= weight <= WEIGHT_MAX:
            found.append(Violation(field, f"must be 1 to {WEIGHT_MAX}, is {weight}"))
    return found


def _rate_violations(rate: RateLimit, field: str) -> list[Violation]:
    found = []
    if rate.tasks < 1:
        found.append(
            Violation(
                f"{field}.tasks",
                f"must be at least 1, is {rate.tasks}; leave {field} out for no limit",
            )
        )
    if rate.period_ns < 1:
        found.append(Violation(f"{field}.period", "must be positive"))
    if rate.burst < 1:
        found.append(Violation(f"{field}.burst", f"must be at least 1, is {rate.burst}"))
    return found


def retry_violations(retry: RetryPolicy) -> list[Violation]:
    """Bad fields of a retry policy, in the wire's names."""
    found = []
    if retry.max_attempts < 1:
        found.append(
            Violation("retry_policy.max_attempts", f"must be at least 1, is {retry.max_attempts}")
        )
    if retry.initial_backoff_ns < 0:
        found.append(Violation("retry_policy.initial_backoff", "must not be negative"))
    if retry.max_backoff_ns < retry.initial_backoff_ns:
        found.append(Violation("retry_policy.max_backoff", "must be at least initial_backoff"))
    # Not "less than": that would let NaN pass.
    if not 1 <= retry.multiplier <= MULTIPLIER_MAX:
        found.append(
            Violation(
                "retry_policy.backoff_multiplier",
                f"must be 1 to {MULTIPLIER_MAX:g}, is {retry.multiplier:g}",
            )
        )
    if not 0 <= retry.jitter <= 1:
        found.append(Violation("retry_policy.jitter", "must be 0 to 1"))
    return found
