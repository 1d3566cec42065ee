"""A task of the core as the wire shows it."""

from typing import Final

from google.rpc import error_details_pb2, status_pb2

from penstock.v1 import task_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.convert import frames, times
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks

PAYLOAD: Final = task_pb2.Task.DESCRIPTOR.fields_by_name["payload"].number
POSITION_UNKNOWN = -1


def etag(task: tasks.Task) -> str:
    """Changes whenever the task does."""
    charged = f"{task.attempt}-{task.worker_losses}"
    terms = f"{task.priority:x}-{task.schedule_time:x}-{task.expire_time:x}"
    return f'"{task.sequence:x}-{task.state.value}-{charged}-{task.end_time:x}-{terms}"'


def view(
    task: tasks.Task, pool_name: str, *, payload: bool = True, result: bool = True
) -> task_pb2.Task:
    """The whole task, or without its two large parts."""
    shown = task_pb2.Task.FromString(task.body if payload else frames.without(task.body, PAYLOAD))
    shown.name = f"{pool_name}/tasks/{task.id}"
    shown.uid = task.uid
    shown.state = task.state.value  # type: ignore[assignment]
    shown.priority = task.priority
    shown.attempt = task.attempt
    shown.worker_losses = task.worker_losses
    shown.worker = task.worker
    shown.etag = etag(task)
    for field, moment in (
        ("create_time", task.create_time),
        ("start_time", task.start_time),
        ("end_time", task.end_time),
        ("schedule_time", task.schedule_time),
        ("expire_time", task.expire_time),
    ):
        if moment:
            getattr(shown, field).CopyFrom(times.timestamp(moment))
        else:
            shown.ClearField(field)  # type: ignore[arg-type]
    if task.execution_time_ns:
        shown.execution_time.CopyFrom(times.duration(task.execution_time_ns))
    if task.progress:
        shown.progress.MergeFromString(task.progress)
    if task.failure is not None:
        shown.error.CopyFrom(failure_status(task.failure))
    if result:
        shown.result = task.result
        shown.result_content_type = task.result_content_type
    if task.state is tasks.TaskState.PENDING:
        shown.queue_position = POSITION_UNKNOWN
    return shown


def view_waiting(task: tasks.Task, pool: pools.Pool, now: int) -> task_pb2.Task:
    """The whole task; if it waits for a slot, also where it stands and how long that will take."""
    shown = view(task, pool.name)
    if task.state is tasks.TaskState.PENDING:
        shown.queue_position = pool.forecast.position(task)
        wait_ns = pool.forecast.at(shown.queue_position, now)
        if wait_ns >= 0:
            shown.estimated_wait.CopyFrom(times.duration(wait_ns))
    return shown


def moment(task: tasks.Task, pool_name: str, state: tasks.TaskState) -> task_pb2.Task:
    """The task in a state that it may have left meanwhile; then it says less of what has become of
    it, which may not be durable. Without payload and result.
    """
    if state is task.state:
        return view(task, pool_name, payload=False, result=False)
    shown = task_pb2.Task.FromString(frames.without(task.body, PAYLOAD))
    shown.name = f"{pool_name}/tasks/{task.id}"
    shown.uid = task.uid
    shown.state = state.value  # type: ignore[assignment]
    shown.priority = task.priority
    shown.create_time.CopyFrom(times.timestamp(task.create_time))
    return shown


def failure_status(failure: tasks.Failure) -> status_pb2.Status:
    """The worker's own status if it sent one, else one made of the dispatcher's words."""
    if failure.status:
        return status_pb2.Status.FromString(failure.status)
    status = status_pb2.Status(code=failure.code, message=failure.message)
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(reason=failure.reason, domain=errors.DOMAIN)
    )
    return status
