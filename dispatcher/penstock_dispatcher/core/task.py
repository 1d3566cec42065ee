"""A task as the core sees it: what decides about order, retries and retention, plus opaque bytes.

`body` holds the submitted fields of `penstock.v1.Task`, serialized; the core never looks inside. A
`Task` is mutable and belongs to its pool: only the pool's verbs change it, and each change that
must survive is mirrored by a journal record (see `records`), whose log sequence number is kept in
`lsn`: a reader must not be shown the task before that number is durable.

What is made once for each task, here and in `effects`, has an `__init__` that is written out: one
that `dataclasses` makes stays interpreted where the core is compiled.
"""

import dataclasses
import enum
from typing import TYPE_CHECKING, Final

from penstock_dispatcher import compiling
from penstock_dispatcher.core import settings

if TYPE_CHECKING:
    from penstock_dispatcher.core import leases


class TaskState(enum.Enum):
    """Values are the wire's numbers (`penstock.v1.Task.State`)."""

    DELAYED = 1
    PENDING = 2
    RUNNING = 3
    CANCELLING = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    EXPIRED = 8
    DEAD_LETTERED = 9

    # An Enum's own one is Python, and sets of states are asked for each task.
    __hash__ = object.__hash__


class Place(enum.Enum):
    """Where a waiting task lies; anything else lies nowhere."""

    NOWHERE = 0
    COMMITTING = 1
    """Its record is not durable yet."""
    HELD = 2
    """Loaded at start; a worker of before may still be running it."""
    QUEUED = 3


WAITING: Final = frozenset({TaskState.DELAYED, TaskState.PENDING})
IN_FLIGHT: Final = frozenset({TaskState.RUNNING, TaskState.CANCELLING})
TERMINAL: Final = frozenset(TaskState) - WAITING - IN_FLIGHT
# By name in an Enum they are found anew each time.
_NOWHERE: Final = Place.NOWHERE


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `code` is a gRPC status code; `status` is the worker's serialized
    google.rpc.Status, if it sent one.
    """

    code: int
    reason: str
    message: str
    status: bytes = b""


@compiling.mypyc_attr(acyclic=True)
@dataclasses.dataclass(slots=True, init=False)
class Submission:
    """A checked request to add a task. Times in nanoseconds, 0 = unset; `priority` None = the
    pool's default.

    `fingerprint` tells whether two bodies under one `request_id` are the same; any stable 64-bit
    hash will do.
    """

    task_id: str
    type: str
    body: bytes
    size: int
    uid: str
    priority: int | None
    not_before: int
    expire_time: int
    execution_timeout_ns: int
    retry: settings.RetryPolicy | None
    request_id: str
    fingerprint: int
    fairness_key: str
    concurrency_key: str
    slots: int
    start_by: int
    """Not to be admitted unless it is predicted to start by then."""

    def __init__(
        self,
        *,
        task_id: str,
        type: str,  # noqa: A002 - the field's name
        body: bytes,
        size: int,
        uid: str = "",
        priority: int | None = None,
        not_before: int = 0,
        expire_time: int = 0,
        execution_timeout_ns: int = 0,
        retry: settings.RetryPolicy | None = None,
        request_id: str = "",
        fingerprint: int = 0,
        fairness_key: str = "",
        concurrency_key: str = "",
        slots: int = 1,
        start_by: int = 0,
    ) -> None:
        self.task_id = task_id
        self.type = type
        self.body = body
        self.size = size
        self.uid = uid
        self.priority = priority
        self.not_before = not_before
        self.expire_time = expire_time
        self.execution_timeout_ns = execution_timeout_ns
        self.retry = retry
        self.request_id = request_id
        self.fingerprint = fingerprint
        self.fairness_key = fairness_key
        self.concurrency_key = concurrency_key
        self.slots = slots
        self.start_by = start_by


@compiling.mypyc_attr(acyclic=True)
@dataclasses.dataclass(slots=True, init=False, eq=False)
class Task:
    """One task. See the module's docstring; times in nanoseconds since the epoch, 0 = not yet."""

    id: str
    uid: str
    sequence: int
    type: str
    priority: int
    body: bytes
    size: int
    create_time: int
    not_before: int
    expire_time: int
    execution_timeout_ns: int
    retry: settings.RetryPolicy
    request_id: str
    state: TaskState
    fingerprint: int
    """Of what was asked, where there is a request id."""
    fairness_key: str
    concurrency_key: str
    slots: int
    """Slots of a worker that it takes."""
    attempt: int
    worker_losses: int
    start_time: int
    end_time: int
    execution_time_ns: int
    worker: str
    failure: Failure | None
    result: bytes
    result_content_type: str
    progress: bytes
    """What the present attempt, or the last one, has told: a serialized penstock.v1.Progress."""
    checkpoint: bytes
    """For the next attempt. Counts in `size`; set it with `keep_checkpoint`."""
    schedule_time: int
    """From when on it may start, as somebody asked; a back-off moves `not_before` only."""
    lsn: int
    place: Place
    ticket: int
    """Bumped each time it leaves those that wait: entries of an earlier stay are dead."""
    predicted_wait_ns: int
    """How long it was predicted to wait when it was admitted; -1 = it was not (any more)."""
    cancelling: bool
    """Somebody wants it to stop, durably: whatever becomes of its lease, it never starts again."""
    fencing_token: int
    """The highest token handed out for it that this process knows of; at first, the lowest that it
    can have. A claim of a lower one is out of date, or means an earlier task with the same id.
    """
    charged: int
    """Bytes that the budget has been charged for it; see `budget`."""
    lease: "leases.Lease | None"

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 - the field's name
        uid: str,
        sequence: int,
        type: str,  # noqa: A002 - the field's name
        priority: int,
        body: bytes,
        size: int,
        create_time: int,
        not_before: int,
        expire_time: int,
        execution_timeout_ns: int,
        retry: settings.RetryPolicy,
        request_id: str,
        state: TaskState,
        fingerprint: int = 0,
        schedule_time: int = 0,
        fencing_token: int = 0,
        fairness_key: str = "",
        concurrency_key: str = "",
        slots: int = 1,
    ) -> None:
        self.id = id
        self.uid = uid
        self.sequence = sequence
        self.type = type
        self.priority = priority
        self.body = body
        self.size = size
        self.create_time = create_time
        self.not_before = not_before
        self.expire_time = expire_time
        self.execution_timeout_ns = execution_timeout_ns
        self.retry = retry
        self.request_id = request_id
        self.state = state
        self.fingerprint = fingerprint
        self.fairness_key = fairness_key
        self.concurrency_key = concurrency_key
        self.slots = slots
        self.attempt = self.worker_losses = 0
        self.start_time = self.end_time = self.execution_time_ns = 0
        self.worker = ""
        self.failure = None
        self.result = self.progress = self.checkpoint = b""
        self.result_content_type = ""
        self.schedule_time = schedule_time
        self.lsn = 0
        self.place = _NOWHERE
        self.ticket = 0
        self.predicted_wait_ns = -1
        self.cancelling = False
        self.fencing_token = fencing_token
        self.charged = 0
        self.lease = None

    def keep_checkpoint(self, checkpoint: bytes) -> None:
        """In place of the one of before; empty = none. Not while the task waits, where its size is
        counted.
        """
        self.size += len(checkpoint) - len(self.checkpoint)
        self.checkpoint = checkpoint

    @property
    def may_expire(self) -> bool:
        """It has never started, as far as counts tell. Does not change while it waits."""
        return self.attempt == 0 and self.worker_losses == 0

    @property
    def terminal(self) -> bool:
        """Has a recorded outcome."""
        return self.state in TERMINAL
