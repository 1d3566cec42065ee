"""An UpdateTaskRequest, checked, into the terms that are to be in force."""

import dataclasses
from typing import Final

from penstock.v1 import task_pb2, task_service_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.convert import times
from penstock_dispatcher.core import bounds, control, settings

CHANGEABLE: Final = ("priority", "schedule_time", "expire_time")
PATH_CHARS_SHOWN_MAX: Final = 100


def paths(request: task_service_pb2.UpdateTaskRequest) -> frozenset[str]:
    """The fields to change. Raises Refusal naming every path that cannot be."""
    named = set(request.update_mask.paths)
    if named == {"*"}:
        return frozenset(CHANGEABLE)
    bad = sorted(named.difference(CHANGEABLE))
    if bad:
        raise errors.invalid_fields(
            [
                settings.Violation(
                    "update_mask",
                    f"must not name {path[:PATH_CHARS_SHOWN_MAX]!r}:"
                    f" only {', '.join(CHANGEABLE)} can be changed",
                )
                for path in bad[: len(CHANGEABLE)]
            ]
        )
    found = named or {field for field in CHANGEABLE if request.task.HasField(field)}
    if not found:
        raise errors.invalid("update_mask", f"must name some of {', '.join(CHANGEABLE)}")
    return frozenset(found)


def wanted(
    task: task_pb2.Task,
    changed: frozenset[str],
    *,
    before: control.Terms,
    create_time: int,
    may_expire: bool,
    config: settings.PoolSettings,
    now: int,
) -> control.Terms:
    """The terms with those fields changed. One that is not set is as if it had never been. What has
    an attempt or a loss behind it does not expire any more: `may_expire` is false. Raises Refusal.
    """
    found: list[settings.Violation] = []

    def bad(field: str, description: str) -> None:
        found.append(settings.Violation(field, description))

    def time(field: str, unset: int) -> int:
        if not task.HasField(field):  # type: ignore[arg-type]
            return unset
        times.check_time(getattr(task, field), f"task.{field}", bad)
        return times.time_ns(getattr(task, field))

    terms = before
    if "priority" in changed:
        priority = task.priority if task.HasField("priority") else config.default_priority
        terms = dataclasses.replace(terms, priority=priority)
    if "schedule_time" in changed:
        terms = dataclasses.replace(terms, schedule_time=time("schedule_time", 0))
    if "expire_time" in changed:
        unset = config.expire_time(now, terms.schedule_time)
        terms = dataclasses.replace(terms, expire_time=time("expire_time", unset))
    elif before.expire_time == config.expire_time(create_time, before.schedule_time):
        # The pool's time to live, which begins when the task may start.
        unset = config.expire_time(create_time, terms.schedule_time)
        terms = dataclasses.replace(terms, expire_time=unset)
    moved = (terms.schedule_time, terms.expire_time) != (before.schedule_time, before.expire_time)
    if not found and moved and may_expire and 0 < terms.expire_time <= terms.schedule_time:
        said = "expire_time" if task.HasField("expire_time") else "schedule_time"
        bad(f"task.{said}", bounds.NEVER_IN_TIME)
    if found:
        raise errors.invalid_fields(found)
    return terms
