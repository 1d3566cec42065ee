"""How much memory the tasks of all pools may take together, and who gives way.

A *budget* is one for the whole dispatcher; each pool has a `Share` of it, which says what its tasks
take. A task is charged with its bytes (what was submitted, result, checkpoint, progress, failure)
and with what the structures around it take, which was measured. Three kinds are told apart:

* What waits or runs, and dead letters, stay. Where they leave no room, admission refuses. What runs
  may still grow beyond the limit: an outcome is never refused.
* Results, of whatever else has ended, are kept for their retention or until room is needed: for a
  new task, or a newer result. The pool whose results take the most gives its oldest up.
* Request ids outlive their tasks. They may take `REQUESTS_PART` of the limit, however much is
  free; beyond it the pool that remembers the most forgets its oldest.

To find the largest share costs a look at all of them, so more than is needed at once goes with each
look: see `GIVEN_UP_BYTES` and `FORGOTTEN_REQUESTS`.

Whoever waits for room is told when some comes: a pool that is `starved` is among the `freed` ones
after the next bytes were given back, by whatever pool.
"""

from collections.abc import Callable
from typing import Final

from penstock_dispatcher.core import task as tasks

TASK_BYTES: Final = 960
"""Of a task beside what it holds: with its names, in its pool's structures, compiled."""
REQUEST_BYTES: Final = 400
"""Of a request id that has outlived its task."""
REQUESTS_PART: Final = 4
"""A quarter of the limit."""
CALLS_PART: Final = 8
"""An eighth of the limit, beside it, is for the payloads of calls that wait for room."""
GIVEN_UP_BYTES: Final = 65_536
FORGOTTEN_REQUESTS: Final = 64
UNLIMITED: Final = 2**62


def task_bytes(body: int) -> int:
    """What a new task takes whose submitted fields have so many bytes."""
    return TASK_BYTES + body


def bytes_of(task: tasks.Task) -> int:
    """What a task takes by now."""
    held = len(task.body) + len(task.result) + len(task.checkpoint) + len(task.progress)
    failure = task.failure
    if failure is not None:
        held += len(failure.message) + len(failure.status)
    return task_bytes(held)


class Budget:
    """See the module's docstring. `limit` in bytes."""

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.limit = limit
        self.used = 0
        """By everything."""
        self.results = 0
        """Of that, what goes when room is needed; a request id that stays is not in it."""
        self.requests = 0
        """Request ids that have outlived their tasks."""
        self.calls = 0
        """Payload bytes of calls that wait for room; not in `used`."""
        self._shares: dict[Share, None] = {}
        self._starved: dict[str, None] = {}
        self._freed = False

    def has_room(self, size: int) -> bool:
        """So many more bytes fit, if need be in the place of results."""
        return self.used - self.results + size <= self.limit

    def has_room_for_call(self, size: int) -> bool:
        """One more call with such a payload may wait."""
        return self.calls + size <= self.limit // CALLS_PART

    def make_room(self) -> None:
        """Have results go until what is used is within the limit, or none is left."""
        while self.used > self.limit and self.results:
            before = self.used
            largest = max(self._shares, key=_results)
            largest.give_up(max(before - self.limit, GIVEN_UP_BYTES))
            assert self.used < before, "what is counted as a result can go"

    def forget_requests(self) -> None:
        """Have some request ids go if those that have outlived their tasks take more than their
        part.
        """
        if self.requests * REQUEST_BYTES > self.limit // REQUESTS_PART:
            max(self._shares, key=_requests).forget(FORGOTTEN_REQUESTS)

    def join(self, share: "Share") -> None:
        """One more pool."""
        self._shares[share] = None

    def leave(self, share: "Share") -> None:
        """A pool is forgotten with everything of it."""
        del self._shares[share]
        self.used -= share.used
        self.results -= share.results
        self.requests -= share.requests
        self.loosen()

    def starve(self, pool_uid: str) -> None:
        """Somebody waits for room in that pool, for want of bytes."""
        self._starved[pool_uid] = None

    def take_freed(self) -> list[str]:
        """The uids of starved pools, if room has come since the last look; they are not starved any
        more.
        """
        if not self._freed:
            return []
        self._freed = False
        freed = list(self._starved)
        self._starved.clear()
        return freed

    def loosen(self) -> None:
        """There is more room than before."""
        if self._starved:
            self._freed = True


class Share:
    """What one pool takes of a budget. `give_up` deletes its oldest results, at least one and until
    so many bytes are free; `forget` lets so many go of the oldest request ids that have outlived
    their tasks, or fewer if that would take long.
    """

    def __init__(
        self, budget: Budget, *, give_up: Callable[[int], None], forget: Callable[[int], None]
    ) -> None:
        self.budget = budget
        self.used = 0
        self.results = 0
        self.requests = 0
        self.give_up = give_up
        self.forget = forget
        budget.join(self)

    def charge(self, task: tasks.Task) -> None:
        """A task is new, or holds something else by now: results make room for it. Not while its
        own is kept.
        """
        more = bytes_of(task) - task.charged
        task.charged += more
        self._add(more)
        self.budget.make_room()

    def release(self, task: tasks.Task) -> None:
        """The task is gone from its pool."""
        self._add(-task.charged)
        task.charged = 0

    def _add(self, size: int) -> None:
        self.used += size
        self.budget.used += size
        if size < 0:
            self.budget.loosen()

    def keep_result(self, task: tasks.Task) -> None:
        """The task has ended, and may go when room is needed."""
        self._add_result(task.charged - REQUEST_BYTES)
        self.budget.loosen()

    def take_result(self, task: tasks.Task) -> None:
        """It is not kept for that any more."""
        self._add_result(REQUEST_BYTES - task.charged)

    def _add_result(self, size: int) -> None:
        self.results += size
        self.budget.results += size

    def remember(self) -> None:
        """A request id has outlived its task."""
        self._count_requests(1)
        self.budget.forget_requests()

    def forgot(self) -> None:
        """One of those is remembered no more."""
        self._count_requests(-1)

    def _count_requests(self, count: int) -> None:
        self.requests += count
        self.budget.requests += count
        self._add(count * REQUEST_BYTES)


def _results(share: Share) -> int:
    return share.results


def _requests(share: Share) -> int:
    return share.requests
