"""The verbs that change tasks which wait, and those that act on many, for `SyncClient`."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TypeVar

from google.protobuf import message

from penstock import _calls, _control, _retry, _settings, _task, _times

_Answer = TypeVar("_Answer", bound=message.Message)
_Value = TypeVar("_Value")


class Controlling:
    """A part of `SyncClient`, which has the rest."""

    _settings: _settings.Settings

    def _run(
        self,
        call: _calls.Call[_Answer, _Value],
        *,
        seconds: float,
        retry: _retry.Retry | None = None,
    ) -> _Value:
        raise NotImplementedError

    def update(
        self,
        task: _task.Task | str,
        *,
        priority: int | _control.Keep | None = _control.KEEP,
        schedule_time: dt.datetime | _control.Keep | None = _control.KEEP,
        expire_time: dt.datetime | _control.Keep | None = _control.KEEP,
        etag: str = "",
        pool: str | None = None,
        timeout: _times.Seconds | None = None,
    ) -> _task.Task:
        """Change what decides about the start of a task that is PENDING or DELAYED; the rest of
        it, its place in the order of admission too, stays. None = as if it had not been given: the
        pool's priority, at once, the pool's time to live. With an `etag` only if the task has not
        changed since. Durable when this returns. Raises `WrongTaskState`, `EtagMismatch`.
        """
        call = _control.update(
            self._settings.task_name(task, pool),
            priority=priority,
            schedule_time=schedule_time,
            expire_time=expire_time,
            etag=etag,
        )
        return self._run(call, seconds=self._settings.seconds(timeout))

    def cancel_many(
        self,
        tasks: Iterable[_task.Task | str] = (),
        *,
        query: str = "",
        state: _task.TaskState | None = None,
        task_type: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        reason: str = "",
        preview: bool = False,
        pool: str | None = None,
        timeout: _times.Seconds | None = None,
    ) -> _control.Bulk:
        """Cancel these tasks, or those of a pool that match; with `preview`, count them. What has
        ended already is passed over. `query` is a filter in words (`state=PENDING AND type=x`), `*`
        every task. Many may take longer than the usual `timeout`: give more, or cancel what is left
        by another call.
        """
        chosen = _control.chosen(
            self._settings,
            tasks,
            pool=pool,
            query=query,
            state=state,
            task_type=task_type,
            priority=priority,
            labels=labels,
        )
        seconds = self._settings.seconds(timeout)
        found = [
            self._run(_control.cancel_many(each, reason=reason, preview=preview), seconds=seconds)
            for each in chosen
        ]
        return _control.together(found, preview=preview)

    def retry_many(
        self,
        tasks: Iterable[_task.Task | str] = (),
        *,
        query: str = "",
        state: _task.TaskState | None = None,
        task_type: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        preview: bool = False,
        pool: str | None = None,
        timeout: _times.Seconds | None = None,
    ) -> _control.Bulk:
        """Queue these tasks again, or those of a pool that match, as `retry` does; with `preview`,
        count them. What is neither FAILED nor DEAD_LETTERED is passed over. `query` and `timeout`
        as in `cancel_many`.
        """
        chosen = _control.chosen(
            self._settings,
            tasks,
            pool=pool,
            query=query,
            state=state,
            task_type=task_type,
            priority=priority,
            labels=labels,
        )
        seconds = self._settings.seconds(timeout)
        found = [
            self._run(_control.retry_many(each, preview=preview), seconds=seconds)
            for each in chosen
        ]
        return _control.together(found, preview=preview)
