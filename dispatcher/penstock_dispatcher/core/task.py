"""A task as the core sees it: what decides about order, retries and retention, plus opaque bytes.

`body` holds the submitted fields of `penstock.v1.Task`, serialized; the core never looks inside. A
`Task` is mutable and belongs to its pool: only the pool's verbs change it, and each change that
must survive is mirrored by a journal record (see `records`), whose log sequence number is kept in
`lsn`: a reader must not be shown the task before that number is durable.
"""

import dataclasses
import enum
from typing import TYPE_CHECKING, NamedTuple

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


class Place(enum.Enum):
    """Where a waiting task lies; anything else lies nowhere."""

    NOWHERE = 0
    COMMITTING = 1
    """Its record is not durable yet."""
    HELD = 2
    """Loaded at start; a worker of before may still be running it."""
    QUEUED = 3


Shape = str | tuple[str, int]
"""What a worker must have to run a task: its type, and how many slots if it takes more than one."""

WAITING = frozenset({TaskState.DELAYED, TaskState.PENDING})
IN_FLIGHT = frozenset({TaskState.RUNNING, TaskState.CANCELLING})
TERMINAL = frozenset(TaskState) - WAITING - IN_FLIGHT


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `code` is a gRPC status code; `status` is the worker's serialized
    google.rpc.Status, if it sent one.
    """

    code: int
    reason: str
    message: str
    status: bytes = b""


class Submission(NamedTuple):
    """A checked request to add a task. Times in nanoseconds, 0 = unset; `priority` None = the
    pool's default. To be made by name.

    `fingerprint` tells whether two bodies under one `request_id` are the same; any stable 64-bit
    hash will do.
    """

    task_id: str
    type: str
    body: bytes
    size: int
    uid: str = ""
    priority: int | None = None
    not_before: int = 0
    expire_time: int = 0
    execution_timeout_ns: int = 0
    retry: settings.RetryPolicy | None = None
    request_id: str = ""
    fingerprint: int = 0
    fairness_key: str = ""
    concurrency_key: str = ""
    slots: int = 1


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
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
    fingerprint: int = 0
    """Of what was asked, where there is a request id."""
    fairness_key: str = ""
    concurrency_key: str = ""
    slots: int = 1
    """Slots of a worker that it takes."""
    attempt: int = 0
    worker_losses: int = 0
    start_time: int = 0
    end_time: int = 0
    execution_time_ns: int = 0
    worker: str = ""
    failure: Failure | None = None
    result: bytes = b""
    result_content_type: str = ""
    progress: bytes = b""
    lsn: int = 0
    place: Place = Place.NOWHERE
    ticket: int = 0
    """Bumped each time it leaves those that wait: entries of an earlier stay are dead."""
    cancelling: bool = False
    """Somebody wants it to stop, durably: whatever becomes of its lease, it never starts again."""
    fencing_token: int = 0
    """The highest token handed out for it that this process knows of; at first, the lowest that it
    can have. A claim of a lower one is out of date, or means an earlier task with the same id.
    """
    lease: "leases.Lease | None" = None

    @property
    def shape(self) -> Shape:
        """See `Shape`."""
        return self.type if self.slots == 1 else (self.type, self.slots)

    @property
    def terminal(self) -> bool:
        """Has a recorded outcome."""
        return self.state in TERMINAL
