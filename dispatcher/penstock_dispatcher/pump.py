"""The pump: drives the pools, and carries their effects out.

Handlers call a pool's verbs directly, in the loop, and then `mark` it. One *turn*, on the loop's
next round, takes the effects of every marked pool: frames go to the outboxes of their workers,
calls that wait are woken, demand is offered to the operator's feed; what must survive goes to the
journal (`commits`), and comes back as another turn for the pools that waited for it.

Time: one timer, armed for the earliest deadline of all pools, kept in a heap that is cleaned
lazily. Nothing is ever asked "is there something to do?" in a loop. A beat each second measures
how late the loop is; if the whole process stood still, leases are extended before any of them is
judged.

A fault in a turn, or in a timer, leaves effects behind that nobody will carry out: like a journal
that fails it ends the process, and the next one starts from what is durable.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import Any, Final

from penstock.v1 import worker_service_pb2
from penstock_dispatcher import clock as clocks
from penstock_dispatcher import commits, errors, outbox, registry, room, waiters, watches
from penstock_dispatcher.convert import times, worker_side
from penstock_dispatcher.core import admission, effects, records, units
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface

BEAT_SECONDS: Final = 1.0
TIMER_SECONDS_MIN: Final = 0.001
"""A deadline that is passed already waits this long: the loop is never starved by its timer."""
COMPACT_SECONDS: Final = 10.0
COMPACT_AGAIN_SECONDS: Final = 0.05

SessionKey = tuple[str, str]
"""Pool uid and session id. Workers may name their session as they like: one of another pool is
another session, whatever it is called.
"""
_Carry = Callable[[pools.Pool, Any], None]


class Pump:
    """See the module's docstring. `changed` is told of every pool that had a turn."""

    def __init__(
        self,
        *,
        clock: clocks.Clock,
        log: records.RecordLog,
        journal: interface.Journal,
        pool_registry: registry.Registry,
        dispatcher_id: str,
    ) -> None:
        self.now = clock.now
        self.dispatcher_id = dispatcher_id
        self.registry = pool_registry
        self.waiters = waiters.Waiters[tasks.Task]()
        self.drains = waiters.Waiters[pools.Pool]()
        self.callers = room.Callers()
        self.watches = watches.Watches()
        self.outboxes: dict[SessionKey, outbox.Outbox] = {}
        """The stream that speaks for a session now."""
        self.on_replaced: dict[SessionKey, Callable[[], None]] = {}
        """Ends that stream, because a newer one or the operator said so."""
        self.changed: Callable[[pools.Pool], None] = lambda _: None
        self.purged: Callable[[pools.Pool], None] = lambda _: None
        self.loop_lag_seconds = 0.0
        self.serving = False
        self.stopping = False
        self.commits = commits.Commits(log=log, journal=journal, committed=self._committed)
        self.operator_epoch = 0
        self._log = log
        self._journal = journal
        self._dirty: dict[pools.Pool, None] = {}
        self._awaiting: dict[pools.Pool, None] = {}
        self._held_back: dict[pools.Pool, None] = {}
        """Had a turn in which nothing was begun, because the journal was behind."""
        self._scheduled = False
        self._deadlines: list[tuple[int, int, pools.Pool]] = []
        self._armed: dict[pools.Pool, int] = {}
        self._pushed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = units.NEVER
        self._last_beat = clock.now()
        self._carry: dict[type, _Carry] = {
            effects.Welcomed: self._welcome,
            effects.CancelRequested: self._cancel,
            effects.LeasesLost: self._lose,
            effects.DrainRequested: self._drain,
            effects.DrainRevoked: self._undrain,
            effects.SessionReplaced: self._replace,
            effects.WaiterAnswered: self._answer_waiter,
        }

    # ------------------------------------------------------------ gate

    def check_open(self) -> None:
        """Raises Refusal unless calls are served."""
        if self.stopping:
            raise errors.stopping()
        if not self.serving:
            raise errors.starting()

    def check_admission(self) -> None:
        """Raises Refusal unless new tasks can be taken."""
        self.check_open()
        if self.storage_full() or self.commits.failed.done():
            raise errors.storage()

    def storage_full(self) -> bool:
        """The journal has no room for new tasks."""
        return self.commits.stuck or self._journal.full()

    async def durable(self, lsn: int) -> None:
        """Return when record `lsn` is durable. Raises Refusal if that will not be."""
        try:
            await self.commits.durable(lsn)
        except interface.JournalFailed:
            raise errors.storage() from None

    async def everything_durable(self) -> None:
        """Return when every record of before is durable. Raises Refusal if that will not be."""
        self.commits.gather()
        await self.durable(self._log.last)

    def see_operator(self, epoch: int) -> None:
        """An operator with this epoch leads."""
        if epoch > self.operator_epoch:
            self.operator_epoch = epoch
            self._log.append(records.OperatorSeen(epoch))
            self.commits.gather()

    # ------------------------------------------------------------ waiting for room

    async def submit_or_wait(
        self, pool: pools.Pool, wanted: tasks.Submission, wait_ns: int
    ) -> admission.Admission:
        """Decide about one task; a full pool is waited for. Raises Refusal if nobody gets in any
        more.
        """
        decided = pool.submit_or_wait(wanted, wait_ns=wait_ns, now=self.now())
        self.mark(pool)
        if isinstance(decided, admission.Admission):
            return decided
        try:
            return await self.callers.answer(decided, pool.room)
        finally:
            self.mark(pool)

    def turn_away(self, refusal: errors.Refusal) -> None:
        """Tell everybody who waits for room."""
        for pool in self.registry.by_uid.values():
            self.callers.turn_away(pool.room, refusal)

    # ------------------------------------------------------------ turns

    def mark(self, pool: pools.Pool) -> None:
        """Something happened to the pool: it gets a turn."""
        self._dirty[pool] = None
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        try:
            self._take_turn()
        except Exception as error:
            self.commits.fail(error)

    def _take_turn(self) -> None:
        self._scheduled = False
        now = self.now()
        dirty, self._dirty = self._dirty, {}
        durable_lsn, behind = self.commits.durable_lsn, self.commits.behind
        full = self.registry.memory.closed = self.storage_full()
        if behind:
            self._held_back.update(dirty)
        for pool in dirty:
            if self.registry.by_uid.get(pool.config.uid) is not pool:
                continue  # purged: its streams end, and say so
            if pool.room and full:
                self.callers.turn_away(pool.room, errors.storage())
            pool.held_back = behind
            self._carry_out(pool, pool.take_effects(durable_lsn, now))
            if pool.awaits_journal:
                self._awaiting[pool] = None
            if self.drains and (pool.drained or not pool.draining):
                self.drains.wake(pool)
            if self.watches:
                self.watches.turned(pool, durable_lsn)
            self._arm(pool)
            self.changed(pool)
        self._mark_let_in()
        self.commits.gather()
        self._set_timer(now)

    def _mark_let_in(self) -> None:
        """Pools whose callers were let in by what others gave back have something to tell them."""
        for uid in self.registry.memory.take_let_in():
            pool = self.registry.by_uid.get(uid)
            if pool is not None:
                self.mark(pool)

    def _committed(self) -> None:
        awaiting, self._awaiting = self._awaiting, {}
        for pool in awaiting:
            self.mark(pool)
        if self._held_back and not self.commits.behind:
            held_back, self._held_back = self._held_back, {}
            for pool in held_back:
                self.mark(pool)

    # ------------------------------------------------------------ effects

    def _carry_out(self, pool: pools.Pool, taken: list[effects.Effect]) -> None:
        """In order. There are five for each task that comes and goes: the three common kinds are
        handled here, without a call for each.
        """
        uid, listened_to = pool.config.uid, bool(self.watches) or bool(self.waiters)
        session_id, box = "", None
        for effect in taken:
            if type(effect) is effects.TaskChanged:
                if listened_to:
                    self._task_changed(pool, effect)
            elif type(effect) is effects.Assigned:
                if effect.session_id != session_id:
                    session_id = effect.session_id
                    box = self.outboxes.get((uid, session_id))
                if box is not None:
                    box.assign(effect.task, effect.lease)
            elif type(effect) is effects.OutcomeAcked:
                if effect.session_id != session_id:
                    session_id = effect.session_id
                    box = self.outboxes.get((uid, session_id))
                if box is not None:
                    box.ack(effect.lease_id, effect.accepted)
            else:
                self._carry[type(effect)](pool, effect)
                session_id = ""  # a stream may have been replaced by that

    def _welcome(self, pool: pools.Pool, effect: effects.Welcomed) -> None:
        box = self.outboxes.get((pool.config.uid, effect.session_id))
        if box is None:
            return
        epoch = self.registry.tokens.epoch
        box.welcome(
            worker_side.welcome(effect, pool.config, dispatcher_id=self.dispatcher_id, epoch=epoch)
        )

    def _send(
        self, pool: pools.Pool, session_id: str, frame: worker_service_pb2.WorkResponse
    ) -> None:
        box = self.outboxes.get((pool.config.uid, session_id))
        if box is not None:
            box.send(frame)

    def _cancel(self, pool: pools.Pool, effect: effects.CancelRequested) -> None:
        cancel = worker_service_pb2.CancelLease(
            lease_id=effect.lease_id,
            reason=effect.reason,
            grace=times.duration(pool.config.cancel_grace_ns),
        )
        self._send(pool, effect.session_id, worker_service_pb2.WorkResponse(cancel=cancel))

    def _lose(self, pool: pools.Pool, effect: effects.LeasesLost) -> None:
        state = worker_service_pb2.LeaseState(lost_lease_ids=effect.lease_ids)
        self._send(pool, effect.session_id, worker_service_pb2.WorkResponse(lease_state=state))

    def _drain(self, pool: pools.Pool, effect: effects.DrainRequested) -> None:
        drain = worker_service_pb2.Drain(reservation_id=effect.reservation_id, reason="scale-down")
        self._send(pool, effect.session_id, worker_service_pb2.WorkResponse(drain=drain))

    def _undrain(self, pool: pools.Pool, effect: effects.DrainRevoked) -> None:
        undrain = worker_service_pb2.Undrain(reservation_id=effect.reservation_id)
        self._send(pool, effect.session_id, worker_service_pb2.WorkResponse(undrain=undrain))

    def _replace(self, pool: pools.Pool, effect: effects.SessionReplaced) -> None:
        self._end_stream(pool, effect.session_id)

    def _end_stream(self, pool: pools.Pool, session_id: str) -> None:
        end = self.on_replaced.pop((pool.config.uid, session_id), None)
        if end is not None:
            end()

    def _answer_waiter(self, _: pools.Pool, effect: effects.WaiterAnswered) -> None:
        self.callers.answered(effect)

    def _task_changed(self, pool: pools.Pool, effect: effects.TaskChanged) -> None:
        if self.watches:
            self.watches.changed(pool, effect, self.now())
        if self.waiters and effect.task.terminal:
            self.waiters.wake(effect.task)

    # ------------------------------------------------------------ time

    def _arm(self, pool: pools.Pool) -> None:
        due = min(pool.next_deadline(), pool.purge_time)
        if due < self._armed.get(pool, units.NEVER):
            self._armed[pool] = due
            self._pushed += 1
            heapq.heappush(self._deadlines, (due, self._pushed, pool))

    def _set_timer(self, now: int) -> None:
        due = self._deadlines[0][0] if self._deadlines else units.NEVER
        if due == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = due
        if due < units.NEVER:
            delay = max(TIMER_SECONDS_MIN, (due - now) / units.SECOND)
            self._timer = asyncio.get_running_loop().call_later(delay, self._time_has_come)

    def _time_has_come(self) -> None:
        try:
            self._take_time()
        except Exception as error:
            self.commits.fail(error)

    def _take_time(self) -> None:
        self._timer, self._timer_at = None, units.NEVER
        now = self.now()
        self.registry.memory.closed = self.storage_full()
        self._excuse_stall(now)
        before = self._log.last
        while self._deadlines and self._deadlines[0][0] <= now:
            due, _, pool = heapq.heappop(self._deadlines)
            if self._armed.get(pool) != due:
                continue  # an earlier one took its place
            del self._armed[pool]
            if pool.purge_time <= now:
                self._purge(pool)
            else:
                if self._log.last - before > commits.BEHIND_RECORDS_MAX:
                    pool.held_back = True  # others' deletions are enough for now: its own come next
                pool.tick(now)
                self.mark(pool)
        # A pool that is forgotten has given back what it took, and has no turn any more.
        self.registry.memory.let_in(now)
        self._mark_let_in()
        self._set_timer(now)

    def _purge(self, pool: pools.Pool) -> None:
        self.registry.purge(pool)
        for worker in pool.fleet.workers.all():
            self._end_stream(pool, worker.session_id)
        pool.fleet.end_leases(self.now())
        for task in pool.book.tasks.values():
            self.waiters.wake(task)
        self.drains.wake(pool)
        self.watches.end(errors.no_pool(pool.name), of=pool)
        for waiting in (self._dirty, self._awaiting, self._held_back, self._armed):
            waiting.pop(pool, None)
        self.commits.gather()
        self.purged(pool)

    def _excuse_stall(self, now: int) -> None:
        """If nothing of ours ran for long (a paused machine), nobody's heartbeat was read."""
        stood_still = now - self._last_beat - int(BEAT_SECONDS * units.SECOND)
        self._last_beat = max(self._last_beat, now - int(BEAT_SECONDS * units.SECOND))
        if stood_still <= 0:
            return
        for pool in self.registry.by_uid.values():
            if stood_still > pool.config.lease_ns // 3:
                pool.stalled(now)

    async def beat(self) -> None:
        """Measure the loop's lag, and see to what nobody else may see, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(BEAT_SECONDS)
            self.loop_lag_seconds = max(0.0, loop.time() - before - BEAT_SECONDS)
            now = self.now()
            try:
                self._excuse_stall(now)
                if self.storage_full():
                    # Nobody's turn may come while nothing can be written.
                    self.turn_away(errors.storage())
            except Exception as error:
                self.commits.fail(error)
                return
            self._last_beat = now

    async def compact(self) -> None:
        """Give room back to the disk, in small steps, for ever."""
        try:
            while True:
                more = await self._journal.compact(self.now())
                await asyncio.sleep(COMPACT_AGAIN_SECONDS if more else COMPACT_SECONDS)
        except Exception as error:
            self.commits.fail(error)
