"""Bugs planted on purpose, to see that the simulation finds them.

Each replaces one method for as long as a block lasts; nothing is rewritten. What a bug breaks is
said beside it, by the words of the promise. `hunt` plays histories until one is broken.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Final

from penstock_dispatcher.core import (
    backlog,
    effects,
    fleet,
    leases,
    ledger,
    pool,
    reservations,
    waiting_room,
)
from penstock_dispatcher.core import task as tasks
from rig import operated, simulated, simulation

Replace = Callable[[Any], Any]
"""The method as it is → the one with the bug."""
Play = Callable[[int], None]

SEEDS_MAX: Final = 300


@contextlib.contextmanager
def replaced(owner: type, name: str, replace: Replace) -> Iterator[None]:
    """One attribute of a class is another one inside the block."""
    kept = owner.__dict__[name]
    setattr(owner, name, replace(kept))
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _world(kind: type[simulation.World], **fields: bool) -> Play:
    scenario = simulation.Scenario(**fields)
    return lambda seed: kind(seed, scenario).run()


WORLDS: Final[dict[str, Play]] = {
    "harsh": _world(simulation.World),
    "gentle": _world(simulation.World, gentle=True),
    "crowded": _world(simulation.World, crowded=True),
    "operated": _world(operated.OperatedWorld),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Bug:
    """One planted bug. `breaks`: words of the promises that may notice it, any of them."""

    title: str
    world: str
    breaks: tuple[str, ...]
    owner: type
    name: str
    replace: Replace


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The history that is broken, and the promise."""

    seed: int
    promise: str


def hunt(bug: Bug, seeds: int = SEEDS_MAX) -> Finding | None:
    """Plant the bug and play its world's histories until a promise is broken."""
    with replaced(bug.owner, bug.name, bug.replace):
        for seed in range(seeds):
            try:
                WORLDS[bug.world](seed)
            except AssertionError as broken:
                return Finding(seed, str(broken))
    return None


# ------------------------------------------------------------ the journal


def _ack_at_once(right: Any) -> Any:
    def tell_when_durable(self: ledger.Ledger, lsn: int, effect: effects.Effect) -> None:
        if isinstance(effect, effects.OutcomeAcked):
            self.effects.append(effect)
        else:
            right(self, lsn, effect)

    return tell_when_durable


def _accept_at_once(right: Any) -> Any:
    def accept(self: ledger.Ledger, *given: Any) -> Any:
        return right(self, *given)._replace(lsn=0)

    return accept


def _run_before_durable(_: Any) -> Any:
    def commit_then_queue(self: ledger.Ledger, task: tasks.Task, told: effects.Effect) -> None:
        task.place = tasks.Place.QUEUED
        self._came(task)
        self.backlog.add(task, max(task.not_before, task.create_time))
        self.tell_when_durable(task.lsn, told)

    return commit_then_queue


def _always_fresh(right: Any) -> Any:
    def init(self: pool.Pool, *given: Any, **named: Any) -> None:
        right(self, *given, **{**named, "fresh": True})

    return init


def _release_held(right: Any) -> Any:
    def restore(self: pool.Pool, **named: Any) -> None:
        right(self, **named)
        self.book.release_held(self.config, named["now"])

    return restore


def _forget_pause(right: Any) -> Any:
    def restore(self: pool.Pool, **named: Any) -> None:
        right(self, **{**named, "paused": False})

    return restore


def _forget_cancel(right: Any) -> Any:
    def restore(self: ledger.Ledger, task: tasks.Task, *given: Any) -> None:
        if task.cancelling:
            task.cancelling, task.state = False, tasks.TaskState.PENDING
        right(self, task, *given)

    return restore


def _forget_requests(_: Any) -> Any:
    def restore_requests(self: ledger.Ledger, requests: Any) -> None:
        for _ in requests:
            pass

    return restore_requests


def _unwritten_tombstone(_: Any) -> Any:
    def entomb(self: reservations.Reservations, pod_uid: str) -> None:
        self._table.entomb(pod_uid)

    return entomb


# ------------------------------------------------------------ admission


def _full_but_one(right: Any) -> Any:
    def full(self: ledger.Ledger, config: Any, *, count: int, size: int) -> Any:
        while_committing = 1 if self.committing else 0
        return right(self, config, count=count - while_committing, size=size)

    return full


def _forget_who_left(_: Any) -> Any:
    def abandon(self: simulated.Server, waiter: Any) -> None:
        del self.waiting[waiter]
        self.turn()

    return abandon


def _keep_bytes_of_who_left(_: Any) -> Any:
    def leave(self: waiting_room.WaitingRoom, waiter: Any) -> None:
        if waiter.waits:
            waiter.waits = False
            self._order.died()
            self._deadlines.died()
            self._of_request.pop(waiter.wanted.request_id, None)

    return leave


def _count_bytes_twice(right: Any) -> Any:
    def requeue(self: ledger.Ledger, task: tasks.Task, **named: Any) -> None:
        right(self, task, **named)
        self.waiting_bytes += task.size

    return requeue


def _admit_while_draining(right: Any) -> Any:
    def shut(self: pool.Pool, task_id: str) -> Any:
        return right(self, task_id) if self.closed_time or self.room else None

    return shut


# ------------------------------------------------------------ order, rate, times


def _last_again(right: Any) -> Any:
    def requeue(self: ledger.Ledger, task: tasks.Task, **named: Any) -> None:
        self._sequence += 1
        task.sequence = self._sequence
        right(self, task, **named)

    return requeue


def _first_priority_only(right: Any) -> Any:
    def add(self: backlog.Backlog, task: tasks.Task, now: int) -> None:
        task.priority = min(task.priority, 0)
        right(self, task, now)

    return add


def _retry_for_free(right: Any) -> Any:
    def dispatch(self: pool.Pool, now: int) -> int:
        task = self._next()
        if task is None or not task.attempt or self._bucket is None:
            return int(right(self, now))
        kept, self._bucket = self._bucket, None
        try:
            return int(right(self, now))
        finally:
            self._bucket = kept

    return dispatch


def _one_more_in_flight(right: Any) -> Any:
    def following(self: pool.Pool) -> Any:
        cap = self.config.max_in_flight
        if cap and len(self.fleet.leases) == cap:
            kept, self.config = self.config, dataclasses.replace(self.config, max_in_flight=0)
            try:
                return right(self)
            finally:
                self.config = kept
        return right(self)

    return following


def _too_early(right: Any) -> Any:
    def promote(self: backlog.Backlog, now: int) -> Any:
        return right(self, now + 1_000_000_000)

    return promote


def _never_too_late(_: Any) -> Any:
    def expire(self: pool.Pool, now: int) -> None:
        """Nothing is too late."""

    return expire


# ------------------------------------------------------------ delivery


def _late_outcomes_count(right: Any) -> Any:
    def end(self: Any, lease: leases.Lease) -> None:
        late = self.__dict__.setdefault("late", {})
        if lease.id in self._by_id:
            right(self, lease)
            late[lease.id] = lease
            self.get = lambda lease_id: self._by_id.get(lease_id) or late.get(lease_id)

    return end


def _adopt_what_is_recorded(right: Any) -> Any:
    def adopt(self: fleet.Fleet, *given: Any) -> Any:
        kept = self._recorded
        self._recorded = type(kept)()
        try:
            return right(self, *given)
        finally:
            self._recorded = kept

    return adopt


def _leases_of_nobody(_: Any) -> Any:
    def lose_all(self: fleet.Fleet, worker: Any, cause: str, now: int) -> None:
        worker.leases.clear()

    return lose_all


def _never_due(_: Any) -> Any:
    def take_due(self: leases.LeaseTable, now: int) -> list[leases.Lease]:
        return []

    return take_due


def _no_excuse(_: Any) -> Any:
    def extend_all(self: leases.LeaseTable, expires: int) -> None:
        """Nobody is excused."""

    return extend_all


def _no_tombstone(_: Any) -> Any:
    def shut_out(self: reservations.Reservations, pod_uids: Any, *, expected: Any) -> list[str]:
        return [uid for uid in pod_uids if self._table.of_pod(uid) is None and uid not in expected]

    return shut_out


BUGS: Final = (
    Bug(
        "an outcome is acknowledged before the sync",
        "harsh",
        ("no acknowledgement before the sync",),
        ledger.Ledger,
        "tell_when_durable",
        _ack_at_once,
    ),
    Bug(
        "a submission is answered before the sync",
        "harsh",
        ("nobody is told of a task that a crash could take back",),
        ledger.Ledger,
        "_accept",
        _accept_at_once,
    ),
    Bug(
        "a task runs before its acceptance is durable",
        "harsh",
        ("nothing runs before it is durable",),
        ledger.Ledger,
        "commit_then_queue",
        _run_before_durable,
    ),
    Bug(
        "a restart refills the bucket",
        "harsh",
        ("the rate is exact",),
        pool.Pool,
        "__init__",
        _always_fresh,
    ),
    Bug(
        "after a restart, tasks that workers may still run are given out at once",
        "gentle",
        ("run twice", "max(attempts)"),
        pool.Pool,
        "restore",
        _release_held,
    ),
    Bug(
        "a restart forgets that the pool is paused",
        "operated",
        ("a paused pool gives nothing out", "latches are written"),
        pool.Pool,
        "restore",
        _forget_pause,
    ),
    Bug(
        "a restart forgets a cancel",
        "harsh",
        ("what was cancelled never starts again",),
        ledger.Ledger,
        "restore",
        _forget_cancel,
    ),
    Bug(
        "a restart forgets request ids",
        "harsh",
        ("what was accepted is never refused later", "one request id, one task"),
        ledger.Ledger,
        "restore_requests",
        _forget_requests,
    ),
    Bug(
        "the tombstone of a drained pod is not written",
        "harsh",
        ("tombstones are written", "a pod that was shut out gets no work"),
        reservations.Reservations,
        "_entomb",
        _unwritten_tombstone,
    ),
    Bug(
        "a pod that is shut out gets no tombstone",
        "operated",
        ("a pod that was shut out gets no work",),
        reservations.Reservations,
        "shut_out",
        _no_tombstone,
    ),
    Bug(
        "one too many is admitted while records are being committed",
        "harsh",
        ("the bound is exact",),
        ledger.Ledger,
        "full",
        _full_but_one,
    ),
    Bug(
        "a caller who went away still waits for room",
        "crowded",
        ("waiters are those who wait",),
        simulated.Server,
        "abandon",
        _forget_who_left,
    ),
    Bug(
        "the bytes of a caller who went away stay counted",
        "crowded",
        ("the bytes of waiters are counted",),
        waiting_room.WaitingRoom,
        "leave",
        _keep_bytes_of_who_left,
    ),
    Bug(
        "a requeue counts the task's bytes twice",
        "harsh",
        ("the bytes that wait are counted",),
        ledger.Ledger,
        "requeue",
        _count_bytes_twice,
    ),
    Bug(
        "a draining pool admits",
        "operated",
        ("a pool that is shut admits nothing",),
        pool.Pool,
        "shut",
        _admit_while_draining,
    ),
    Bug(
        "a requeued task goes to the end of its priority",
        "harsh",
        ("a task keeps its place in the order", "nothing becomes of a task that is not there"),
        ledger.Ledger,
        "requeue",
        _last_again,
    ),
    Bug(
        "a high priority counts as none",
        "harsh",
        ("a task keeps its priority",),
        backlog.Backlog,
        "add",
        _first_priority_only,
    ),
    Bug(
        "a retry takes no token",
        "harsh",
        ("the rate is exact",),
        pool.Pool,
        "dispatch",
        _retry_for_free,
    ),
    Bug(
        "one more than maxInFlight runs",
        "harsh",
        ("at most maxInFlight",),
        pool.Pool,
        "_next",
        _one_more_in_flight,
    ),
    Bug(
        "a delayed task starts a second early",
        "harsh",
        ("delayed tasks wait for their time",),
        backlog.Backlog,
        "promote",
        _too_early,
    ),
    Bug(
        "a task starts after the time to start by",
        "harsh",
        ("in time or never", "a timer that is due does something"),
        pool.Pool,
        "_expire",
        _never_too_late,
    ),
    Bug(
        "a late outcome is recorded",
        "harsh",
        ("an attempt's outcome is recorded once", "who waits is counted"),
        leases.LeaseTable,
        "end",
        _late_outcomes_count,
    ),
    Bug(
        "a worker that comes back is given a task whose attempt is recorded",
        "harsh",
        ("an attempt's outcome is recorded once",),
        fleet.Fleet,
        "_adopt",
        _adopt_what_is_recorded,
    ),
    Bug(
        "leases stay when their session is replaced",
        "harsh",
        ("a lease belongs to a session that is there",),
        fleet.Fleet,
        "_lose_all",
        _leases_of_nobody,
    ),
    Bug(
        "a lease never ends by itself",
        "harsh",
        ("a timer that is due does something", "a lease ends"),
        leases.LeaseTable,
        "take_due",
        _never_due,
    ),
    Bug(
        "a stall of the dispatcher costs its workers their leases",
        "operated",
        ("a stall of its own costs nobody a lease",),
        leases.LeaseTable,
        "extend_all",
        _no_excuse,
    ),
)
