"""Who may record a task's outcome: one lease at a time, told apart by a fencing token.

A token is the dispatcher's durable epoch (upper bits) and a counter (lower bits): it grows with
every assignment, across restarts, for ever. Leases are extended by heartbeats that name them. When
each is looked at again lies in a heap, which may be early (an extension only touches the lease) and
is put right when that time has come. Execution deadlines are looked at in the same way.
"""

import collections
import dataclasses
import itertools
from typing import Final

from penstock_dispatcher import compiling
from penstock_dispatcher.core import key_counts, lazy_heap, units
from penstock_dispatcher.core import task as tasks

COUNTER_BITS: Final = 40
"""A trillion assignments per epoch; leaves 23 bits of epochs in a signed 64-bit token."""

EPOCHS_MAX: Final = 2 ** (63 - COUNTER_BITS)

RECORDED_MAX: Final = 20_000
"""Leases with a recorded outcome that are remembered."""


class TokenSource:
    """Fencing tokens of one epoch, shared by all pools of a dispatcher."""

    __slots__ = ("_end", "_next", "epoch")

    def __init__(self, epoch: int) -> None:
        if not 0 <= epoch < EPOCHS_MAX:
            raise ValueError(f"epoch must be 0 to {EPOCHS_MAX - 1}, is {epoch}")
        self.epoch = epoch
        self._next = (epoch << COUNTER_BITS) + 1
        self._end = (epoch + 1) << COUNTER_BITS

    @property
    def newest(self) -> int:
        """The token taken last; a claim of a newer one is a lie."""
        return self._next - 1

    @property
    def coming(self) -> int:
        """The token that is taken next: tasks that wait for it share one number."""
        return self._next

    def skip(self, count: int) -> None:
        """Leave out the next `count`: an earlier run without a memory may have taken them."""
        self._next += count

    def take(self) -> int:
        """The next token; larger than every one before. Raises OverflowError at the epoch's end:
        a token of the next one would be that of a later run.
        """
        token = self._next
        if token >= self._end:
            raise OverflowError(
                f"epoch {self.epoch} has no fencing token left: the next run has another epoch"
            )
        self._next += 1
        return token


def epoch_of(token: int) -> int:
    """The epoch in which a token was made."""
    return token >> COUNTER_BITS


def lease_id_of(token: int) -> str:
    """A lease's id is its token in hexadecimal: unique without randomness."""
    return hex(token)[2:]  # noqa: FURB116 - that takes twice as long, once a task


def token_of(lease_id: str) -> int:
    """The token that the id names; 0 = it is no id of a lease."""
    try:
        token = int(lease_id, 16)
    except ValueError:
        return 0
    return token if lease_id_of(token) == lease_id else 0


@compiling.mypyc_attr(acyclic=True)
@dataclasses.dataclass(slots=True, init=False, eq=False)
class Lease:
    """The right of one session to run one task. Times in nanoseconds since the epoch."""

    id: str
    token: int
    task: tasks.Task
    session_id: str
    start_time: int
    expires: int
    deadline: int
    """When the dispatcher gives up on the attempt (execution time-out and the grace to report it).
    """
    planned: int
    """When the table looks at it again, 0 = not any more."""

    def __init__(
        self,
        *,
        token: int,
        task: tasks.Task,
        session_id: str,
        start_time: int,
        expires: int,
        deadline: int,
    ) -> None:
        self.id = lease_id_of(token)
        self.token = token
        self.task = task
        self.session_id = session_id
        self.start_time = start_time
        self.expires = expires
        self.deadline = deadline
        self.planned = 0


class Recorded:
    """The newest leases whose outcome is recorded: for outcomes sent again because their
    acknowledgement was lost, and for heartbeats that name them because it is still on its way.
    """

    def __init__(self) -> None:
        # By token, not by id: the hashes of tokens that follow each other lie side by side, those
        # of texts anywhere.
        self._tokens: set[int] = set()
        self._order: collections.deque[int] = collections.deque()

    def __contains__(self, lease_id: str) -> bool:
        return token_of(lease_id) in self._tokens

    def add(self, lease: Lease) -> None:
        """Remember it, and forget the oldest one of too many."""
        self._tokens.add(lease.token)
        self._order.append(lease.token)
        if len(self._order) > RECORDED_MAX:
            self._tokens.discard(self._order.popleft())


_Plan = tuple[int, int, Lease]  # (when, token, lease)


def _is_planned(plan: _Plan) -> bool:
    return plan[0] == plan[2].planned


class LeaseTable:
    """The leases of one pool. `by_key` counts their tasks by concurrency key, those that have one;
    others may be counted with them.
    """

    def __init__(self, by_key: key_counts.KeyCounts) -> None:
        self._by_id: dict[str, Lease] = {}
        self.slots = 0
        """What the tasks with a lease take."""
        self._by_key = by_key
        self._plans: lazy_heap.LazyHeap[_Plan] = lazy_heap.LazyHeap(_is_planned)

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, lease_id: str) -> Lease | None:
        """The lease, if it is valid."""
        return self._by_id.get(lease_id)

    def all(self) -> list[Lease]:
        """Every valid lease."""
        return list(self._by_id.values())

    def first(self, count: int) -> list[Lease]:
        """The oldest valid ones, at most so many."""
        return list(itertools.islice(self._by_id.values(), count))

    def add(self, lease: Lease) -> None:
        """Make a lease valid, and its task's only one."""
        assert lease.task.lease is None, "a task has at most one valid lease"
        lease.task.lease = lease
        lease.task.fencing_token = lease.token
        self._by_id[lease.id] = lease
        self.slots += lease.task.slots
        if lease.task.concurrency_key:
            self._by_key.add(lease.task.concurrency_key)
        self._plan(lease)

    def _plan(self, lease: Lease) -> None:
        lease.planned = min(lease.expires, lease.deadline)
        self._plans.push((lease.planned, lease.token, lease))

    def extend(self, lease_id: str, expires: int) -> bool:
        """Move the expiry; False if the lease is not valid (any more)."""
        lease = self._by_id.get(lease_id)
        if lease is None:
            return False
        lease.expires = max(lease.expires, expires)
        return True

    def extend_all(self, expires: int) -> None:
        """After a stall of our own: nobody could send heartbeats that we would have read."""
        for lease in self._by_id.values():
            lease.expires = max(lease.expires, expires)

    def hasten(self, lease: Lease, deadline: int) -> None:
        """Bring an execution deadline forward (a cancel's grace)."""
        if deadline < lease.deadline:
            lease.deadline = deadline
            if deadline < lease.planned:
                lease.planned = 0
                self._plans.died()
                self._plan(lease)

    def end(self, lease: Lease) -> None:
        """The lease is over, whatever the reason."""
        del self._by_id[lease.id]
        lease.task.lease = None
        self.slots -= lease.task.slots
        if lease.task.concurrency_key:
            self._by_key.remove(lease.task.concurrency_key)
        if lease.planned:
            lease.planned = 0
            self._plans.died()

    def take_due(self, now: int) -> list[Lease]:
        """Leases whose expiry or deadline has passed; the caller ends them."""
        due: list[Lease] = []
        while (head := self._plans.head()) is not None and head[0] <= now:
            lease = self._plans.pop()[2]
            lease.planned = 0
            if min(lease.expires, lease.deadline) <= now:
                due.append(lease)
            else:
                self._plan(lease)
        return due

    def next_due(self) -> int:
        """When `take_due` should be asked next; may be early, never late."""
        head = self._plans.head()
        return units.NEVER if head is None else head[0]

    @property
    def dead_entries(self) -> int:
        """Entries of leases that are over, kept by the heap of times."""
        return self._plans.dead
