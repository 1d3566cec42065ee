"""One pool: the state machine that the shell drives.

A `Pool` composes the ledger (tasks), the fleet (workers, leases) and the token bucket, and owns
what lies between them: dispatch. The contract with the shell:

* call a verb for each event, with the time; read its answer;
* then `dispatch(now)`; then write what the shared `records.RecordLog` has gathered, in order;
* when records are durable, `take_effects(lsn, now)`: it queues what was committed, dispatches again
  if that made anything runnable, and hands out every effect that may be carried out;
* call `tick(now)` when `next_deadline()` has come, never in a loop.

Two latches stop dispatch: `suspended` (the manifest) and `paused` (the API). A closed pool (its
manifest is gone) admits nothing and still works off what it has.
"""

from collections.abc import Callable, Iterable, Sequence

from penstock_dispatcher.core import (
    admission,
    bucket,
    demand,
    effects,
    fleet,
    idempotency,
    leases,
    ledger,
    records,
    reservations,
    settings,
    units,
)
from penstock_dispatcher.core import batch as batches
from penstock_dispatcher.core import task as tasks

_Reason = admission.AdmissionReason


class Pool:
    """See the module's docstring. `draw` gives a uniform number in [0, 1) for jitter; `fresh` = not
    loaded from a journal.
    """

    def __init__(
        self,
        config: settings.PoolSettings,
        *,
        log: records.RecordLog,
        tokens: leases.TokenSource,
        draw: Callable[[], float],
        now: int,
        fresh: bool = True,
    ) -> None:
        self.config = config
        self.book = ledger.Ledger(pool_uid=config.uid, log=log, tokens=tokens)
        self.fleet = fleet.Fleet(book=self.book, config=config, tokens=tokens, draw=draw)
        self.reservations = reservations.Reservations(book=self.book, table=self.fleet.workers)
        self.paused = False
        self.draining = False
        self.closed_time = 0
        self._log = log
        self._bucket = (
            None
            if config.rate_limit is None
            else bucket.TokenBucket(config.rate_limit, now=now, full=fresh)
        )
        self._throttled_since = 0

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
        limit = config.rate_limit
        if limit is None:
            self._bucket = None
        elif self._bucket is None:
            # Empty: or switching a limit off and on would refill it.
            self._bucket = bucket.TokenBucket(limit, now=now, full=False)
        elif limit != self._bucket.rate:
            self._bucket.reconfigure(limit, now)
        self.config = config
        self.fleet.configure(config)
        if self.closed_time:
            self.closed_time = 0
            self._latch()

    def pause(self, paused: bool) -> None:
        """Set or open the API's latch."""
        if paused != self.paused:
            self.paused = paused
            self._latch()

    def close(self, now: int) -> None:
        """The manifest is gone: admit nothing more; the queue is kept until `purge_time`."""
        if not self.closed_time:
            self.closed_time = now
            self._latch()

    def _latch(self) -> None:
        self._log.append(records.PoolLatched(self.config.uid, self.paused, self.closed_time))

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
        refusal = self._shut(wanted)
        if refusal is not None:
            self.book.refused_total += 1
            return refusal
        return self.book.admit(wanted, self.config, now)

    def judge(self, wanted: tasks.Submission, now: int) -> admission.Admission | None:
        """What `submit` would answer, None = it would accept. Changes nothing."""
        return self._shut(wanted) or self.book.judge(wanted, self.config, now)

    def submit_atomically(
        self, batch: Sequence[tasks.Submission], now: int
    ) -> list[admission.Admission]:
        """All or none. If any would be refused, all carry a refusal: their own, or that of the
        first.
        """
        judged = [self.judge(wanted, now) for wanted in batch]
        refused = batches.refusals(batch, judged, book=self.book, config=self.config, now=now)
        if refused:
            self.book.refused_total += len(refused)
            return refused
        return [
            answer or self.submit(wanted, now) for wanted, answer in zip(batch, judged, strict=True)
        ]

    def _shut(self, wanted: tasks.Submission) -> admission.Admission | None:
        if self.closed_time:
            return admission.Admission(
                _Reason.POOL_CLOSED,
                wanted.task_id,
                message=f"pool {self.name} was deleted: it admits no more tasks",
            )
        if self.draining:
            return admission.Admission(
                _Reason.DRAINING, wanted.task_id, message=f"pool {self.name} is draining"
            )
        return None

    def cancel(self, task: tasks.Task, reason: str, now: int) -> bool:
        """Stop a task: at once if it waits, by asking its worker if it runs. False = it has ended
        already.
        """
        if task.terminal:
            return False
        if task.lease is not None:
            self.fleet.cancel(task, reason, now)
        else:
            self.book.withdraw(task)
            self.book.end(task, tasks.TaskState.CANCELLED, self.config, now)
        return True

    # ------------------------------------------------------------ dispatch

    def dispatch(self, now: int) -> int:
        """Assign what can run: best task first, while there are credit, tokens and room in flight.
        Returns how many.
        """
        assigned = 0
        self.book.backlog.promote(now)
        self._expire(now)  # a timer may be late, and a restart may have been long
        while (task := self._next()) is not None:
            if self._bucket is not None and not self._bucket.take(now):
                self._throttled_since = self._throttled_since or now
                return assigned
            self._throttled_since = 0
            worker = self.fleet.workers.pick(task.type)
            assert worker is not None, "an open type has an open worker"
            self.book.take_head(task)
            self.fleet.assign(worker, task, now)
            assigned += 1
        # Something else is in the way: a token would change nothing, and nobody waits for one.
        self._throttled_since = 0
        return assigned

    def _next(self) -> tasks.Task | None:
        """The task that is next, if all that it lacks is a token."""
        cap = self.config.max_in_flight
        if not self.dispatching or (cap and len(self.fleet.leases) >= cap):
            return None
        types = self.fleet.workers.open_types()
        if types is not None and not types:
            return None
        return self.book.backlog.head(types)

    def take_effects(self, durable_lsn: int, now: int) -> list[effects.Effect]:
        """Everything that may be carried out now that records up to `durable_lsn` are durable, in
        order.
        """
        self.book.durable(durable_lsn, now)
        self.dispatch(now)
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
        self.book.sweep(now)

    def _expire(self, now: int) -> None:
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
        due = min(self.fleet.next_due(), self.book.backlog.next_due(), self.book.next_sweep())
        if self._throttled_since and self._bucket is not None:
            due = min(due, self._bucket.ready_at(self._throttled_since))
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
        now: int,
    ) -> None:
        """Take what the journal kept. `requests` oldest first; `sessions` are (session id, pod
        UID).

        Tasks are held back while one of those sessions may still be running them: until each has
        come back, is reported gone, or the reconnect grace ends.
        """
        for task in stored:
            self.book.restore(task, self.config, now)
        self.book.restore_requests(requests)
        self.fleet.expected = dict(sessions)
        self.fleet.expected_until = now + self.config.reconnect_grace_ns
        self.fleet.workers.tombstones = dict.fromkeys(tombstones)
        self.paused, self.closed_time = paused, closed_time
        if not self.fleet.expected:
            self.book.release_held(self.config, now)

    # ------------------------------------------------------------ looking

    def stats(self, now: int) -> demand.PoolStats:
        """What people see."""
        book, table = self.book, self.fleet.workers
        per_second = book.completions.per_second(now)
        return demand.PoolStats(
            pending=book.waiting - book.backlog.delayed_count,
            delayed=book.backlog.delayed_count,
            in_flight=len(self.fleet.leases),
            dead_lettered=book.ended.dead_letters,
            pending_bytes=book.waiting_bytes,
            oldest_pending_time=book.oldest_create_time(),
            arrival_per_second=book.arrivals.per_second(now),
            completion_per_second=per_second,
            mean_execution_ns=self._mean_execution_ns(now),
            rate_limit_tokens=0 if self._bucket is None else self._bucket.available(now),
            rate_limited_ns=now - self._throttled_since if self._throttled_since else 0,
            slots_total=sum(worker.slots for worker in table.all() if worker.takes_work),
            slots_used=len(self.fleet.leases),
            pending_by_priority=book.backlog.by_priority.highest(demand.PRIORITIES_SHOWN_MAX),
            accepted_total=book.accepted_total,
            refused_total=book.refused_total,
            succeeded_total=book.succeeded_total,
            failed_total=book.failed_total,
            estimated_wait_ns=int(book.waiting / per_second * units.SECOND) if per_second else -1,
        )

    def _mean_execution_ns(self, now: int) -> int:
        """Until there are samples: the mean elapsed time of what runs."""
        if self.book.execution.count:
            return int(self.book.execution.value)
        running = self.fleet.leases.all()
        if not running:
            return 0
        return sum(now - lease.start_time for lease in running) // len(running)

    def runnable_slots(self) -> int:
        """Waiting tasks that could run now if workers existed: in-flight cap applied, the rate not.

        What is held back after a restart counts: it is running, or will be runnable; either way it
        needs a slot.
        """
        if not self.dispatching:
            return 0
        runnable = self.book.backlog.ready_count + len(self.book.held)
        if self.config.max_in_flight:
            runnable = min(runnable, max(0, self.config.max_in_flight - len(self.fleet.leases)))
        return runnable

    def demand(self, now: int, *, complete: bool = False) -> demand.Demand:
        """What scaling needs; workers that changed since the last call, or all of them."""
        table = self.fleet.workers
        changed = table.changed
        table.changed = {}
        shown = {worker.session_id: worker for worker in table.all()} if complete else changed
        return demand.Demand(
            generation=self.config.generation,
            stats=self.stats(now),
            runnable_slots=self.runnable_slots(),
            workers=tuple(shown.values()),
            gone=frozenset(
                session_id for session_id, worker in shown.items() if not table.knows(worker)
            ),
        )
