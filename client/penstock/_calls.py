"""Each verb as a value: what to send, where, and how to read the answer.

Both clients run these; neither knows a message. A `Call` is built once and may be sent again, as it
is or for what is left of its wait (`after`): reads have no effect, a submission carries its
`request_id`, and what has been cancelled stays cancelled.
"""

import dataclasses
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from google.protobuf import empty_pb2, message

from penstock import _mistakes, _pools, _submission, _task, _times, errors
from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2

PAGE_SIZE: Final = 100
PAGE_SIZE_MAX: Final = 1000
TASKS: Final = "/penstock.v1.TaskService/"
POOLS: Final = "/penstock.v1.PoolService/"
STREAM_SUBMIT: Final = TASKS + "StreamSubmitTasks"
WATCH: Final = TASKS + "WatchTasks"
_PLAIN_KEY: Final = re.compile(r"[-\w./]+", re.ASCII)

Answer = TypeVar("Answer", bound=message.Message)
Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, slots=True)
class Call(Generic[Answer, Value]):
    """One unary call. `read` turns the answer into a value of ours."""

    path: str
    request: message.Message
    answer: type[Answer]
    read: Callable[[Answer], Value]
    hold_seconds: float = 0.0
    """How long the dispatcher may hold it, beside the time that answering takes."""

    def after(self, waited_seconds: float) -> "Call[Answer, Value]":
        """As it is sent when its caller has waited for room so long already: for what is left. When
        nothing is, the dispatcher is asked all the same: it may have let the task in before.
        """
        request = self.request
        if not waited_seconds or not isinstance(request, task_service_pb2.SubmitTaskRequest):
            return self
        if not request.HasField("max_wait") and not request.HasField("max_queue_time"):
            return self
        rest = task_service_pb2.SubmitTaskRequest()
        rest.CopyFrom(request)
        for limit, name in ((rest.max_wait, "max_wait"), (rest.max_queue_time, "max_queue_time")):
            if rest.HasField(name):  # type: ignore[arg-type]
                left = max(0.0, _times.from_duration(limit) - waited_seconds)
                limit.CopyFrom(_times.to_duration(left, name=name))
        return dataclasses.replace(self, request=rest)


@dataclasses.dataclass(frozen=True, slots=True)
class Page(Generic[Value]):
    """Some of a list, and the token of the next page; empty = that was all."""

    items: tuple[Value, ...]
    next_token: str


def submit(
    submission: _submission.Submission,
    *,
    parent: str,
    admission: _submission.Admission,
    max_wait: _times.Seconds | None,
    validate_only: bool,
) -> Call[task_service_pb2.SubmitTaskResponse, _task.Task]:
    """Raises ValueError or TypeError for what can never be right."""
    request = _submission.to_wire(
        submission,
        parent=parent,
        request_id=str(uuid.uuid4()),
        now=_submission.utc_now,
        admission=admission,
        max_wait=max_wait,
        validate_only=validate_only,
    )
    return Call(
        TASKS + "SubmitTask",
        request,
        task_service_pb2.SubmitTaskResponse,
        lambda answer: _task.from_wire(answer.task),
        hold_seconds=_submission.hold_seconds(admission, max_wait),
    )


def submit_batch(
    batch: task_service_pb2.BatchSubmitTasksRequest,
) -> Call[task_service_pb2.BatchSubmitTasksResponse, task_service_pb2.BatchSubmitTasksResponse]:
    """One batch without a stream."""
    answer = task_service_pb2.BatchSubmitTasksResponse
    return Call(TASKS + "BatchSubmitTasks", batch, answer, lambda found: found)


def get(name: str) -> Call[task_pb2.Task, _task.Task]:
    """One task, with payload and result."""
    request = task_service_pb2.GetTaskRequest(name=name)
    return Call(TASKS + "GetTask", request, task_pb2.Task, _task.from_wire)


def wait(name: str, seconds: float) -> Call[task_pb2.Task, _task.Task]:
    """The task when it is over or `seconds` have passed."""
    request = task_service_pb2.WaitTaskRequest(
        name=name, timeout=_times.to_duration(seconds, name="timeout")
    )
    return Call(TASKS + "WaitTask", request, task_pb2.Task, _task.from_wire)


def cancel(name: str, *, reason: str) -> Call[task_pb2.Task, _task.Task]:
    """Ask for its end."""
    request = task_service_pb2.CancelTaskRequest(name=name, reason=reason)
    return Call(TASKS + "CancelTask", request, task_pb2.Task, _task.from_wire)


def retry(name: str) -> Call[task_pb2.Task, _task.Task]:
    """Queue it again."""
    request = task_service_pb2.RetryTaskRequest(name=name)
    return Call(TASKS + "RetryTask", request, task_pb2.Task, _task.from_wire)


def delete(name: str, *, etag: str) -> Call[empty_pb2.Empty, None]:
    """Forget it."""
    request = task_service_pb2.DeleteTaskRequest(name=name, etag=etag)
    return Call(TASKS + "DeleteTask", request, empty_pb2.Empty, lambda _: None)


def tasks(
    *, parent: str, query: str, page_size: int, token: str
) -> Call[task_service_pb2.ListTasksResponse, Page[_task.Task]]:
    """A page of tasks, without payloads and results."""
    request = task_service_pb2.ListTasksRequest(
        parent=parent, filter=query, page_size=page_size, page_token=token
    )

    def read(answer: task_service_pb2.ListTasksResponse) -> Page[_task.Task]:
        return Page(tuple(map(_task.from_wire, answer.tasks)), answer.next_page_token)

    return Call(TASKS + "ListTasks", request, task_service_pb2.ListTasksResponse, read)


def pool(name: str) -> Call[pool_service_pb2.Pool, _pools.PoolInfo]:
    """One pool."""
    request = pool_service_pb2.GetPoolRequest(name=name)
    return Call(POOLS + "GetPool", request, pool_service_pb2.Pool, _pools.pool_from_wire)


def pause(name: str, *, reason: str) -> Call[pool_service_pb2.Pool, _pools.PoolInfo]:
    """Stop dispatch."""
    request = pool_service_pb2.PausePoolRequest(name=name, reason=reason)
    return Call(POOLS + "PausePool", request, pool_service_pb2.Pool, _pools.pool_from_wire)


def resume(name: str) -> Call[pool_service_pb2.Pool, _pools.PoolInfo]:
    """Take a pause back."""
    request = pool_service_pb2.ResumePoolRequest(name=name)
    return Call(POOLS + "ResumePool", request, pool_service_pb2.Pool, _pools.pool_from_wire)


def drain(
    name: str, *, seconds: float, reason: str
) -> Call[pool_service_pb2.Pool, _pools.PoolInfo]:
    """Admit nothing more; the pool when it is drained or `seconds` have passed."""
    request = pool_service_pb2.DrainPoolRequest(
        name=name, reason=reason, timeout=_times.to_duration(seconds, name="max_wait")
    )
    return Call(POOLS + "DrainPool", request, pool_service_pb2.Pool, _pools.pool_from_wire)


def purge(
    name: str, *, query: str, force: bool
) -> Call[pool_service_pb2.PurgePoolResponse, _pools.Purge]:
    """Delete what waits, or count it."""
    request = pool_service_pb2.PurgePoolRequest(name=name, filter=query, force=force)
    answer = pool_service_pb2.PurgePoolResponse
    return Call(
        POOLS + "PurgePool",
        request,
        answer,
        lambda found: _pools.Purge(found.purge_count, tuple(found.purge_sample), deleted=force),
    )


def restore(
    name: str, *, from_uid: str, dry_run: bool
) -> Call[pool_service_pb2.RestorePoolResponse, _pools.Restore]:
    """Move what waits in a deleted pool, or count it."""
    request = pool_service_pb2.RestorePoolRequest(
        name=name, from_uid=from_uid, validate_only=dry_run
    )
    return Call(
        POOLS + "RestorePool",
        request,
        pool_service_pb2.RestorePoolResponse,
        lambda found: _pools.restore_from_wire(found, moved=not dry_run),
    )


def undrain(name: str) -> Call[pool_service_pb2.Pool, _pools.PoolInfo]:
    """Take a drain back."""
    request = pool_service_pb2.UndrainPoolRequest(name=name)
    return Call(POOLS + "UndrainPool", request, pool_service_pb2.Pool, _pools.pool_from_wire)


def pools(
    *, parent: str, token: str
) -> Call[pool_service_pb2.ListPoolsResponse, Page[_pools.PoolInfo]]:
    """A page of pools."""
    request = pool_service_pb2.ListPoolsRequest(
        parent=parent, page_size=PAGE_SIZE_MAX, page_token=token
    )

    def read(answer: pool_service_pb2.ListPoolsResponse) -> Page[_pools.PoolInfo]:
        return Page(tuple(map(_pools.pool_from_wire, answer.pools)), answer.next_page_token)

    return Call(POOLS + "ListPools", request, pool_service_pb2.ListPoolsResponse, read)


def workers(
    *, parent: str, token: str
) -> Call[pool_service_pb2.ListWorkersResponse, Page[_pools.WorkerInfo]]:
    """A page of a pool's workers."""
    request = pool_service_pb2.ListWorkersRequest(
        parent=parent, page_size=PAGE_SIZE_MAX, page_token=token
    )

    def read(answer: pool_service_pb2.ListWorkersResponse) -> Page[_pools.WorkerInfo]:
        return Page(tuple(map(_pools.worker_from_wire, answer.workers)), answer.next_page_token)

    return Call(POOLS + "ListWorkers", request, pool_service_pb2.ListWorkersResponse, read)


def task_filter(
    *,
    state: _task.TaskState | None,
    task_type: str | None,
    priority: int | None,
    labels: Mapping[str, str] | None,
) -> str:
    """The terms that `ListTasks` knows, joined by AND: whatever a type or a label may be, this says
    exactly that.
    """
    terms = []
    if state is not None:
        terms.append(f"state={state.value}")
    if task_type is not None:
        _mistakes.text("task_type", task_type)
        terms.append(f"type={_quoted(task_type)}")
    if priority is not None:
        terms.append(f"priority={priority}")
    labels = labels or {}
    _mistakes.texts("labels", labels)
    for key, value in labels.items():
        # A dispatcher of an older version knows no quoted keys.
        said = key if _PLAIN_KEY.fullmatch(key) else _quoted(key)
        terms.append(f"label.{said}={_quoted(value)}")
    return " AND ".join(terms)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def failure_of(task: _task.Task) -> errors.TaskError | None:
    """Why a task that is over has no result; None if it has one."""
    match task.state:
        case _task.TaskState.SUCCEEDED:
            return None
        case _task.TaskState.CANCELLED:
            return errors.TaskCancelled(f"{task.name} was cancelled", task=task)
        case _task.TaskState.EXPIRED:
            return errors.TaskExpired(f"{task.name} expired before it could start", task=task)
        case _task.TaskState.DEAD_LETTERED:
            kind: type[errors.TaskError] = errors.TaskDeadLettered
        case _task.TaskState.FAILED:
            kind = errors.TaskFailed
        case _:
            kind = errors.TaskError
    cause = task.error
    said = f"{cause.reason or 'error'}: {cause.message}" if cause else "no cause was recorded"
    verb = "was dead-lettered" if kind is errors.TaskDeadLettered else "failed"
    text = f"{task.name} {verb} after attempt {task.attempt}: {said}"
    return kind(text, task=task, reason=cause.reason if cause else "")
