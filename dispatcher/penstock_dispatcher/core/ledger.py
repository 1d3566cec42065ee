"""The tasks of one pool, and their life from admission to deletion.

The ledger makes every change of a task that must survive, and mirrors it by a record. It keeps the
promise *nothing outward before durable*: a task that was accepted or queued again is not given to
the backlog, and nobody is told, before its record's number has been reported by `durable`. It knows
nothing of workers.

Counts: a task waits while it lies in the backlog, is being committed, or is held back after a
restart. The bounds of admission (see `bounds`) are on those. `sequence` is the newest one.
"""

from collections.abc import Iterable
from typing import Final

from penstock_dispatcher.core import (
    admission,
    arrivals,
    awaiting,
    backlog,
    bounds,
    budget,
    effects,
    forecast,
    held,
    idempotency,
    key_counts,
    leases,
    lookup,
    rates,
    records,
    retention,
    settings,
)
from penstock_dispatcher.core import task as tasks

_Reason = admission.AdmissionReason
_Place = tasks.Place
# By name in an Enum they are found anew each time.
_ACCEPTED: Final = _Reason.ACCEPTED
_DELAYED: Final = tasks.TaskState.DELAYED
_PENDING: Final = tasks.TaskState.PENDING
_SUCCEEDED: Final = tasks.TaskState.SUCCEEDED
_NOWHERE: Final = _Place.NOWHERE
_COMMITTING: Final = _Place.COMMITTING
_QUEUED: Final = _Place.QUEUED


class Ledger:
    """Tasks of one pool; see the module's docstring."""

    def __init__(
        self,
        *,
        pool_uid: str,
        log: records.RecordLog,
        tokens: leases.TokenSource,
        outlook: forecast.Forecast,
        memory: budget.Budget,
    ) -> None:
        self.pool_uid = pool_uid
        self.log = log
        self.tasks: dict[str, tasks.Task] = lookup.table()
        self.memory = budget.Share(memory, pool_uid)
        self.memory.give_up = self._give_up
        self.requests = idempotency.Requests(pool_uid=pool_uid, log=log, share=self.memory)
        self.backlog = backlog.Backlog()
        self.in_flight_by_key = key_counts.KeyCounts()
        """Tasks that run, or may since a restart, by concurrency key; not those without one."""
        self.held = held.Held(self.in_flight_by_key)
        self.effects: list[effects.Effect] = []
        self.committing = 0
        self.waiting = 0
        """Tasks that wait, wherever they lie: what the bound counts."""
        self.waiting_bytes = 0
        self.by_key = key_counts.KeyCounts()
        """Tasks that wait, by fairness key; those without one count as the empty key."""
        self.accepted_total = 0
        self.refused_total = 0
        self.succeeded_total = 0
        self.failed_total = 0
        self.given_up_total = self.dead_given_up_total = 0
        """Results, and dead letters, that were deleted before their time for want of memory."""
        self.arrivals = rates.EventRate()
        self.completions = rates.EventRate()
        self.execution = rates.Mean()
        self.ended = retention.Retention(self.memory)
        self.tokens = tokens
        self.forecast = outlook
        self.sequence = 0
        self.awaiting = awaiting.Awaiting()
        self._arrivals = arrivals.Arrivals()

    # ------------------------------------------------------------ admission

    def admit(
        self, wanted: tasks.Submission, config: settings.PoolSettings, now: int
    ) -> admission.Admission:
        """Accept, recognise or refuse one submission."""
        judged = self.judge(wanted, config, now)
        if judged is None:
            return self._accept(wanted, config, now)
        if not judged.admitted:
            self.refused_total += 1
        return judged

    def judge(
        self, wanted: tasks.Submission, config: settings.PoolSettings, now: int
    ) -> admission.Admission | None:
        """What would be answered, None = it would be accepted. Changes nothing."""
        known = self.requests.find(wanted.request_id, now)
        if known is not None:
            return self._repeated(wanted, known)
        if wanted.task_id in self.tasks:
            return self._refuse(
                _Reason.TASK_EXISTS, wanted, message=f"task {wanted.task_id} exists already"
            )
        return bounds.never_fits(wanted, config) or bounds.no_room(
            (wanted,), book=self, config=config, now=now
        )

    def retry_after_ns(self, now: int, places: int = 1) -> int:
        """When so many places should be free."""
        return self.forecast.retry_after_ns(now, places)

    def _repeated(self, wanted: tasks.Submission, known: idempotency.Known) -> admission.Admission:
        if known.fingerprint != wanted.fingerprint:
            return self._refuse(
                _Reason.REQUEST_ID_REUSED,
                wanted,
                message=f"request_id {wanted.request_id} was used for another task:"
                " use a new one for a new task",
            )
        task = self.tasks.get(known.id)
        if task is not None and task.sequence != known.sequence:
            task = None  # its own was deleted, and another one has its name
        return admission.Admission(
            _Reason.DUPLICATE, known.id, lsn=0 if task is None else task.lsn, task=task
        )

    def _refuse(
        self, reason: _Reason, wanted: tasks.Submission, *, message: str
    ) -> admission.Admission:
        return admission.Admission(reason, wanted.task_id, message=message)

    def _accept(
        self, wanted: tasks.Submission, config: settings.PoolSettings, now: int
    ) -> admission.Admission:
        self.sequence += 1
        expire_time = wanted.expire_time or config.expire_time(now, wanted.not_before)
        task = tasks.Task(
            id=wanted.task_id,
            uid=wanted.uid,
            sequence=self.sequence,
            type=wanted.type,
            priority=config.default_priority if wanted.priority is None else wanted.priority,
            body=wanted.body,
            size=wanted.size,
            create_time=now,
            not_before=wanted.not_before,
            expire_time=expire_time,
            execution_timeout_ns=wanted.execution_timeout_ns or config.execution_timeout_ns,
            retry=wanted.retry or config.retry,
            request_id=wanted.request_id,
            state=_DELAYED if wanted.not_before > now else _PENDING,
            fingerprint=wanted.fingerprint,
            schedule_time=wanted.not_before,
            fencing_token=self.tokens.coming,
            fairness_key=wanted.fairness_key,
            concurrency_key=wanted.concurrency_key,
            slots=wanted.slots,
        )
        self.take_in(task)
        if task.request_id:
            self.requests.remember(task.request_id, task, tasks_there=len(self.tasks))
        task.lsn = self.log.append(records.accepted(self.pool_uid, task))
        self.accepted_total += 1
        self.arrivals.add(now)
        self.commit_then_queue(task, effects.TaskChanged(task, None, task.state))
        return admission.Admission(_ACCEPTED, task.id, lsn=task.lsn, task=task)

    # ------------------------------------------------------------ waiting

    def commit_then_queue(self, task: tasks.Task, told: effects.Effect) -> None:
        """Queue the task, and tell of it, when its last record is durable."""
        task.place = _COMMITTING
        self.committing += 1
        self.awaiting.hold(task.lsn, told, task)
        self._came(task)

    def _came(self, task: tasks.Task) -> None:
        self.waiting += 1
        self.waiting_bytes += task.size
        self.by_key.add(task.fairness_key)
        self._arrivals.came(task)

    def tell_when_durable(self, lsn: int, effect: effects.Effect) -> None:
        """Hold the effect back until record `lsn`, and everything that others wait for already, is
        durable.
        """
        self.awaiting.hold(lsn, effect)

    def durable(self, lsn: int, now: int) -> None:
        """Every record up to `lsn` is durable: queue what waited for it, tell who waited for it."""
        for _, effect, task, ticket in self.awaiting.release(lsn):
            if task is not None and task.ticket == ticket:
                self.committing -= 1
                task.place = _QUEUED
                self.backlog.add(task, now)
            self.effects.append(effect)

    @property
    def awaits_journal(self) -> bool:
        """Somebody or something waits for a record to become durable."""
        return bool(self.awaiting)

    def withdraw(self, task: tasks.Task) -> None:
        """Take a waiting task out, wherever it lies; the caller sets its next state."""
        if task.place is _QUEUED:
            self.backlog.remove(task)
        elif task.place is _COMMITTING:
            task.ticket += 1
            self.committing -= 1
        elif task.place is _Place.HELD:
            task.ticket += 1
            self.held.remove(task)
        self._left(task)

    def take_head(self, task: tasks.Task) -> None:
        """Take out the task that `backlog.head` has just returned."""
        self.backlog.pop(task)
        self._left(task)

    def _left(self, task: tasks.Task) -> None:
        task.place = _NOWHERE
        self.waiting -= 1
        self.waiting_bytes -= task.size
        self.by_key.remove(task.fairness_key)
        self._arrivals.left(task)

    def release_held(self, config: settings.PoolSettings, now: int) -> None:
        """Nothing of before still runs: what was held back is ready, or over if cancelled."""
        for task in self.held.take_all():
            if task.cancelling:
                task.ticket += 1
                self._left(task)
                self.end(task, tasks.TaskState.CANCELLED, config, now)
            else:
                task.place = _QUEUED
                self.backlog.add(task, now)

    def requeue(
        self, task: tasks.Task, *, failure: tasks.Failure | None, delay_ns: int, now: int
    ) -> None:
        """Wait again, at its original place in the order; never refused."""
        assert not task.cancelling, "a task that is to be cancelled does not start again"
        previous = task.state
        task.failure = failure or task.failure
        task.not_before = now + delay_ns if delay_ns else 0
        task.state = _DELAYED if delay_ns else _PENDING
        self.memory.charge(task)
        task.lsn = self.log.append(records.requeued(self.pool_uid, task))
        self.commit_then_queue(task, effects.TaskChanged(task, previous, task.state))

    def started_in_time(self, task: tasks.Task) -> None:
        """It need not start by a certain time any more; no attempt and no loss may tell of it."""
        if task.expire_time:
            task.expire_time = 0
            self.log.append(records.updated(self.pool_uid, task))

    def oldest_create_time(self) -> int:
        """When the oldest waiting task came, 0 = none waits."""
        oldest = self._arrivals.oldest()
        return 0 if oldest is None else oldest.create_time

    # ------------------------------------------------------------ ending

    def want_cancelled(self, task: tasks.Task) -> None:
        """Note that a task that runs, or may, is to stop: from then on it can only end."""
        if task.cancelling:
            return
        previous = task.state
        task.cancelling, task.state, task.not_before = True, tasks.TaskState.CANCELLING, 0
        task.lsn = self.log.append(
            records.TaskCancelling(
                self.pool_uid,
                task.sequence,
                task.id,
                task.attempt - 1 if task.lease is not None else task.attempt,
                task.worker_losses,
                task.failure,
            )
        )
        told = effects.TaskChanged(task, previous, task.state)
        self.tell_when_durable(task.lsn, told)

    def end(
        self,
        task: tasks.Task,
        state: tasks.TaskState,
        config: settings.PoolSettings,
        now: int,
        *,
        failure: tasks.Failure | None = None,
        result: bytes = b"",
        result_content_type: str = "",
    ) -> None:
        """Record the task's one outcome. It must not wait any more, nor hold a lease."""
        assert state in tasks.TERMINAL, "an outcome is terminal"
        assert not task.terminal, "an outcome is recorded once"
        previous = task.state
        task.state = state
        task.end_time = now
        task.failure = failure or (None if state is _SUCCEEDED else task.failure)
        task.result = result
        task.result_content_type = result_content_type
        task.keep_checkpoint(b"")
        if state is _SUCCEEDED:
            self.succeeded_total += 1
        elif state is not tasks.TaskState.CANCELLED:
            self.failed_total += 1
        if previous is not _PENDING and previous is not _DELAYED:
            self.completions.add(now)  # no worker did what was called off while it waited
        self.memory.charge(task)
        task.lsn = self.log.append(records.ended(self.pool_uid, task))
        self._retain(task, config)
        self.tell_when_durable(task.lsn, effects.TaskChanged(task, previous, state))

    def expire(self, task: tasks.Task, config: settings.PoolSettings, now: int) -> None:
        """The backlog gave it up because it did not start in time."""
        self._left(task)
        self.end(task, tasks.TaskState.EXPIRED, config, now)

    def _retain(self, task: tasks.Task, config: settings.PoolSettings) -> None:
        for surplus in self.ended.keep(task, config):
            self.delete(surplus)
        self.memory.budget.bound_dead_letters()
        self.memory.budget.make_room()

    def take_in(self, task: tasks.Task) -> None:
        """One more task is there."""
        self.tasks[task.id] = task
        self.memory.charge(task)

    def let_go(self, task: tasks.Task) -> None:
        """A task is not there any more; its request id is remembered all the same."""
        del self.tasks[task.id]
        self.memory.release(task)
        self.requests.outlive(task)

    def delete(self, task: tasks.Task) -> None:
        """Forget a task that is not kept for its retention any more."""
        self.let_go(task)
        self.log.append(records.TaskDeleted(self.pool_uid, task.sequence, task.id))

    def _give_up(self, size: int, dead_letters: bool) -> None:
        while size > 0 and (task := self.ended.take_oldest(dead_letters)):
            size -= budget.freed_by(task)
            self.delete(task)
            self.given_up_total += not dead_letters
            self.dead_given_up_total += dead_letters

    def sweep(self, now: int, limit: int = 1000) -> None:
        """Delete what is past its retention, at most `limit` a kind and call."""
        for task in self.ended.take_due(now, limit=limit):
            self.delete(task)
        self.requests.sweep(now, limit=limit)

    def next_sweep(self) -> int:
        """When something is past its retention; may be early, never late."""
        return min(self.ended.next_due(), self.requests.next_sweep())

    # ------------------------------------------------------------ loading

    def restore(self, task: tasks.Task, config: settings.PoolSettings, now: int) -> None:
        """Take a task as the journal kept it. Waiting ones are held back until `release_held`, but
        for those whose time has not come: nobody can have been given them.
        """
        self.take_in(task)
        if task.request_id:
            self.requests.restore(task.request_id, task)
        self.sequence = max(self.sequence, task.sequence)
        if task.terminal:
            self._retain(task, config)
            return
        self._came(task)
        if task.not_before > now:
            task.place = _QUEUED
            self.backlog.add(task, now)
            return
        self.held.add(task)

    def restore_requests(self, requests: Iterable[tuple[str, idempotency.Request]]) -> None:
        """Take the ids that have outlived their tasks as the journal kept them, in any order: call
        `requests.sort` when these and the tasks are there. Too many are forgotten later.
        """
        for request_id, request in requests:
            self.requests.restore(request_id, request)
            # Its key in the journal is in use, even if its task is deleted.
            self.sequence = max(self.sequence, request.sequence)
        self.memory.budget.make_room()
