"""Watching tasks, pure: what to ask for, what a change says, and when to ask again.

A watch is a chain of streams: when one breaks, the next asks for what has changed since the last
event that was read, so a watch goes on through restarts of the dispatcher. Times are monotonic
seconds.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from penstock import _retry, _task, _times, errors
from penstock.v1 import task_service_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class TaskChange:
    """One change of a task. `task` is without payload and result; `previous` None = it is new, or
    is shown as it is. `resume_token` lets a later watch go on from here.
    """

    task: _task.Task
    previous: _task.TaskState | None
    time: dt.datetime
    resume_token: str


class Watch:
    """One watch. `patience_seconds` is how long nobody may answer."""

    def __init__(
        self,
        *,
        parent: str,
        names: Sequence[str],
        query: str,
        resume_token: str,
        patience_seconds: float,
    ) -> None:
        self._parent = parent
        self._names = names
        self._query = query
        self._token = resume_token
        self._patience_seconds = patience_seconds
        self._attempts: _retry.Attempts | None = None

    def request(self) -> task_service_pb2.WatchTasksRequest:
        """What the next stream asks for."""
        return task_service_pb2.WatchTasksRequest(
            parent=self._parent, names=self._names, filter=self._query, resume_token=self._token
        )

    def received(self, event: task_service_pb2.TaskEvent) -> TaskChange | None:
        """One event as a value; None = it only says how far this watch has come."""
        self._attempts, self._token = None, event.resume_token
        if not event.HasField("task"):
            return None
        return TaskChange(
            _task.from_wire(event.task),
            _task.state_from_wire(event.previous_state),
            _times.from_timestamp(event.event_time),
            event.resume_token,
        )

    def failed(self, error: errors.PenstockError, *, now: float, draw: float) -> float:
        """Returns how long to wait before the next stream; raises the error if there is none."""
        if self._attempts is None:
            self._attempts = _retry.Attempts(now=now, seconds=self._patience_seconds)
        return self._attempts.failed(error, now=now, draw=draw)
