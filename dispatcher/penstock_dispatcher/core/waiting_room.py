"""Submitting calls that wait for room: by priority, then first come, until a deadline each.

A *waiter* is a submission that did not fit, of a caller who would rather wait than be refused. It
holds no place in the queue and nothing of it is written; its number and its payload bytes have
bounds of their own, and it can leave at any time without a trace.

Room goes to waiters in the moment when it comes: `let_in` runs before whatever is submitted later
is judged, and in each turn. So no waiter fits while a newcomer is judged, and a newcomer overtakes
nobody who could have had its place, whatever its priority. The best waiter *that fits* comes first:
a large payload for which there is no room holds up no smaller one, and a fairness key that has as
many waiting tasks as it may holds up no other key. Waiters of one key stand in one line; a line
whose key is full is not looked at until a task of the key has left. Pools whose waiters lack memory
stand in a line of their own (see `budget`).
"""

import dataclasses
from typing import Any

from penstock_dispatcher.core import (
    admission,
    bounds,
    effects,
    heads,
    lazy_heap,
    ledger,
    priorities,
    settings,
    units,
)
from penstock_dispatcher.core import task as tasks

_Reason = admission.AdmissionReason
_Entry = tuple[int, int, admission.Waiter]  # (what comes first, arrival, waiter)


def _waits(entry: _Entry) -> bool:
    return entry[2].waits


@dataclasses.dataclass(slots=True, eq=False)
class _Line:
    """Waiters of one fairness key."""

    key: str
    waiters: lazy_heap.LazyHeap[_Entry]
    listed: tuple[heads.Place, int, Any] | None = None


class WaitingRoom:
    """The waiters of one pool; answers are left as effects in the pool's book."""

    def __init__(self, book: ledger.Ledger) -> None:
        self._book = book
        self._memory = book.memory.budget
        self._lines: dict[str, _Line] = {}
        self._heads: heads.Heads[_Line] = heads.Heads()
        self._deadlines: lazy_heap.LazyHeap[_Entry] = lazy_heap.LazyHeap(_waits)
        self._of_request: dict[str, dict[admission.Waiter, None]] = {}
        self._arrivals = 0
        self.by_priority = priorities.Priorities()
        self._least = 0
        """No waiter's payload is smaller."""
        self._least_memory = 0
        """No waiter's task takes less."""
        self.payload_bytes = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def of_key(self, key: str) -> int:
        """Waiters of that fairness key."""
        line = self._lines.get(key)
        return 0 if line is None else len(line.waiters)

    # ------------------------------------------------------------ coming and leaving

    def enter(
        self, wanted: tasks.Submission, config: settings.PoolSettings, *, wait_ns: int, now: int
    ) -> admission.Waiter | admission.Admission:
        """Wait for at most `wait_ns`, unless too many do already. The caller's payload is in memory
        meanwhile.
        """
        crowded = self._crowded(wanted, config)
        if crowded:
            return self.refuse(wanted, _Reason.TOO_MANY_WAITERS, crowded, now)
        self._arrivals += 1
        waiter = admission.Waiter(
            wanted=wanted,
            priority=config.default_priority if wanted.priority is None else wanted.priority,
            deadline=min(now + wait_ns, wanted.start_by or units.NEVER),
            wait_ns=wait_ns,
        )
        taken = bounds.memory_bytes(wanted)
        self._least = min(self._least, wanted.size) if len(self) else wanted.size
        self._least_memory = min(self._least_memory, taken) if len(self) else taken
        self._count(wanted.size)
        self.by_priority.add(waiter.priority)
        line = self._lines.get(wanted.fairness_key)
        if line is None:
            line = _Line(wanted.fairness_key, lazy_heap.LazyHeap(_waits))
            self._lines[line.key] = line
        line.waiters.push((-waiter.priority, self._arrivals, waiter))
        self._offer(line)
        self._deadlines.push((waiter.deadline, self._arrivals, waiter))
        if wanted.request_id:
            self._of_request.setdefault(wanted.request_id, {})[waiter] = None
        return waiter

    def _offer(self, line: _Line) -> None:
        head = line.waiters.head()
        assert head is not None, "lines without a waiter are dropped"
        self._heads.offer(line, head[:2])

    def _crowded(self, wanted: tasks.Submission, config: settings.PoolSettings) -> str:
        if len(self) >= config.max_waiters:
            return f"{len(self)} calls wait for room, the bound is {config.max_waiters}"
        if self.payload_bytes + wanted.size > config.max_pending_bytes:
            bound = config.max_pending_bytes
            return (
                f"calls wait for room with {self.payload_bytes} payload bytes, the bound is {bound}"
            )
        memory = self._memory
        if memory.calls + wanted.size > memory.calls_limit:
            return (
                f"calls to all pools wait for room with {memory.calls} payload bytes, with this"
                f" one's {wanted.size} they would take more than the {memory.calls_limit} for them"
            )
        return ""

    def _count(self, size: int) -> None:
        self.payload_bytes += size
        self._memory.calls += size

    def leave(self, waiter: admission.Waiter) -> None:
        """The caller is gone; nothing is left behind. Idempotent, and void once it was answered."""
        if not waiter.waits:
            return
        waiter.waits = False
        self._count(-waiter.wanted.size)
        self.by_priority.remove(waiter.priority)
        self._deadlines.died()
        line = self._lines[waiter.wanted.fairness_key]
        line.waiters.died()
        if not line.waiters:
            self._heads.withdraw(line)
            del self._lines[line.key]
            self._book.by_key.unwatch(line.key)
        same = self._of_request.get(waiter.wanted.request_id)
        if same is not None:
            del same[waiter]
            if not same:
                del self._of_request[waiter.wanted.request_id]

    def _answer(self, waiter: admission.Waiter, answer: admission.Admission) -> None:
        self.leave(waiter)
        self._book.effects.append(effects.WaiterAnswered(waiter, answer))

    def refuse(
        self, wanted: tasks.Submission, reason: admission.AdmissionReason, message: str, now: int
    ) -> admission.Admission:
        """A refusal, counted, with an estimate of when to come back."""
        self._book.refused_total += 1
        return admission.Admission(
            reason, wanted.task_id, message=message, retry_after_ns=self.retry_after_ns(now)
        )

    def retry_after_ns(self, now: int) -> int:
        """When a place should be free for one more, after everybody who waits."""
        return self._book.retry_after_ns(now, places=len(self) + 1)

    # ------------------------------------------------------------ being let in

    def admit(
        self, wanted: tasks.Submission, config: settings.PoolSettings, now: int
    ) -> admission.Admission:
        """Accept, recognise or refuse; whoever waits under the same request id is told at once."""
        answer = self._book.admit(wanted, config, now)
        if self._of_request and answer.reason is _Reason.ACCEPTED:
            for twin in list(self._of_request.get(wanted.request_id, ())):
                self._answer(twin, self._book.admit(twin.wanted, config, now))
        return answer

    def let_in(self, config: settings.PoolSettings, now: int) -> bool:
        """Admit waiters, the best first, as long as one fits. True = somebody was answered."""
        before = len(self)
        while (waiter := self._next(config)) is not None:
            self.leave(waiter)
            late = self._book.forecast.late(waiter.wanted, now)
            if late is not None:
                self._book.refused_total += 1
            self._answer(waiter, late or self.admit(waiter.wanted, config, now))
        return len(self) < before

    def look_again(self) -> None:
        """Other bounds are in force: whoever was kept out by its key may fit."""
        for line in self._lines.values():
            self._offer(line)

    def _next(self, config: settings.PoolSettings) -> admission.Waiter | None:
        """The best waiter that fits. Costs nothing while none can, and a look at all of them only
        where a bound on bytes keeps the best one out.
        """
        if not len(self) or self._book.waiting >= config.max_pending:
            return None
        best = self._best(config)
        if best is None:
            return None
        left = config.max_pending_bytes - self._book.waiting_bytes
        if self._fits(best, left):
            return best
        if not self._memory.has_room(self._least_memory):
            self._memory.starve(self._book.memory)
            return None
        if self._least > left:
            return None
        self._least = min(entry[2].wanted.size for entry in self._deadlines)
        self._least_memory = min(bounds.memory_bytes(entry[2].wanted) for entry in self._deadlines)
        fitting = min(
            (
                entry
                for line in self._lines.values()
                if bounds.key_has_room(line.key, book=self._book, config=config)
                for entry in line.waiters
                if self._fits(entry[2], left)
            ),
            default=None,
        )
        if fitting is None:
            self._memory.starve(self._book.memory)
            return None
        return fitting[2]

    def _fits(self, waiter: admission.Waiter, left: int) -> bool:
        size = bounds.memory_bytes(waiter.wanted)
        return waiter.wanted.size <= left and self._memory.has_room(size)

    def _best(self, config: settings.PoolSettings) -> admission.Waiter | None:
        """The best waiter whose key has room."""
        by_key = self._book.by_key
        if by_key.freed:
            for key in by_key.take_freed():
                self._offer(self._lines[key])

        def look(line: _Line) -> heads.Place | None:
            if not bounds.key_has_room(line.key, book=self._book, config=config):
                by_key.watch(line.key)
                return None
            head = line.waiters.head()
            return None if head is None else head[:2]

        line = self._heads.first(look)
        head = None if line is None else line.waiters.head()
        return None if head is None else head[2]

    # ------------------------------------------------------------ waiting in vain

    def next_due(self) -> int:
        """When the next waiter has waited long enough."""
        head = self._deadlines.head()
        return units.NEVER if head is None else head[0]

    def expire(self, now: int) -> None:
        """Answer those who have waited long enough; call `let_in` first."""
        while (head := self._deadlines.head()) is not None and head[0] <= now:
            waiter = head[2]
            self.leave(waiter)
            if 0 < waiter.wanted.start_by <= now:
                self._book.refused_total += 1
                answer = self._book.forecast.out_of_time(waiter.wanted, now)
            else:
                text = self._in_vain(waiter)
                answer = self.refuse(waiter.wanted, _Reason.ADMISSION_TIMEOUT, text, now)
            self._answer(waiter, answer)

    def _in_vain(self, waiter: admission.Waiter) -> str:
        seconds = waiter.wait_ns / units.SECOND
        text = f"no room came free within {seconds:g} s: {self._book.waiting} tasks are waiting"
        taken = bounds.memory_bytes(waiter.wanted)
        if not self._memory.has_room(taken):
            return f"{text}, and {bounds.no_memory(self._memory, taken)}"
        key = waiter.wanted.fairness_key
        return f"{text}, {self._book.by_key.of(key)} of its fairness key" if key else text

    def take_all(self) -> list[admission.Waiter]:
        """Everybody leaves, in the order of the deadlines; the caller answers them."""
        waiting = [entry[2] for entry in sorted(self._deadlines, key=lambda entry: entry[:2])]
        for waiter in waiting:
            self.leave(waiter)
        return waiting
