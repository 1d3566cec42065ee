"""Changing what waits, and one verb for many tasks: what to ask for, and what comes of it. Pure."""

import dataclasses
import datetime as dt
import enum
from collections.abc import Iterable, Mapping
from typing import Final

from penstock import _calls, _settings, _task, _times
from penstock.v1 import task_pb2, task_service_pb2

NAMES_MAX: Final = 1_000
"""Tasks that one call names."""
EVERY: Final = "*"


class Keep(enum.Enum):
    """What is not to be changed."""

    KEEP = "KEEP"


KEEP: Final = Keep.KEEP


@dataclasses.dataclass(frozen=True, slots=True)
class Bulk:
    """How many tasks were meant, and the names of the first of them, at most 100."""

    count: int
    sample: tuple[str, ...]
    _: dataclasses.KW_ONLY
    done: bool
    """False = that was a preview."""


Update = _calls.Call[task_pb2.Task, _task.Task]
Cancel = _calls.Call[task_service_pb2.BatchCancelTasksResponse, Bulk]
Retry = _calls.Call[task_service_pb2.BatchRetryTasksResponse, Bulk]


def update(
    name: str,
    *,
    priority: int | Keep | None,
    schedule_time: dt.datetime | Keep | None,
    expire_time: dt.datetime | Keep | None,
    etag: str,
) -> Update:
    """Other terms for a task that waits. Raises ValueError if nothing is to be changed."""
    request = task_service_pb2.UpdateTaskRequest(task=task_pb2.Task(name=name, etag=etag))
    task, paths = request.task, request.update_mask.paths
    if not isinstance(priority, Keep):
        paths.append("priority")
        if priority is not None:
            task.priority = priority
    for field, value in (("schedule_time", schedule_time), ("expire_time", expire_time)):
        if isinstance(value, Keep):
            continue
        paths.append(field)
        if value is not None:
            getattr(task, field).CopyFrom(_times.to_timestamp(value, name=field))
    if not paths:
        raise ValueError("nothing is to be changed: give a priority, schedule_time or expire_time")
    return _calls.Call(_calls.TASKS + "UpdateTask", request, task_pb2.Task, _task.from_wire)


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """What one call is about: some tasks of a pool by name, or those that a filter finds."""

    parent: str
    names: tuple[str, ...] = ()
    query: str = ""


def named(names: Iterable[str]) -> list[Selection]:
    """Full names, by pool, in calls of at most `NAMES_MAX`."""
    by_pool: dict[str, list[str]] = {}
    for name in names:
        by_pool.setdefault(name.rpartition("/tasks/")[0], []).append(name)
    return [
        Selection(pool, tuple(of_pool[first : first + NAMES_MAX]))
        for pool, of_pool in by_pool.items()
        for first in range(0, len(of_pool), NAMES_MAX)
    ]


def chosen(
    settings: _settings.Settings,
    tasks: Iterable[_task.Task | str],
    *,
    pool: str | None,
    query: str,
    state: _task.TaskState | None,
    task_type: str | None,
    priority: int | None,
    labels: Mapping[str, str] | None,
) -> list[Selection]:
    """What is meant: tasks, or one filter of all terms on the pool. Raises ValueError for both, and
    for neither.
    """
    by_name = named(settings.task_name(task, pool) for task in tasks)
    terms = _calls.task_filter(state=state, task_type=task_type, priority=priority, labels=labels)
    # As it is: outer blanks are the dispatcher's to judge, they may be meant as part of a value.
    said = "" if terms and query.strip() == EVERY else query
    said = " AND ".join(each for each in (said, terms) if each.strip())
    if bool(by_name) == bool(said):
        raise ValueError(
            f"give tasks, or a filter, and not both: query={EVERY!r} means every task of the pool"
        )
    return by_name or [Selection(settings.pool_name(pool), query=said)]


def cancel_many(these: Selection, *, reason: str, preview: bool) -> Cancel:
    """Cancel them, or count them."""
    request = task_service_pb2.BatchCancelTasksRequest(
        parent=these.parent,
        names=these.names,
        filter=these.query,
        reason=reason,
        validate_only=preview,
    )
    return _calls.Call(
        _calls.TASKS + "BatchCancelTasks",
        request,
        task_service_pb2.BatchCancelTasksResponse,
        lambda found: Bulk(found.cancelled_count, tuple(found.names), done=not preview),
    )


def retry_many(these: Selection, *, preview: bool) -> Retry:
    """Queue them again, or count them."""
    request = task_service_pb2.BatchRetryTasksRequest(
        parent=these.parent, names=these.names, filter=these.query, validate_only=preview
    )
    return _calls.Call(
        _calls.TASKS + "BatchRetryTasks",
        request,
        task_service_pb2.BatchRetryTasksResponse,
        lambda found: Bulk(found.retried_count, tuple(found.names), done=not preview),
    )


SAMPLE_MAX: Final = 100


def together(parts: Iterable[Bulk], *, preview: bool) -> Bulk:
    """Several answers as one."""
    found = list(parts)
    names = tuple(name for part in found for name in part.sample)
    return Bulk(sum(part.count for part in found), names[:SAMPLE_MAX], done=not preview)
