"""What a pool can say about starts to come: to who asks, who is refused, and who has a deadline.

It collects what `estimate` needs and holds its results against what happens. The prediction of
every `PREDICTED_EVERY`-th task, and of each that has a deadline, is kept until that task starts:
the difference is the estimate's own error, which people can watch.
"""

from typing import TYPE_CHECKING, Final

from penstock_dispatcher.core import admission, estimate, places, units
from penstock_dispatcher.core import task as tasks

if TYPE_CHECKING:
    from penstock_dispatcher.core import pool as pools

PREDICTED_EVERY: Final = 16
"""Tasks accepted for each one whose start is predicted: a prediction costs more than the rest of
an admission."""
PRECISION_NS: Final = 10 * units.MILLISECOND
"""A start that is later than it should be by no more than this is in time."""
LEASES_LOOKED_AT_MAX: Final = 16
"""Running tasks that tell how long they take before any has ended: the oldest."""


class Forecast:
    """Of one pool. Durations in nanoseconds; estimate.UNKNOWN where nothing can be told."""

    def __init__(self, pool: "pools.Pool") -> None:
        self.late_errors = estimate.Errors()
        """Of tasks that started later than predicted."""
        self.early_errors = estimate.Errors()
        """Of tasks that started when predicted, or earlier."""
        self._pool = pool

    # ------------------------------------------------------------ conditions

    def _wait_ns(self, ahead: int, now: int) -> int:
        pool = self._pool
        if not pool.dispatching:
            return estimate.UNKNOWN
        cap = pool.config.max_in_flight
        slots = pool.fleet.workers.slots
        conditions = estimate.Conditions(
            slots=min(slots, cap) if cap else slots,
            in_flight=len(pool.fleet.leases),
            occupancy_ns=self._occupancy_ns(now),
            drained_per_second=pool.book.completions.per_second(now),
        )
        return estimate.wait_ns(ahead, conditions, token_ns=pool.token_ns(now, ahead + 1))

    def _occupancy_ns(self, now: int) -> int:
        occupancy = self._pool.fleet.occupancy
        if occupancy.count:
            return max(1, int(occupancy.value))
        running = self._pool.fleet.leases.first(LEASES_LOOKED_AT_MAX)
        if not running:
            return 0
        elapsed = sum(now - lease.start_time for lease in running) // len(running)
        return estimate.cold_occupancy_ns(elapsed)

    # ------------------------------------------------------------ answers

    def of_new(self, priority: int, now: int) -> int:
        """How long a new task of that priority would wait."""
        return self._wait_ns(self._ahead_of_new(priority, now), now)

    def _of(self, wanted: tasks.Submission, now: int, after: int = 0) -> int:
        default = self._pool.config.default_priority
        priority = default if wanted.priority is None else wanted.priority
        return self._wait_ns(self._ahead_of_new(priority, now) + after, now)

    def _ahead_of_new(self, priority: int, now: int) -> int:
        """Ready ones count if they come first, and those on their way to the queue by the share of
        its priority and higher ones: they are as young as it is. What is held back after a restart
        is taken for running.
        """
        book = self._pool.book
        ready = book.backlog.ready_count
        higher = book.backlog.by_priority.at_least(priority)
        coming = book.committing * higher // ready if ready else book.committing
        first = book.backlog.before_new(priority, now)
        return first + coming + len(book.held) + self._pool.room.by_priority.at_least(priority)

    def position(self, task: tasks.Task) -> int:
        """How many tasks come before one that waits for a slot; places.UNKNOWN if it does not, or
        that cannot be told cheaply.
        """
        ready = task.state is tasks.TaskState.PENDING and task.place is tasks.Place.QUEUED
        if not ready:
            return places.UNKNOWN
        return self._pool.book.backlog.before(task)

    def at(self, position: int, now: int) -> int:
        """How long a task in that position will go on waiting."""
        return estimate.UNKNOWN if position < 0 else self._wait_ns(position, now)

    def retry_after_ns(self, now: int, place: int = 1) -> int:
        """When so many more tasks will have started, and left their places in the queue to others;
        within the bounds of admission.
        """
        return admission.retry_after_ns(self._wait_ns(place - 1, now))

    def key_retry_after_ns(self, key: str, now: int) -> int:
        """When a place of that fairness key should be free, after those who wait for one: the key's
        part of the pool's drain rate is taken to be its part of what waits, and never more than its
        own rate limit.
        """
        pool, book = self._pool, self._pool.book
        if not pool.dispatching:
            return admission.RETRY_AFTER_UNKNOWN_NS
        rate = book.completions.per_second(now) * book.by_key.of(key) / max(1, book.waiting)
        limit = pool.config.rate_limit_per_key
        if limit is not None:
            own = limit.tasks * 1e9 / limit.period_ns
            # With free slots nothing but tokens can be what its tasks wait for.
            free = pool.fleet.workers.slots > pool.fleet.leases.slots
            rate = own if free else min(rate, own)
        places = pool.room.of_key(key) + 1
        if rate <= 0:
            return admission.RETRY_AFTER_UNKNOWN_NS
        # Long after the last completion the rate is so small that its inverse is infinite.
        wait_ns = min(places * units.SECOND / rate, estimate.WAIT_NS_MAX)
        return admission.retry_after_ns(int(wait_ns))

    # ------------------------------------------------------------ deadlines

    def late(
        self, wanted: tasks.Submission, now: int, *, after: int = 0
    ) -> admission.Admission | None:
        """Why a task that has a time to start by is not admitted; None = it may start in time, or
        nothing can be told. `after`: tasks that are to be admitted before it.
        """
        if not wanted.start_by:
            return None
        wait_ns = max(0, self._of(wanted, now, after))
        if now + wait_ns - wanted.start_by <= PRECISION_NS:
            return None
        return self._too_late(wanted, wait_ns, now)

    def out_of_time(self, wanted: tasks.Submission, now: int) -> admission.Admission:
        """The refusal of a task whose time to start by came while its caller waited for room."""
        wait_ns = self._of(wanted, now)
        if wait_ns >= 0:
            return self._too_late(wanted, wait_ns, now)
        return admission.Admission(
            admission.AdmissionReason.DEADLINE_UNREACHABLE,
            wanted.task_id,
            message="no room came free within max_queue_time",
            retry_after_ns=admission.RETRY_AFTER_UNKNOWN_NS,
            estimated_wait_ns=wait_ns,
        )

    def _too_late(self, wanted: tasks.Submission, wait_ns: int, now: int) -> admission.Admission:
        excess_ns = max(0, now + wait_ns - wanted.start_by)
        return admission.Admission(
            admission.AdmissionReason.DEADLINE_UNREACHABLE,
            wanted.task_id,
            message=f"it would start in about {wait_ns / units.SECOND:.3g} s,"
            f" {excess_ns / units.SECOND:.3g} s later than max_queue_time allows",
            retry_after_ns=max(admission.RETRY_AFTER_MIN_NS, excess_ns),
            estimated_wait_ns=wait_ns,
        )

    # ------------------------------------------------------------ its own error

    def predict(self, wanted: tasks.Submission, now: int) -> int:
        """What to hold the start of this task against; UNKNOWN for most."""
        chosen = wanted.start_by or not self._pool.book.accepted_total % PREDICTED_EVERY
        if not chosen or wanted.not_before > now:
            return estimate.UNKNOWN
        return self._of(wanted, now)

    def started(self, task: tasks.Task, now: int) -> None:
        """A task whose start was predicted starts."""
        off_ns = now - task.create_time - task.predicted_wait_ns
        task.predicted_wait_ns = estimate.UNKNOWN
        errors = self.late_errors if off_ns > 0 else self.early_errors
        errors.add(abs(off_ns) / units.SECOND)
