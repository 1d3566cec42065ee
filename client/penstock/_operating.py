"""The verbs of those who operate pools and look after failed tasks, for `Client`."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Iterable, Mapping

import grpc
import grpc.aio

from penstock import (
    _aio,
    _calls,
    _controlling,
    _pools,
    _status,
    _task,
    _times,
    _waiting,
    _watching,
    errors,
)
from penstock.v1 import task_service_pb2


class Operating(_controlling.Controlling):
    """A part of `Client`, which has the rest."""

    def _connected(self) -> grpc.aio.Channel:
        raise NotImplementedError

    async def drain(
        self,
        pool: str | None = None,
        *,
        max_wait: _times.Seconds | None = 0,
        reason: str = "",
        timeout: _times.Seconds | None = None,
    ) -> _pools.PoolInfo:
        """Have a pool refuse new tasks and finish the accepted ones, until `undrain`. That is
        durable when this returns, which is at once, or when the pool is `drained`, or after
        `max_wait` (None = however long it takes). A paused pool is drained when nothing runs; it
        keeps its queue.
        """
        name = self._settings.pool_name(pool)
        waiting = _waiting.Drain(max_wait, now=time.monotonic())
        while True:
            seconds = waiting.segment(time.monotonic())
            found = await self._run(
                _calls.drain(name, seconds=seconds, reason=reason),
                seconds=self._settings.seconds(timeout) + seconds,
            )
            if waiting.answered(found, time.monotonic()):
                return found

    async def undrain(
        self, pool: str | None = None, *, timeout: _times.Seconds | None = None
    ) -> _pools.PoolInfo:
        """Take `drain` back: the pool admits tasks again."""
        call = _calls.undrain(self._settings.pool_name(pool))
        return await self._run(call, seconds=self._settings.seconds(timeout))

    async def purge(
        self,
        pool: str | None = None,
        *,
        task_type: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        force: bool = False,
        timeout: _times.Seconds | None = None,
    ) -> _pools.Purge:
        """Count the tasks of a pool that wait and match; with `force`, delete them. What runs or is
        over stays. A large queue may take longer than the usual `timeout`: give more, or purge what
        is left by another call.
        """
        query = _calls.task_filter(
            state=None, task_type=task_type, priority=priority, labels=labels
        )
        call = _calls.purge(self._settings.pool_name(pool), query=query, force=force)
        return await self._run(call, seconds=self._settings.seconds(timeout))

    async def restore(
        self,
        pool: str | None = None,
        *,
        from_uid: str = "",
        dry_run: bool = False,
        timeout: _times.Seconds | None = None,
    ) -> _pools.Restore:
        """Undo the delete of a pool that was created anew: move the tasks that wait in the deleted
        one, and its dead letters, into the one that has its name. `from_uid`: of which deleted
        pool; default: the last one that has tasks. `dry_run` only counts them. A repeated call
        moves what can move since. A large queue may take longer than the usual `timeout`: give
        more, or call again. Raises `PoolNotFound` if there is no such deleted pool.
        """
        call = _calls.restore(self._settings.pool_name(pool), from_uid=from_uid, dry_run=dry_run)
        return await self._run(call, seconds=self._settings.seconds(timeout))

    async def retry(
        self,
        task: _task.Task | str,
        *,
        pool: str | None = None,
        timeout: _times.Seconds | None = None,
    ) -> _task.Task:
        """Queue a task that is FAILED or DEAD_LETTERED again, at its old place in the order:
        nothing is charged any more, and its `expire_time` is gone. A full pool does not refuse it.
        One that waits or runs already is returned as it is. Raises `WrongTaskState` if it ended
        otherwise.
        """
        name, seconds = self._settings.task_name(task, pool), self._settings.seconds(timeout)
        try:
            return await self._run(_calls.retry(name), seconds=seconds)
        except errors.WrongTaskState:
            # A repeated retry, by us after a lost answer or by somebody else, is no mistake.
            found = await self._run(_calls.get(name), seconds=seconds)
            if found.terminal:
                raise
            return found

    async def delete(
        self,
        task: _task.Task | str,
        *,
        pool: str | None = None,
        etag: str = "",
        timeout: _times.Seconds | None = None,
    ) -> None:
        """Forget a task that is over, with its result, before its retention ends. With an `etag`
        only if it has not changed since. Its `request_id` stays known.
        """
        call = _calls.delete(self._settings.task_name(task, pool), etag=etag)
        await self._run(call, seconds=self._settings.seconds(timeout))

    async def watch(
        self,
        pool: str | None = None,
        *,
        tasks: Iterable[_task.Task | str] = (),
        task_type: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        resume_token: str = "",
    ) -> AsyncGenerator[_watching.TaskChange, None]:
        """Every change of the pool's tasks that match, from now on and for ever. `tasks`: only
        these, and first as they are now. Through restarts of the dispatcher, some may be shown
        again. Raises `WatchTooSlow` if too many changes wait to be read. To stop, close the
        generator (`contextlib.aclosing`).
        """
        watching = _watching.Watch(
            parent=self._settings.pool_name(pool),
            names=[self._settings.task_name(task, pool) for task in tasks],
            query=_calls.task_filter(
                state=None, task_type=task_type, priority=priority, labels=labels
            ),
            resume_token=resume_token,
            patience_seconds=self._settings.timeout_seconds,
        )
        while True:
            method = self._connected().unary_stream(
                _calls.WATCH,
                request_serializer=task_service_pb2.WatchTasksRequest.SerializeToString,
                response_deserializer=task_service_pb2.TaskEvent.FromString,
            )
            call = method(watching.request(), metadata=self._settings.token.metadata())
            error: errors.PenstockError = _status.gone()
            try:
                async for event in call:
                    change = watching.received(event)
                    if change is not None:
                        yield change
            except (grpc.RpcError, asyncio.CancelledError) as failure:
                error = _aio.error_of(failure)
            finally:
                call.cancel()
            await asyncio.sleep(watching.failed(error, now=time.monotonic(), draw=random.random()))
