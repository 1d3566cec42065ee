"""Methods with a bug in each, of the kind that one makes; see `rig.bugs`.

Each function is given the right method and returns the wrong one.
"""

import dataclasses
from typing import Any

from penstock_dispatcher.core import (
    backlog,
    effects,
    fleet,
    leases,
    ledger,
    pool,
    reservations,
    turn,
    waiting_room,
    workers,
)
from penstock_dispatcher.core import task as tasks
from rig import simulated

# ------------------------------------------------------------ the journal


def ack_at_once(right: Any) -> Any:
    def tell_when_durable(self: ledger.Ledger, lsn: int, effect: effects.Effect) -> None:
        if isinstance(effect, effects.OutcomeAcked):
            self.effects.append(effect)
        else:
            right(self, lsn, effect)

    return tell_when_durable


def accept_at_once(right: Any) -> Any:
    def accept(self: ledger.Ledger, *given: Any) -> Any:
        return dataclasses.replace(right(self, *given), lsn=0)

    return accept


def run_before_durable(_: Any) -> Any:
    def commit_then_queue(self: ledger.Ledger, task: tasks.Task, told: effects.Effect) -> None:
        task.place = tasks.Place.QUEUED
        self._came(task)
        self.backlog.add(task, max(task.not_before, task.create_time))
        self.tell_when_durable(task.lsn, told)

    return commit_then_queue


def always_fresh(right: Any) -> Any:
    def init(self: pool.Pool, *given: Any, **named: Any) -> None:
        right(self, *given, **{**named, "fresh": True})

    return init


def release_held(right: Any) -> Any:
    def restore(self: pool.Pool, **named: Any) -> None:
        right(self, **named)
        self.book.release_held(self.config, named["now"])

    return restore


def forget_pause(right: Any) -> Any:
    def restore(self: pool.Pool, **named: Any) -> None:
        right(self, **{**named, "paused": False})

    return restore


def forget_cancel(right: Any) -> Any:
    def restore(self: ledger.Ledger, task: tasks.Task, *given: Any) -> None:
        if task.cancelling:
            task.cancelling, task.state = False, tasks.TaskState.PENDING
        right(self, task, *given)

    return restore


def forget_requests(_: Any) -> Any:
    def restore(*_: Any) -> None:
        pass

    return restore


def unwritten_tombstone(_: Any) -> Any:
    def entomb(self: reservations.Reservations, pod_uid: str) -> None:
        self._table.entomb(pod_uid)

    return entomb


# ------------------------------------------------------------ admission


def full_but_one(right: Any) -> Any:
    def no_room(new: Any, *, book: ledger.Ledger, config: Any, now: int) -> Any:
        while_committing = 1 if book.committing else 0
        lax = dataclasses.replace(config, max_pending=config.max_pending + while_committing)
        return right(new, book=book, config=lax, now=now)

    return no_room


def forget_who_left(_: Any) -> Any:
    def abandon(self: simulated.Server, waiter: Any) -> None:
        del self.waiting[waiter]
        self.turn()

    return abandon


def keep_bytes_of_who_left(right: Any) -> Any:
    def leave(self: waiting_room.WaitingRoom, waiter: Any) -> None:
        kept = waiter.wanted.size if waiter.waits else 0
        right(self, waiter)
        self.payload_bytes += kept

    return leave


def count_bytes_twice(right: Any) -> Any:
    def requeue(self: ledger.Ledger, task: tasks.Task, **named: Any) -> None:
        right(self, task, **named)
        self.waiting_bytes += task.size

    return requeue


def admit_while_draining(right: Any) -> Any:
    def shut(self: pool.Pool, task_id: str) -> Any:
        return right(self, task_id) if self.closed_time or self.room else None

    return shut


def heed_only_pause(_: Any) -> Any:
    def dispatching(self: pool.Pool) -> bool:
        return not self.paused

    return property(dispatching)


# ------------------------------------------------------------ order, rate, times


def last_again(right: Any) -> Any:
    def requeue(self: ledger.Ledger, task: tasks.Task, **named: Any) -> None:
        self.sequence += 1
        task.sequence = self.sequence
        right(self, task, **named)

    return requeue


def first_priority_only(right: Any) -> Any:
    def add(self: backlog.Backlog, task: tasks.Task, now: int) -> None:
        task.priority = min(task.priority, 0)
        right(self, task, now)

    return add


def retry_for_free(right: Any) -> Any:
    def run_plainly(self: turn.Turn) -> int:
        limits, task = self._limits, self._backlog.head(self._table.open_types())
        if task is None or not task.attempt or limits.pool is None:
            return int(right(self))
        kept, limits.pool = limits.pool, None
        try:
            return int(right(self))
        finally:
            limits.pool = kept

    return run_plainly


def one_more_in_flight(right: Any) -> Any:
    def run_plainly(self: turn.Turn) -> int:
        kept = self._pool.config
        if kept.max_in_flight:
            more = kept.max_in_flight + 1
            self._pool.config = dataclasses.replace(kept, max_in_flight=more)
        try:
            return int(right(self))
        finally:
            self._pool.config = kept

    return run_plainly


def room_of_what_may_run(right: Any) -> Any:
    def room(self: turn.Turn) -> int:
        return int(right(self)) + len(self._pool.book.held)

    return room


def too_early(right: Any) -> Any:
    def promote(self: backlog.Backlog, now: int) -> Any:
        return right(self, now + 1_000_000_000)

    return promote


def never_too_late(_: Any) -> Any:
    def expire(self: pool.Pool, now: int) -> None:
        """Nothing is too late."""

    return expire


# ------------------------------------------------------------ delivery


def late_outcomes_count(right: Any) -> Any:
    def end(self: Any, lease: leases.Lease) -> None:
        late = self.__dict__.setdefault("late", {})
        if lease.id in self._by_id:
            right(self, lease)
            late[lease.id] = lease
            self.get = lambda lease_id: self._by_id.get(lease_id) or late.get(lease_id)

    return end


def adopt_what_is_recorded(right: Any) -> Any:
    def adopt(self: fleet.Fleet, *given: Any) -> Any:
        kept = self._recorded
        self._recorded = type(kept)()
        try:
            return right(self, *given)
        finally:
            self._recorded = kept

    return adopt


def leases_of_nobody(_: Any) -> Any:
    def lose_all(self: fleet.Fleet, worker: Any, cause: str, now: int) -> None:
        worker.leases.clear()

    return lose_all


def never_silent(_: Any) -> Any:
    def silence(self: workers.WorkerTable, session_id: str) -> None:
        """It goes on being given work."""

    return silence


def never_due(_: Any) -> Any:
    def take_due(self: leases.LeaseTable, now: int) -> list[leases.Lease]:
        return []

    return take_due


def no_excuse(_: Any) -> Any:
    def extend_all(self: leases.LeaseTable, expires: int) -> None:
        """Nobody is excused."""

    return extend_all


def no_tombstone(_: Any) -> Any:
    def shut_out(self: reservations.Reservations, pod_uids: Any, *, expected: Any) -> list[str]:
        return [uid for uid in pod_uids if self._table.of_pod(uid) is None and uid not in expected]

    return shut_out
