"""The asynchronous client: `penstock.Client`, over grpc.aio.

The verbs live here and nothing else does: what a call says is in `_calls`, when it is tried again
in `_retry`, how thousands of submissions travel in `_pipeline` and `_aio_streaming`. `SyncClient`
has the same verbs; a test compares the two.
"""

import asyncio
import functools
import os
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
import grpc.aio
from google.protobuf import message

from penstock import (
    _aio,
    _aio_streaming,
    _calls,
    _names,
    _operating,
    _payload,
    _pipeline,
    _pools,
    _retry,
    _settings,
    _submission,
    _task,
    _times,
    _waiting,
    errors,
)

_Answer = TypeVar("_Answer", bound=message.Message)
_Value = TypeVar("_Value")


class Client(_operating.Operating):
    """Speaks to a dispatcher from asyncio code. Use it as `async with`, or call `close`.

    One client serves any number of coroutines of one event loop; it connects at its first call.
    Every call retries UNAVAILABLE by itself until its time-out has passed, which is safe, because
    every submission carries a `request_id`. Everything else is raised as a `PenstockError`.

    Args:
        address: `host:port` of the dispatcher; default PENSTOCK_ADDRESS, then 127.0.0.1:50051.
        token, token_file: bearer token; default PENSTOCK_TOKEN, then PENSTOCK_TOKEN_FILE, then
            none. The file is read again when it changes.
        pool: the pool that is meant when a call names none; default PENSTOCK_POOL. Pools are
            written `pool` (namespace `default`), `namespace/pool`, or in full.
        timeout: of every call that gives none of its own.
        credentials: TLS; None = plain text.

    Raises ValueError for arguments that cannot be right.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        pool: str | None = None,
        timeout: _times.Seconds = _settings.DEFAULT_TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._settings = _settings.resolve(
            address=address, token=token, token_file=token_file, pool=pool, timeout=timeout
        )
        self._credentials = credentials
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every open call and the connection. A closed client stays closed."""
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    # ------------------------------------------------------------ submitting

    async def submit(
        self,
        task_type: str,
        payload: bytes | str | _payload.Payload = b"",
        /,
        *,
        pool: str | None = None,
        admission: _submission.Admission = _submission.Admission.REJECT,
        max_wait: _times.Seconds | None = None,
        retry: _retry.Retry | None = None,
        validate_only: bool = False,
        timeout: _times.Seconds | None = None,
        **options: Unpack[_submission.SubmitOptions],
    ) -> _task.Task:
        """Submit one task; once this returns, the task is durable.

        A full pool raises `QueueFull` at once, with `retry_after_seconds`; or, with
        `admission=WAIT`, the call is held for up to `max_wait` (None = as the pool says, 30 s by
        default) and then raises `AdmissionTimeout`, or `TooManyWaiters` at once; or, with `retry`,
        it is tried again when the dispatcher says. `timeout` comes on top of `max_wait`. `options`
        are the fields of `Submission`. Returns the task without its payload.
        """
        call = _calls.submit(
            _submission.Submission(task_type, payload, **options),
            parent=self._settings.pool_name(pool),
            admission=admission,
            max_wait=max_wait,
            validate_only=validate_only,
        )
        return await self._run(call, seconds=self._settings.seconds(timeout), retry=retry)

    def submit_many(
        self,
        submissions: _aio_streaming.Source,
        *,
        pool: str | None = None,
        retry: _retry.Retry | None = None,
        timeout: _times.Seconds | None = None,
    ) -> AsyncGenerator[_submission.Outcome, None]:
        """Submit any number of tasks to one pool, fast; yields an `Outcome` for each, in order.

        They travel in batches over one stream, several batches at once; at most
        `_pipeline.WINDOW_TASKS_MAX` outcomes are ahead of what was taken, so that the memory used
        is bounded however long the source is. A refused submission is an outcome with an `error`;
        with `retry` it is tried again first. A plain iterable is drawn on the event loop, so it
        should not block.

        If the dispatcher restarts, the stream is opened again, and what was not answered is sent
        again under its `request_id`. `timeout` bounds the time without any answer. To stop early,
        close the generator (`contextlib.aclosing`).
        """
        terms = _pipeline.Terms(
            parent=self._settings.pool_name(pool),
            retry=retry,
            timeout_seconds=self._settings.seconds(timeout),
        )
        run = _aio_streaming.Run(connect=self._connected, token=self._settings.token, terms=terms)
        return run.outcomes(submissions)

    # ------------------------------------------------------------ one task

    async def get(
        self,
        task: _task.Task | str,
        *,
        pool: str | None = None,
        timeout: _times.Seconds | None = None,
    ) -> _task.Task:
        """The task as it is now, with payload and, if it has one, result. `task`: its full name, or
        its id in `pool`.
        """
        call = _calls.get(self._settings.task_name(task, pool))
        return await self._run(call, seconds=self._settings.seconds(timeout))

    async def wait(
        self,
        task: _task.Task | str,
        *,
        pool: str | None = None,
        timeout: _times.Seconds | None = None,
    ) -> _task.Task:
        """The task once it is over, however it ended. Raises `WaitTimeout` after `timeout` (None =
        waits for ever), `Unavailable` when nobody has answered for the client's own time-out.
        """
        name = self._settings.task_name(task, pool)
        wait = _waiting.Wait(
            name,
            now=time.monotonic(),
            timeout_seconds=None if timeout is None else self._settings.seconds(timeout),
            patience_seconds=self._settings.timeout_seconds,
        )
        while True:
            seconds = wait.segment(time.monotonic())
            try:
                found = await _aio.once(
                    self._connected(),
                    _calls.wait(name, seconds),
                    token=self._settings.token,
                    seconds=seconds + _waiting.ANSWER_SECONDS,
                )
            except errors.PenstockError as error:
                delay = wait.failed(error, now=time.monotonic(), draw=random.random())
                await asyncio.sleep(delay)
            else:
                if wait.answered(found, time.monotonic()):
                    return found

    async def result(
        self,
        task: _task.Task | str,
        *,
        pool: str | None = None,
        timeout: _times.Seconds | None = None,
    ) -> bytes:
        """Wait like `wait`; the result's bytes. Raises `TaskFailed`, `TaskDeadLettered`,
        `TaskCancelled` or `TaskExpired` if there is none.
        """
        found = await self.wait(task, pool=pool, timeout=timeout)
        failure = _calls.failure_of(found)
        if failure is not None:
            raise failure
        return found.result

    async def cancel(
        self,
        task: _task.Task | str,
        *,
        reason: str = "",
        pool: str | None = None,
        timeout: _times.Seconds | None = None,
    ) -> _task.Task:
        """Cancel a task. One that waits is cancelled when this returns; one that runs is asked to
        stop (`CANCELLING`). Cancelling twice is fine. Raises `WrongTaskState` if it ended
        otherwise.
        """
        name, seconds = self._settings.task_name(task, pool), self._settings.seconds(timeout)
        try:
            return await self._run(_calls.cancel(name, reason=reason), seconds=seconds)
        except errors.WrongTaskState:
            # A repeated cancel, by us after a lost answer or by somebody else, is no mistake.
            found = await self._run(_calls.get(name), seconds=seconds)
            if found.state not in _task.CANCELLED:
                raise
            return found

    # ------------------------------------------------------------ looking around

    def list(
        self,
        pool: str | None = None,
        *,
        state: _task.TaskState | None = None,
        task_type: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        page_size: int = _calls.PAGE_SIZE,
        timeout: _times.Seconds | None = None,
    ) -> AsyncGenerator[_task.Task, None]:
        """The tasks of a pool that match, without payloads and results. Pages are fetched as they
        are needed; `timeout` is for each.
        """
        page = functools.partial(
            _calls.tasks,
            parent=self._settings.pool_name(pool),
            query=_calls.task_filter(
                state=state, task_type=task_type, priority=priority, labels=labels
            ),
            page_size=page_size,
        )
        return self._pages(page, timeout)

    async def pool(
        self, name: str | None = None, *, timeout: _times.Seconds | None = None
    ) -> _pools.PoolInfo:
        """One pool, or the default one, with its statistics."""
        call = _calls.pool(self._settings.pool_name(name))
        return await self._run(call, seconds=self._settings.seconds(timeout))

    def pools(
        self, namespace: str | None = None, *, timeout: _times.Seconds | None = None
    ) -> AsyncGenerator[_pools.PoolInfo, None]:
        """The pools of one namespace, or of all that the token may see."""
        page = functools.partial(_calls.pools, parent=_names.namespace(namespace))
        return self._pages(page, timeout)

    def workers(
        self, pool: str | None = None, *, timeout: _times.Seconds | None = None
    ) -> AsyncGenerator[_pools.WorkerInfo, None]:
        """The workers of one pool, or of the default one."""
        page = functools.partial(_calls.workers, parent=self._settings.pool_name(pool))
        return self._pages(page, timeout)

    # ------------------------------------------------------------ operating a pool

    async def pause(
        self, pool: str | None = None, *, reason: str = "", timeout: _times.Seconds | None = None
    ) -> _pools.PoolInfo:
        """Start no more tasks until `resume`; running ones go on, new ones are admitted. Durable
        when this returns. With tokens, it needs the role `admin`.
        """
        call = _calls.pause(self._settings.pool_name(pool), reason=reason)
        return await self._run(call, seconds=self._settings.seconds(timeout))

    async def resume(
        self, pool: str | None = None, *, timeout: _times.Seconds | None = None
    ) -> _pools.PoolInfo:
        """Take `pause` back. The manifest's `suspend` is another latch: with it set, the pool stays
        PAUSED.
        """
        call = _calls.resume(self._settings.pool_name(pool))
        return await self._run(call, seconds=self._settings.seconds(timeout))

    # ------------------------------------------------------------ how

    def _connected(self) -> grpc.aio.Channel:
        if self._closed:
            raise RuntimeError("this client is closed")
        if self._channel is None:
            options = _settings.CHANNEL_OPTIONS
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._settings.address, options)
            else:
                self._channel = grpc.aio.secure_channel(
                    self._settings.address, self._credentials, options
                )
        return self._channel

    async def _run(
        self,
        call: _calls.Call[_Answer, _Value],
        *,
        seconds: float,
        retry: _retry.Retry | None = None,
    ) -> _Value:
        attempts = _retry.Attempts(
            now=time.monotonic(), seconds=seconds, retry=retry, hold_seconds=call.hold_seconds
        )
        while True:
            now = time.monotonic()
            try:
                return await _aio.once(
                    self._connected(),
                    call.after(attempts.begin(now)),
                    token=self._settings.token,
                    seconds=attempts.remaining(now),
                )
            except errors.PenstockError as error:
                delay = attempts.failed(error, now=time.monotonic(), draw=random.random())
            await asyncio.sleep(delay)

    async def _pages(
        self,
        page: Callable[..., _calls.Call[_Answer, _calls.Page[_Value]]],
        timeout: _times.Seconds | None,
    ) -> AsyncGenerator[_Value, None]:
        token = ""
        while True:
            found = await self._run(page(token=token), seconds=self._settings.seconds(timeout))
            for item in found.items:
                yield item
            token = found.next_token
            if not token:
                return
