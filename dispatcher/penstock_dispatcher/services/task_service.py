"""TaskService: what clients call.

Nothing is shown that a crash could take back: before a task is read, the journal must have caught
up with its last change.
"""

import asyncio
from typing import Any, Final

from google.protobuf import empty_pb2

from penstock.v1 import task_pb2, task_service_pb2
from penstock_dispatcher import auth, errors, pump
from penstock_dispatcher.convert import names, plain, task_view, terms, times
from penstock_dispatcher.core import afterlife, control
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.services import answering, bulk, listing, submitting, watching

BATCHES_IN_FLIGHT_MAX: Final = 32
"""Batches of one submit stream that wait for the journal; beyond it the stream is not read."""
REASON_CHARS_MAX: Final = 256

_Decided = submitting.Decided
_Batch = task_service_pb2.BatchSubmitTasksRequest | plain.Batch


class TaskService:
    """See the module's docstring."""

    def __init__(self, pump_: pump.Pump, calls: answering.Calls) -> None:
        self.calls = calls
        self._pump = pump_
        self._submitting = submitting.Submitting(pump_)
        read_batch = self._submitting.read_batch
        self.readers = {"BatchSubmitTasks": read_batch, "StreamSubmitTasks": read_batch}
        self._orders: dict[str, listing.Order] = {}
        """Of pools that were listed, or watched from a mark on, by uid."""
        pump_.purged = self._forget_order

    # ------------------------------------------------------------ submitting

    @answering.answered
    async def SubmitTask(  # noqa: N802
        self, request: task_service_pb2.SubmitTaskRequest, _: Any
    ) -> task_service_pb2.SubmitTaskResponse | bytes:
        """One task; OK after it is durable."""
        self._pump.check_admission()
        pool = self._submitting.pool_of(request.parent)
        if request.validate_only:
            return self._submitting.validate(pool, request)
        decision = await self._submitting.decide_one(pool, request)
        await self._pump.durable(decision.lsn)
        return self._submitting.answer(pool, decision)

    @answering.answered
    async def BatchSubmitTasks(self, request: _Batch, _: Any) -> bytes:  # noqa: N802
        """Several tasks, each with an outcome of its own, or all or none."""
        decided = self._decide_batch(request)
        await self._pump.durable(decided.lsn)
        return self._submitting.outcomes(decided)

    def _decide_batch(self, request: _Batch) -> _Decided:
        self._pump.check_admission()
        if isinstance(request, plain.Batch):
            submitting.check_length(request.wanted)
            pool = self._submitting.pool_of(request.parent)
            return self._submitting.decide_plainly(pool, request)
        submitting.check_batch(request)
        parent = request.parent or (request.requests[0].parent if request.requests else "")
        pool = self._submitting.pool_of(parent)
        if request.atomic:
            return self._submitting.decide_atomically(pool, request.requests)
        return self._submitting.decide(pool, request.requests)

    @answering.answered
    async def StreamSubmitTasks(self, requests: Any, context: Any) -> None:  # noqa: N802
        """Batches in, outcomes out, in order, with several batches on their way to the journal."""
        waiting: asyncio.Queue[_Decided | None] = asyncio.Queue(BATCHES_IN_FLIGHT_MAX)

        async def read() -> None:
            try:
                async for request in requests:
                    await waiting.put(self._decide_batch(request))
            finally:
                # What was decided before is still answered; the refusal, if any, ends the call.
                await waiting.put(None)

        async def write() -> None:
            while (decided := await waiting.get()) is not None:
                await self._pump.durable(decided.lsn)
                await context.write(self._submitting.outcomes(decided))

        reading = asyncio.ensure_future(read())
        try:
            await write()
            await reading
        finally:
            reading.cancel()
            # Its end is told by `write`, or nobody is there to be told.
            await asyncio.gather(reading, return_exceptions=True)

    # ------------------------------------------------------------ reading

    def _find(self, name: str) -> tuple[pools.Pool, tasks.Task]:
        child = names.task(name)
        auth.check_namespace(names.namespace_of(child.pool))
        pool = self._pump.registry.named(child.pool, "name")
        task = pool.book.tasks.get(child.id)
        if task is None:
            raise errors.no_task(name)
        return pool, task

    async def _settled(self, task: tasks.Task) -> None:
        """Return when the task's last change is durable."""
        while task.lsn > self._pump.commits.durable_lsn:
            await self._pump.durable(task.lsn)

    async def _find_settled(self, name: str) -> tuple[pools.Pool, tasks.Task]:
        """The same, once nothing of it is under way; nothing has happened since."""
        while True:
            pool, task = self._find(name)
            if task.lsn <= self._pump.commits.durable_lsn:
                return pool, task
            await self._settled(task)

    @answering.answered
    async def GetTask(self, request: task_service_pb2.GetTaskRequest, _: Any) -> task_pb2.Task:  # noqa: N802
        """The whole task."""
        self._pump.check_open()
        pool, task = self._find(request.name)
        await self._settled(task)
        return task_view.view_waiting(task, pool, self._pump.now())

    @answering.answered
    async def WaitTask(  # noqa: N802
        self, request: task_service_pb2.WaitTaskRequest, _: Any
    ) -> task_pb2.Task:
        """The task when it has ended, or as it is when the time is up."""
        self._pump.check_open()
        pool, task = self._find(request.name)
        seconds = None
        if request.HasField("timeout"):
            seconds = min(times.duration_ns(request.timeout) / 1e9, times.DURATION_SECONDS_MAX)
            if seconds < 0:
                raise errors.invalid("timeout", "must not be negative")
        try:
            async with asyncio.timeout(seconds):
                while not task.terminal:
                    await self._pump.waiters.wait(task)
                    gone = self._pump.registry.by_uid.get(pool.config.uid) is not pool
                    # It may have moved into another pool, and have ended there.
                    if gone and not task.terminal:
                        raise errors.no_task(request.name)
        except TimeoutError:
            pass  # the answer is the task as it is now
        await self._settled(task)
        return task_view.view(task, pool.name)

    @answering.answered
    async def ListTasks(  # noqa: N802
        self, request: task_service_pb2.ListTasksRequest, _: Any
    ) -> task_service_pb2.ListTasksResponse:
        """Tasks of a pool in the order of their admission, without payload and result."""
        self._pump.check_open()
        pool = self._submitting.pool_of(request.parent)
        listing.check_order(request.order_by)
        start = listing.position(request.page_token)
        matches = listing.task_filter(request.filter)
        found, following = await self._order_of(pool).page(
            pool.book.tasks, start, matches=matches, size=listing.page_size(request.page_size)
        )
        # As they are when they are shown: what was waited for may have changed them.
        while found := [task for task in found if matches(task)]:
            newest = max(task.lsn for task in found)
            if newest <= self._pump.commits.durable_lsn:
                break
            await self._pump.durable(newest)

        def view(task: tasks.Task) -> task_pb2.Task:
            return task_view.view(task, pool.name, payload=False, result=False)

        shown = listing.fitting(found, view)
        if len(shown) < len(found):
            following = found[len(shown)]
        return task_service_pb2.ListTasksResponse(
            tasks=shown,
            next_page_token="" if following is None else f"{following.sequence:x}",
            total_size=0 if request.filter.strip() else len(pool.book.tasks),
        )

    def _order_of(self, pool: pools.Pool) -> listing.Order:
        return self._orders.setdefault(pool.config.uid, listing.Order())

    def _forget_order(self, pool: pools.Pool) -> None:
        self._orders.pop(pool.config.uid, None)

    @answering.answered
    async def WatchTasks(  # noqa: N802
        self, request: task_service_pb2.WatchTasksRequest, context: Any
    ) -> None:
        """Changes of tasks as they may be seen, until the caller has enough."""
        self._pump.check_open()
        await watching.watch(self._pump, self._order_of, request, context)

    # ------------------------------------------------------------ tasks that wait

    @answering.answered
    async def UpdateTask(  # noqa: N802
        self, request: task_service_pb2.UpdateTaskRequest, _: Any
    ) -> task_pb2.Task:
        """Change what decides about the start of a task that waits."""
        self._pump.check_admission()
        changed = terms.paths(request)
        pool, task = await self._find_settled(request.task.name)
        _check_etag(request.task, task)
        now = self._pump.now()
        before = control.terms_of(task)
        wanted = terms.wanted(
            request.task,
            changed,
            before=before,
            create_time=task.create_time,
            may_expire=task.may_expire,
            config=pool.config,
            now=now,
        )
        if not control.changeable(task):
            raise _wrong_state(
                request.task.name, f"is {task.state.name}: only what waits can be changed"
            )
        rescheduled = "schedule_time" in changed
        control.update(pool.book, task, wanted, now, rescheduled=rescheduled)
        self._pump.mark(pool)
        await self._settled(task)
        return task_view.view_waiting(task, pool, self._pump.now())

    # ------------------------------------------------------------ cancelling

    @answering.answered
    async def CancelTask(  # noqa: N802
        self, request: task_service_pb2.CancelTaskRequest, _: Any
    ) -> task_pb2.Task:
        """Cancel at once if it waits; ask its worker if it runs."""
        self._pump.check_open()
        pool, task = self._find(request.name)
        _check_etag(request, task)
        reason = _cancel_reason(request.reason)
        if not pool.cancel(task, reason, self._pump.now()):
            await self._settled(task)
            raise _wrong_state(request.name, f"has ended already: it is {task.state.name}")
        self._pump.mark(pool)
        await self._settled(task)
        return task_view.view(task, pool.name)

    @answering.answered
    async def BatchCancelTasks(  # noqa: N802
        self, request: task_service_pb2.BatchCancelTasksRequest, _: Any
    ) -> task_service_pb2.BatchCancelTasksResponse:
        """CancelTask for many; those that have ended are passed over."""
        self._pump.check_open()
        pool = self._submitting.pool_of(request.parent)
        reason = _cancel_reason(request.reason)
        verb = bulk.Verb(
            applies=lambda task: not (task.terminal or task.cancelling),
            act=lambda task, now: pool.cancel(task, reason, now),
        )
        chosen = bulk.selected(pool, request.names, request.filter)
        found = await bulk.run(self._pump, pool, chosen, verb, preview=request.validate_only)
        return task_service_pb2.BatchCancelTasksResponse(
            cancelled_count=found.count, names=found.names
        )

    # ------------------------------------------------------------ tasks that have ended

    @answering.answered
    async def RetryTask(  # noqa: N802
        self, request: task_service_pb2.RetryTaskRequest, _: Any
    ) -> task_pb2.Task:
        """Queue a task that failed again, at its old place in the order."""
        self._pump.check_admission()
        pool, task = await self._find_settled(request.name)
        submitting.check_admits(pool, task.id)
        if not afterlife.redrive(pool.book, task):
            raise _wrong_state(
                request.name, f"is {task.state.name}: only FAILED and DEAD_LETTERED can be retried"
            )
        self._pump.mark(pool)
        await self._settled(task)
        return task_view.view(task, pool.name)

    @answering.answered
    async def BatchRetryTasks(  # noqa: N802
        self, request: task_service_pb2.BatchRetryTasksRequest, _: Any
    ) -> task_service_pb2.BatchRetryTasksResponse:
        """RetryTask for many; those that have not failed are passed over."""
        self._pump.check_admission()
        pool = self._submitting.pool_of(request.parent)

        def act(task: tasks.Task, _: int) -> None:
            submitting.check_admits(pool, task.id)
            afterlife.redrive(pool.book, task)

        verb = bulk.Verb(applies=lambda task: task.state in afterlife.REDRIVABLE, act=act)
        chosen = bulk.selected(pool, request.names, request.filter)
        found = await bulk.run(self._pump, pool, chosen, verb, preview=request.validate_only)
        return task_service_pb2.BatchRetryTasksResponse(
            retried_count=found.count, names=found.names
        )

    @answering.answered
    async def DeleteTask(  # noqa: N802
        self, request: task_service_pb2.DeleteTaskRequest, _: Any
    ) -> empty_pb2.Empty:
        """Forget a task that has ended before its retention is over."""
        self._pump.check_open()
        pool, task = await self._find_settled(request.name)
        _check_etag(request, task)
        if not afterlife.delete(pool.book, task):
            raise _wrong_state(request.name, f"is {task.state.name}: cancel it first")
        self._pump.mark(pool)
        await self._pump.everything_durable()
        return empty_pb2.Empty()


def _cancel_reason(said: str) -> str:
    return said[:REASON_CHARS_MAX] or "cancelled by a client"


def _check_etag(
    request: task_service_pb2.CancelTaskRequest
    | task_service_pb2.DeleteTaskRequest
    | task_pb2.Task,
    task: tasks.Task,
) -> None:
    if request.etag and request.etag != task_view.etag(task):
        raise errors.Refusal(
            errors.Reason.ETAG_MISMATCH, f"{request.name} has changed: read it again"
        )


def _wrong_state(name: str, why: str) -> errors.Refusal:
    return errors.Refusal(
        errors.Reason.TASK_STATE, f"{name} {why}", errors.Details(precondition_subject=name)
    )
