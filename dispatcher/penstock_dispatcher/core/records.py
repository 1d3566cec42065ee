"""What the journal must remember: one immutable record for each change that a crash may not take
back.

Records describe state, not events: a journal applies them to tables (last one wins), so that
loading reads what is alive and nothing else. A task's key is its pool and its admission sequence:
keys that only grow are what a journal writes fastest. Leases are not among them: after a restart
workers say themselves what they run.

`RecordLog` numbers records across all pools of the installation. A shell takes what has gathered,
writes it in order, and reports the last number that is durable.
"""

from typing import Any, Final, NamedTuple

from penstock_dispatcher.core import task as tasks

_made: Final[Any] = tuple.__new__
"""A named tuple's own constructor is interpreted: for the two records that each task has, its
fields are given to that of tuples, in their order."""


class TaskAccepted(NamedTuple):
    """A new task; the row begins. `token_min`: every fencing token of this task is at least that,
    every token of before is less.
    """

    pool_uid: str
    task_id: str
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
    request_id: str
    fingerprint: int
    token_min: int
    fairness_key: str = ""
    concurrency_key: str = ""
    slots: int = 1


def accepted(pool_uid: str, task: tasks.Task) -> TaskAccepted:
    """The record of a task that was just made."""
    columns = (
        pool_uid,
        task.id,
        task.uid,
        task.sequence,
        task.type,
        task.priority,
        task.body,
        task.size,
        task.create_time,
        task.not_before,
        task.expire_time,
        task.execution_timeout_ns,
        task.request_id,
        task.fingerprint,
        task.fencing_token,
        task.fairness_key,
        task.concurrency_key,
        task.slots,
    )
    made: TaskAccepted = _made(TaskAccepted, columns)
    return made


class TaskRequeued(NamedTuple):
    """Waits again: after a failed attempt, a lost worker, a hand-back, or because somebody asked
    for it.
    """

    pool_uid: str
    sequence: int
    task_id: str
    attempt: int
    worker_losses: int
    not_before: int
    failure: tasks.Failure | None


def requeued(pool_uid: str, task: tasks.Task) -> TaskRequeued:
    """How the task waits."""
    return TaskRequeued(
        pool_uid,
        task.sequence,
        task.id,
        task.attempt,
        task.worker_losses,
        task.not_before,
        task.failure,
    )


class TaskRedriven(NamedTuple):
    """It had ended, and waits again as if it had never started: no attempts, no losses, and no time
    to start by. Tokens of before are less than `token_min`.
    """

    pool_uid: str
    sequence: int
    task_id: str
    token_min: int
    failure: tasks.Failure | None


class TaskUpdated(NamedTuple):
    """It waits under other terms: all of them, as they are from then on."""

    pool_uid: str
    sequence: int
    task_id: str
    priority: int
    schedule_time: int
    expire_time: int
    not_before: int


def updated(pool_uid: str, task: tasks.Task) -> TaskUpdated:
    """The task's terms."""
    return TaskUpdated(
        pool_uid,
        task.sequence,
        task.id,
        task.priority,
        task.schedule_time,
        task.expire_time,
        task.not_before,
    )


class TaskCancelling(NamedTuple):
    """Somebody wants it to stop while it runs: it never starts again. The other fields are as if it
    had been handed back.
    """

    pool_uid: str
    sequence: int
    task_id: str
    attempt: int
    worker_losses: int
    failure: tasks.Failure | None


class TaskCheckpointed(NamedTuple):
    """What the next attempt begins with, in place of the one of before; gone when the task ends."""

    pool_uid: str
    sequence: int
    task_id: str
    checkpoint: bytes


class TaskEnded(NamedTuple):
    """Its one recorded outcome."""

    pool_uid: str
    sequence: int
    task_id: str
    state: tasks.TaskState
    attempt: int
    worker_losses: int
    start_time: int
    end_time: int
    execution_time_ns: int
    worker: str
    failure: tasks.Failure | None
    result: bytes
    result_content_type: str


def ended(pool_uid: str, task: tasks.Task) -> TaskEnded:
    """The outcome that the task has."""
    columns = (
        pool_uid,
        task.sequence,
        task.id,
        task.state,
        task.attempt,
        task.worker_losses,
        task.start_time,
        task.end_time,
        task.execution_time_ns,
        task.worker,
        task.failure,
        task.result,
        task.result_content_type,
    )
    made: TaskEnded = _made(TaskEnded, columns)
    return made


class TaskDeleted(NamedTuple):
    """Retention ended; the row ends. The request id lives on by itself."""

    pool_uid: str
    sequence: int
    task_id: str


class TaskMoved(NamedTuple):
    """A task of a deleted pool goes over to `pool_uid`: its row there begins, with what had become
    of it, and the one in the other pool ends. One record, so that no crash comes between.
    """

    pool_uid: str
    accepted: TaskAccepted
    change: TaskRequeued | TaskEnded | None
    checkpoint: TaskCheckpointed | None
    deleted: TaskDeleted

    @property
    def parts(
        self,
    ) -> tuple[TaskAccepted | TaskRequeued | TaskEnded | TaskCheckpointed | TaskDeleted, ...]:
        """What it says, each of one pool; to be written all or none."""
        became = (each for each in (self.change, self.checkpoint) if each is not None)
        return self.accepted, *became, self.deleted


class RequestForgotten(NamedTuple):
    """An idempotency key is past its time."""

    pool_uid: str
    sequence: int
    request_id: str


class SessionOpened(NamedTuple):
    """A worker said Hello: from now on it may run tasks of this pool."""

    pool_uid: str
    session_id: str
    pod_name: str
    pod_uid: str


class SessionClosed(NamedTuple):
    """The worker can no longer be running anything."""

    pool_uid: str
    session_id: str


class WorkerDrained(NamedTuple):
    """The pod confirmed that it is drained: a tombstone until the pod is gone."""

    pool_uid: str
    pod_uid: str


class WorkerForgotten(NamedTuple):
    """The drained pod is gone."""

    pool_uid: str
    pod_uid: str


class PoolConfigured(NamedTuple):
    """`config` is the serialized `penstock.v1.PoolConfig` in force."""

    pool_uid: str
    name: str
    config: bytes


class PoolLatched(NamedTuple):
    """The API's latches, and when the manifest went away (0 = it is there)."""

    pool_uid: str
    paused: bool
    closed_time: int
    draining: bool = False


class PoolPurged(NamedTuple):
    """Everything of this pool is forgotten."""

    pool_uid: str


class OperatorSeen(NamedTuple):
    """The highest epoch of an operator's leadership so far: a lower one stays refused across
    restarts.
    """

    epoch: int


Record = (
    TaskAccepted
    | TaskRequeued
    | TaskRedriven
    | TaskUpdated
    | TaskCancelling
    | TaskCheckpointed
    | TaskEnded
    | TaskDeleted
    | TaskMoved
    | RequestForgotten
    | SessionOpened
    | SessionClosed
    | WorkerDrained
    | WorkerForgotten
    | PoolConfigured
    | PoolLatched
    | PoolPurged
    | OperatorSeen
)


class RecordLog:
    """Numbers records in the order they came to be. `last` is the number of the newest one, 0 =
    none yet.
    """

    __slots__ = ("_gathered", "last")

    def __init__(self) -> None:
        self.last = 0
        self._gathered: list[Record] = []

    def append(self, record: Record) -> int:
        """Returns the record's log sequence number."""
        self._gathered.append(record)
        self.last += 1
        return self.last

    def take(self) -> list[Record]:
        """What has gathered since the last take, in order; the newest has number `last`."""
        taken, self._gathered = self._gathered, []
        return taken

    def __len__(self) -> int:
        return len(self._gathered)
