"""One pool: the state machine that the shell drives.

A `Pool` composes the ledger (tasks), the fleet (workers, leases) and the token bucket, and owns
what lies between them: dispatch. The contract with the shell:

* call a verb for each event, with the time; read its answer;
* then `dispatch(now)`; then write what the shared `records.RecordLog` has gathered, in order;
* when records are durable, `take_effects(lsn, now)`: it queues what was committed, dispatches again
  if that made anything runnable, lets in who waits for room, and hands out every effect that may be
  carried out;
* call `tick(now)` when `next_deadline()` has come, never in a loop.

Two latches stop dispatch: `suspended` (the manifest) and `paused` (the API). A pool that is
draining (the API) or closed (its manifest is gone) admits nothing, and works off what it has.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from penstock_dispatcher.core import (
    admission,
    budget,
    demand,
    effects,
    fleet,
    forecast,
    idempotency,
    leases,
    ledger,
    limits,
    measures,
    records,
    reservations,
    settings,
    turn,
    units,
    waiting_room,
)
from penstock_dispatcher.core import batch as batches
from penstock_dispatcher.core import task as tasks

_Reason = admission.AdmissionReason
# By name in an Enum they are found anew each time.
_ACCEPTED: Final = _Reason.ACCEPTED
_QUEUE_FULL: Final = _Reason.QUEUE_FULL


class Pool:
    """See the module's docstring. `draw` gives a uniform number in [0, 1) for jitter; `memory` is
    what all pools share, None = no bound; `fresh` = not loaded from a journal.
    """

    def __init__(
        self,
        config: settings.PoolSettings,
        *,
        log: records.RecordLog,
        tokens: leases.TokenSource,
        draw: Callable[[], float],
        now: int,
        memory: budget.Budget | None = None,
        fresh: bool = True,
    ) -> None:
        self.config = config
        self.forecast = forecast.Forecast(self)
        self.book = ledger.Ledger(
            pool_uid=config.uid,
            log=log,
            tokens=tokens,
            outlook=self.forecast,
            memory=memory or budget.Budget(),
        )
        self.fleet = fleet.Fleet(book=self.book, config=config, tokens=tokens, draw=draw)
        self.reservations = reservations.Reservations(book=self.book, table=self.fleet.workers)
        self.room = waiting_room.WaitingRoom(self.book)
        self.book.memory.let_in = lambda now: self.room.let_in(self.config, now)
        self.paused = False
        self.draining = False
        self.closed_time = 0
        self.held_back = False
        """The journal is far behind: what makes records for itself waits."""
        self._log = log
        self.limits = limits.Limits(config, now=now, fresh=fresh)
        self._throttled_since = 0
        self._order()

    # ------------------------------------------------------------ configuration

    @property
    def name(self) -> str:
        """namespaces/{namespace}/pools/{pool}."""
        return self.config.name

    @property
    def dispatching(self) -> bool:
        """Neither latch is set."""
        return not (self.paused or self.config.suspended)

    def configure(self, config: settings.PoolSettings, now: int) -> None:
        """Put another configuration of the same pool in force. It re-opens a closed pool."""
        assert config.uid == self.config.uid, "another uid is another pool"
        self.limits.configure(config, now)
        reorder = config.ordering != self.config.ordering
        self.config = config
        if reorder:
            self._order()
        self.room.look_again()
        self.fleet.configure(config)
        if self.closed_time:
            self.closed_time = 0
            self._latch()

    def _order(self) -> None:
        self.book.backlog.configure(
            self.config, in_flight=self.book.in_flight_by_key, rates=self.limits.keys
        )

    def pause(self, paused: bool) -> None:
        """Set or open the API's latch."""
        if paused != self.paused:
            self.paused = paused
            self._latch()

    def drain(self, draining: bool) -> None:
        """Admit nothing more and work off what there is, or take that back."""
        if draining != self.draining:
            self.draining = draining
            self._latch()
            if draining:
                self._turn_away()

    @property
    def drained(self) -> bool:
        """Draining, and nothing is left that anybody would wait for, durably: nothing runs, and
        nothing waits. A pool that does not dispatch keeps its queue.
        """
        left = len(self.book.held) if not self.dispatching else self.book.waiting
        return self.draining and not (left or self.fleet.leases or self.book.awaits_journal)

    def close(self, now: int) -> None:
        """The manifest is gone: admit nothing more; the queue is kept until `purge_time`."""
        if not self.closed_time:
            self.closed_time = now
            self._latch()
            self._turn_away()

    def _latch(self) -> None:
        self._log.append(
            records.PoolLatched(self.config.uid, self.paused, self.closed_time, self.draining)
        )

    @property
    def purge_time(self) -> int:
        """When a closed pool may be forgotten."""
        if not self.closed_time:
            return units.NEVER
        return self.closed_time + self.config.pool_retention_ns

    # ------------------------------------------------------------ clients

    def submit(self, wanted: tasks.Submission, now: int) -> admission.Admission:
        """Decide about one task, at once. Say nothing to the client before `Admission.lsn` is
        durable.
        """
        self._let_in(now)
        refusal = self.judge(wanted, now) if wanted.start_by else self._shut_for(wanted, now)
        if refusal is not None and not refusal.admitted:
            self.book.refused_total += 1
            return refusal
        answer = self._admit(wanted, now)
        if answer.reason is _QUEUE_FULL and self.room:
            answer.retry_after_ns = self.room.retry_after_ns(now)
        return answer

    def _admit(self, wanted: tasks.Submission, now: int) -> admission.Admission:
        predicted_ns = self.forecast.predict(wanted, now)
        answer = self.room.admit(wanted, self.config, now)
        if answer.reason is _ACCEPTED and answer.task is not None:
            answer.task.predicted_wait_ns = predicted_ns
        return answer

    def _let_in(self, now: int) -> None:
        """Whoever waits for room comes first: in any pool, if it is for memory."""
        memory = self.book.memory.budget
        memory.let_in(now)
        if self.room and not memory.closed:
            self.room.let_in(self.config, now)

    def submit_or_wait(
        self, wanted: tasks.Submission, *, wait_ns: int, now: int
    ) -> admission.Admission | admission.Waiter:
        """The same for a caller who waits for up to `wait_ns` until there is room: a `Waiter` is
        answered by `effects.WaiterAnswered`, unless it leaves (`room.leave`).
        """
        self._let_in(now)
        judged = self.judge(wanted, now)
        if judged is not None and judged.reason in admission.NO_ROOM:
            late = self.forecast.late(wanted, now)
            if late is not None:
                self.book.refused_total += 1
                return late
            return self.room.enter(wanted, self.config, wait_ns=wait_ns, now=now)
        return self.submit(wanted, now)

    def _turn_away(self) -> None:
        """Whoever waits for room does so in vain, and is told at once."""
        for waiter in self.room.take_all():
            refusal = self.shut(waiter.wanted.task_id)
            assert refusal is not None, "a pool that admits turns nobody away"
            self.book.refused_total += 1
            self.book.effects.append(effects.WaiterAnswered(waiter, refusal))

    def judge(
        self, wanted: tasks.Submission, now: int, *, after: int = 0
    ) -> admission.Admission | None:
        """What `submit` would answer, None = it would accept; `after`: tasks that are to come in
        before it. Changes nothing.
        """
        return (
            self._shut_for(wanted, now)
            or self.book.judge(wanted, self.config, now)
            or self.forecast.late(wanted, now, after=after)
        )

    def submit_atomically(
        self, batch: Sequence[tasks.Submission], now: int
    ) -> list[admission.Admission]:
        """All or none. If any would be refused, all carry a refusal: their own, or that of the
        first.
        """
        self._let_in(now)
        judged = [self.judge(wanted, now, after=number) for number, wanted in enumerate(batch)]
        refused = batches.refusals(
            batch, judged, book=self.book, config=self.config, now=now, ahead=len(self.room)
        )
        if refused:
            self.book.refused_total += len(refused)
            return refused
        return [
            answer or self._admit(wanted, now) for wanted, answer in zip(batch, judged, strict=True)
        ]

    def shut(self, task_id: str) -> admission.Admission | None:
        """Why this pool takes no more work for now; None = it does."""
        if self.closed_time:
            return admission.Admission(
                _Reason.POOL_CLOSED,
                task_id,
                message=f"pool {self.name} was deleted: it admits no more tasks",
            )
        if self.draining:
            return admission.Admission(
                _Reason.DRAINING, task_id, message=f"pool {self.name} is draining"
            )
        return None

    def _shut_for(self, wanted: tasks.Submission, now: int) -> admission.Admission | None:
        """The same for a submission: one that was made before is told its task all the same."""
        refusal = self.shut(wanted.task_id)
        if refusal is None or self.book.requests.find(wanted.request_id, now) is not None:
            return None
        return refusal

    def cancel(self, task: tasks.Task, reason: str, now: int) -> bool:
        """Stop a task: at once, or by its worker if it runs or may be. False = it had ended."""
        if task.terminal:
            return False
        if task.lease is not None:
            self.fleet.cancel(task, reason, now)
        elif task.place is tasks.Place.HELD:
            self.book.want_cancelled(task)  # whoever may be running it is told when it is back
        else:
            self.book.withdraw(task)
            self.book.end(task, tasks.TaskState.CANCELLED, self.config, now)
        return True

    # ------------------------------------------------------------ dispatch

    def dispatch(self, now: int) -> int:
        """Assign what can run: best task first, while there are credit, tokens and room in flight.
        Returns how many.
        """
        self.book.backlog.promote(now)
        self.book.memory.charge_structures(self.book.backlog.structure_bytes)
        self._expire(now)  # a timer may be late, and a restart may have been long
        if not self.dispatching:
            self._throttled_since = 0
            return 0
        # Nothing starts while it is not known who is next, or has expired.
        if self.held_back or self.book.backlog.lags(now):
            return 0
        one = turn.Turn(self, now)
        assigned = one.run_plainly() if self.book.backlog.plain else one.run()
        self._throttled_since = (self._throttled_since or now) if one.throttled else 0
        return assigned

    def take_effects(self, durable_lsn: int, now: int) -> list[effects.Effect]:
        """Everything that may be carried out now that records up to `durable_lsn` are durable, in
        order.
        """
        self.book.durable(durable_lsn, now)
        self.dispatch(now)
        self._let_in(now)
        taken, self.book.effects = self.book.effects, []
        return taken

    @property
    def awaits_journal(self) -> bool:
        """Some effect waits for a record to become durable."""
        return self.book.awaits_journal

    # ------------------------------------------------------------ time

    def tick(self, now: int) -> None:
        """Act on everything whose time has come."""
        self.fleet.tick(now)
        self._expire(now)
        self._let_in(now)
        self.room.expire(now)
        if not self.held_back:
            self.book.sweep(now)
        self.limits.sweep(now)

    def _expire(self, now: int) -> None:
        if self.held_back:
            return
        for task in self.book.backlog.take_expired(now):
            self.book.expire(task, self.config, now)

    def stalled(self, now: int) -> None:
        """The process itself stood still for long: nobody's heartbeat could be read, so no lease is
        held against its worker.
        """
        self.fleet.leases.extend_all(now + self.config.lease_ns)

    def next_deadline(self) -> int:
        """When `tick` or `dispatch` has something to do by the passing of time alone; may be early,
        never late.
        """
        due = min(self.fleet.next_due(), self.room.next_due())
        if not self.held_back:
            due = min(due, self.book.backlog.next_due(), self.book.next_sweep())
            if self._throttled_since and self.limits.pool is not None:
                due = min(due, self.limits.pool.ready_at(self._throttled_since))
        return due

    # ------------------------------------------------------------ loading

    def restore(
        self,
        *,
        stored: Iterable[tasks.Task],
        requests: Iterable[tuple[str, idempotency.Request]],
        sessions: Iterable[tuple[str, str]],
        tombstones: Iterable[str],
        paused: bool,
        closed_time: int,
        draining: bool = False,
        now: int,
    ) -> None:
        """Take what the journal kept. `sessions` are (session id, pod UID). Tasks are held back
        while one of those sessions may still be running them: until each has come back, is reported
        gone, or the reconnect grace ends.
        """
        for task in stored:
            self.book.restore(task, self.config, now)
        self.book.restore_requests(requests)
        self.book.requests.sort()
        self.fleet.expected = dict(sessions)
        self.fleet.expected_until = now + self.config.reconnect_grace_ns
        self.fleet.workers.tombstones = dict.fromkeys(tombstones)
        self.paused, self.closed_time, self.draining = paused, closed_time, draining
        if not self.fleet.expected:
            self.book.release_held(self.config, now)

    # ------------------------------------------------------------ looking

    def tokens_available(self, now: int) -> int:
        """Of the rate limit; 0 without one."""
        return 0 if self.limits.pool is None else self.limits.pool.available(now)

    def token_ns(self, now: int, count: int) -> int:
        """How long until the last of so many tokens has come; 0 without a rate limit."""
        return 0 if self.limits.pool is None else self.limits.pool.ready_at(now, count) - now

    def throttled_ns(self, now: int) -> int:
        """How long the head of the queue has lacked nothing but a token."""
        return now - self._throttled_since if self._throttled_since else 0

    def stats(self, now: int) -> demand.PoolStats:
        """What people see."""
        return measures.stats(self, now)

    def runnable_slots(self, now: int) -> int:
        """Demand that could run now; see `measures.runnable_slots`."""
        return measures.runnable_slots(self, now)

    def demand(self, now: int, *, complete: bool = False) -> demand.Demand:
        """What scaling needs; workers that changed since the last call, or all of them."""
        return measures.snapshot(self, now, complete=complete)
