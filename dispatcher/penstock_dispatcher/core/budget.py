"""How much memory the tasks of all pools may take together, and who gives way.

A *budget* is one for the whole dispatcher; each pool has a `Share` of it, which says what its tasks
take. A task is charged with the bytes that it holds (what was submitted, result, checkpoint,
progress, failure) and with what it takes beside, which was measured; the structures of types,
priorities and keys are charged once in a turn. There are
four kinds:

* What waits or runs stays. Where that leaves no room, admission refuses. What runs may still grow
  beyond the limit: an outcome is never refused.
* Results, of whatever has ended and is no dead letter, are kept for their retention or until room
  is needed: for a new task, or a newer result. The pool whose results take the most gives its
  oldest up.
* Dead letters make room for nobody, but may take no more than `DEAD_LETTERS_PART` of the limit, or
  one pool's failures would close all others for a week. Beyond it the pool whose dead letters take
  the most gives its oldest up.
* Request ids outlive their tasks. They may take `REQUESTS_PART` of the limit, however much is
  free; beyond it the pool that remembers the most forgets its oldest.

To find the largest share costs a look at all of them, so more than is needed at once goes with each
look: see `GIVEN_UP_BYTES`, `DEAD_LETTERS_GIVEN_UP` and `FORGOTTEN_REQUESTS`.

Pools whose callers wait for memory are *starved*, and stand in line. Before anybody's submission is
judged, and in each turn of whatever pool, `let_in` gives what has come free to them, first come,
first served; who got something stands behind who did not.
"""

from collections.abc import Callable
from typing import Final

from penstock_dispatcher.core import task as tasks

TASK_BYTES: Final = 960
"""Of a task beside what it holds: with its names, in its pool's structures, compiled."""
SHAPE_BYTES: Final = 600
PRIORITY_BYTES: Final = 750
"""Of each type, and of each priority, that tasks wait with."""
FLOW_BYTES: Final = 2_000
LANE_BYTES: Final = 950
BUCKET_BYTES: Final = 300
"""Of each fairness key, concurrency key, and fairness key with a rate (see `lanes`): there may be
as many of all these as tasks.
"""
REQUEST_BYTES: Final = 400
"""Of a request id that has outlived its task."""
DEAD_LETTERS_PART: Final = 4
"""A quarter of the limit."""
REQUESTS_PART: Final = 4
"""A quarter of the limit."""
CALLS_PART: Final = 8
"""An eighth of the limit, beside it, is for the payloads of calls that wait for room."""
GIVEN_UP_BYTES: Final = 65_536
DEAD_LETTERS_GIVEN_UP: Final = 64
"""A sixty-fourth of their part."""
FORGOTTEN_REQUESTS: Final = 64
UNLIMITED: Final = 2**61


def task_bytes(held: int) -> int:
    """What a task takes that holds so many bytes: a new one, what was submitted."""
    return TASK_BYTES + held


def bytes_of(task: tasks.Task) -> int:
    """What a task takes by now."""
    held = len(task.body) + len(task.result) + len(task.checkpoint) + len(task.progress)
    held += len(task.result_content_type)
    failure = task.failure
    if failure is not None:
        # Characters outside of ASCII take up to four bytes each.
        text = len(failure.message) * (1 if failure.message.isascii() else 4)
        held += text + len(failure.reason) + len(failure.status)
    return task_bytes(held)


def freed_by(task: tasks.Task) -> int:
    """What comes free when a task is deleted; its request id stays."""
    return task.charged - (REQUEST_BYTES if task.request_id else 0)


class Budget:
    """See the module's docstring. `limit` in bytes."""

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.limit = limit
        self.used = 0
        """By everything."""
        self.results = 0
        """Of that, what goes when room is needed; a request id that stays is not in it."""
        self.dead_letters = 0
        """Of that, what dead letters take."""
        self.requests = 0
        """Request ids that have outlived their tasks."""
        self.calls = 0
        """Payload bytes of calls that wait for room; not in `used`."""
        self._shares: dict[Share, None] = {}
        self._starved: dict[Share, None] = {}
        """In line, with the next one first."""
        self._too_much = 0
        """Somebody found no room beside so much that stays. With less there may be some."""
        self._let_in: list[str] = []
        self.closed = False
        """Nobody who waits for room is let in, whatever there is: nothing can be written."""

    @property
    def stays(self) -> int:
        """What cannot go."""
        return self.used - self.results

    @property
    def calls_limit(self) -> int:
        """How much payload may wait for room."""
        return self.limit // CALLS_PART

    def has_room(self, size: int) -> bool:
        """So many more bytes fit, if need be in the place of results."""
        return self.used - self.results + size <= self.limit

    def make_room(self) -> None:
        """Have results go until what is used is within the limit, or none is left."""
        if self.used <= self.limit or not self.results:
            return
        for share in sorted(self._shares, key=_results, reverse=True):
            share.give_up(max(self.used - self.limit, GIVEN_UP_BYTES), False)
            if self.used <= self.limit:
                return

    def bound_dead_letters(self) -> None:
        """Have dead letters go if they take more than their part."""
        excess = self.dead_letters - self.limit // DEAD_LETTERS_PART
        if excess > 0:
            some = self.limit // DEAD_LETTERS_PART // DEAD_LETTERS_GIVEN_UP
            max(self._shares, key=_dead_letters).give_up(max(excess, some), True)

    def forget_requests(self) -> bool:
        """Have some request ids go if those that have outlived their tasks take more than their
        part. False = they do not, or none could go.
        """
        before = self.requests
        if before * REQUEST_BYTES > self.limit // REQUESTS_PART:
            max(self._shares, key=_requests).forget(FORGOTTEN_REQUESTS)
        return self.requests < before

    def join(self, share: "Share") -> None:
        """One more pool."""
        self._shares[share] = None

    def leave(self, share: "Share") -> None:
        """A pool is forgotten with everything of it."""
        del self._shares[share]
        self._starved.pop(share, None)
        self.used -= share.used
        self.results -= share.results
        self.dead_letters -= share.dead_letters
        self.requests -= share.requests

    # ------------------------------------------------------------ who waits

    def starve(self, share: "Share") -> None:
        """Somebody waits for room in that pool, for want of memory. It keeps its place in line."""
        self._starved[share] = None
        self._too_much = max(self._too_much, self.stays)

    def let_in(self, now: int) -> None:
        """Give what has come free since to who waits for it. Their pools have something to tell
        them: see `take_let_in`.
        """
        if self.closed or not self._starved or self.stays >= self._too_much:
            return
        line, self._starved, self._too_much = self._starved, {}, 0
        served = []
        for share in line:
            if share.let_in(now):
                self._let_in.append(share.pool_uid)
                served.append(share)
        for share in served:
            if share in self._starved:  # for others of its callers
                del self._starved[share]
                self._starved[share] = None

    def take_let_in(self) -> list[str]:
        """The uids of pools whose callers were let in since the last look."""
        taken, self._let_in = self._let_in, []
        return taken


class Share:
    """What one pool takes of a budget, and what the pool does when it is asked to:

    * `give_up` deletes its oldest results (False) or dead letters (True) until so many bytes are
      free, or none is left;
    * `forget` lets so many go of the oldest request ids that have outlived their tasks, or fewer if
      that would take long;
    * `let_in` admits callers who wait, as far as there is room, and tells whether it did.
    """

    def __init__(self, budget: Budget, pool_uid: str) -> None:
        self.budget = budget
        self.pool_uid = pool_uid
        self.used = 0
        self.results = 0
        self.dead_letters = 0
        self.requests = 0
        self.structures = 0
        self.give_up: Callable[[int, bool], None] = _nothing_to_give
        self.forget: Callable[[int], None] = _nothing_to_forget
        self.let_in: Callable[[int], bool] = _nobody_waits
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

    def charge_structures(self, size: int) -> None:
        """What waits is ordered by structures that take so many bytes by now."""
        if size != self.structures:
            more, self.structures = size - self.structures, size
            self._add(more)
            self.budget.make_room()

    def _add(self, size: int) -> None:
        self.used += size
        self.budget.used += size

    def keep(self, task: tasks.Task, *, dead_letter: bool) -> None:
        """The task has ended, and may be given up."""
        self._add_kept(freed_by(task), dead_letter)

    def take(self, task: tasks.Task, *, dead_letter: bool) -> None:
        """It is not kept any more."""
        self._add_kept(-freed_by(task), dead_letter)

    def _add_kept(self, size: int, dead_letter: bool) -> None:
        if dead_letter:
            self.dead_letters += size
            self.budget.dead_letters += size
        else:
            self.results += size
            self.budget.results += size

    def remember(self) -> None:
        """A request id has outlived its task."""
        self._count_requests(1)

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


def _dead_letters(share: Share) -> int:
    return share.dead_letters


def _nothing_to_give(_: int, __: bool) -> None:
    """Of a pool that is not made yet, as the two below."""


def _nothing_to_forget(_: int) -> None:
    pass


def _nobody_waits(_: int) -> bool:
    return False
