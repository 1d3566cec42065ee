"""Whether a task may enter: decided at once, exactly, with the reason.

The bounds count every task that waits or is being committed; tasks that run do not count. Requeues
are never refused: they can put a pool, or a key, over its bound, and admission then stays closed
until it is back under. See `bounds`.
"""

import dataclasses
import enum
from typing import Final

from penstock_dispatcher import compiling
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.core import units

RETRY_AFTER_MIN_NS: Final = 50 * units.MILLISECOND
RETRY_AFTER_MAX_NS: Final = 30 * units.SECOND
RETRY_AFTER_UNKNOWN_NS: Final = units.SECOND
"""Nothing is known: no worker, or a pool that does not dispatch."""


class AdmissionReason(enum.Enum):
    """Stable names; refusals are the wire's ErrorInfo reasons."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    QUEUE_FULL = "QUEUE_FULL"
    KEY_QUEUE_FULL = "KEY_QUEUE_FULL"
    TOO_MANY_WAITERS = "TOO_MANY_WAITERS"
    ADMISSION_TIMEOUT = "ADMISSION_TIMEOUT"
    DEADLINE_UNREACHABLE = "DEADLINE_UNREACHABLE"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    TASK_EXISTS = "TASK_EXISTS"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    UNSCHEDULABLE = "UNSCHEDULABLE"
    POOL_CLOSED = "POOL_CLOSED"
    DRAINING = "DRAINING"


# By name in an Enum they are found anew each time.
_ACCEPTED: Final = AdmissionReason.ACCEPTED
_DUPLICATE: Final = AdmissionReason.DUPLICATE
NO_ROOM: Final = frozenset({AdmissionReason.QUEUE_FULL, AdmissionReason.KEY_QUEUE_FULL})
"""Refusals of what will fit once others have left: a caller can wait for that."""


@compiling.mypyc_attr(acyclic=True)
@dataclasses.dataclass(slots=True, init=False)
class Admission:
    """`task` is set when accepted, and when a duplicate's task is still known. `lsn`: be silent
    until it is durable.

    `task_id` names the task also when it is no longer known (its retention has ended).
    """

    reason: AdmissionReason
    task_id: str
    lsn: int
    task: tasks.Task | None
    retry_after_ns: int
    estimated_wait_ns: int
    """With DEADLINE_UNREACHABLE: when it would have started."""
    message: str
    key: str
    """The fairness key that is concerned, if only one is."""

    def __init__(
        self,
        reason: AdmissionReason,
        task_id: str,
        lsn: int = 0,
        task: tasks.Task | None = None,
        retry_after_ns: int = 0,
        estimated_wait_ns: int = 0,
        message: str = "",
        key: str = "",
    ) -> None:
        self.reason = reason
        self.task_id = task_id
        self.lsn = lsn
        self.task = task
        self.retry_after_ns = retry_after_ns
        self.estimated_wait_ns = estimated_wait_ns
        self.message = message
        self.key = key

    @property
    def admitted(self) -> bool:
        """New, or the same as an earlier one."""
        return self.reason is _ACCEPTED or self.reason is _DUPLICATE


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Waiter:
    """A submission whose caller waits for room (see `waiting_room`). Mutable, and the pool's."""

    wanted: tasks.Submission
    priority: int
    deadline: int
    wait_ns: int
    waits: bool = True
    """Neither answered nor gone yet."""


def retry_after_ns(wait_ns: int) -> int:
    """When to come back for a place that is predicted to come free after `wait_ns` (negative =
    unknown), within named bounds.
    """
    if wait_ns < 0:
        return RETRY_AFTER_UNKNOWN_NS
    return max(RETRY_AFTER_MIN_NS, min(RETRY_AFTER_MAX_NS, wait_ns))
