"""Which submissions were made before: request ids, remembered for a day.

A repeated submission is told the task that the first one made, even if that task is deleted by now.
The key in the journal is the sequence number of that task, so a remembered one stays in use. Ids
that have outlived their tasks have a part of the budget, too.
"""

import collections
from typing import Final, NamedTuple

from penstock_dispatcher.core import budget, lookup, records, units
from penstock_dispatcher.core import task as tasks

RETENTION_NS: Final = 86_400 * units.SECOND
REQUESTS_MAX: Final = 1_000_000
"""Kept in a pool, beside as many as it has tasks; beyond it the oldest go first."""
LOOKED_AT_MAX: Final = 1_000
"""Places in the line that are looked at to forget some."""


class Request(NamedTuple):
    """Of a deleted task: what its request id asked, and when (nanoseconds since the epoch)."""

    sequence: int
    id: str
    fingerprint: int
    create_time: int


Known = Request | tasks.Task
"""A task that is there knows all that by itself."""


class Requests:
    """The request ids of one pool."""

    def __init__(self, *, pool_uid: str, log: records.RecordLog, share: budget.Share) -> None:
        self._pool_uid = pool_uid
        self._share = share
        share.forget = self.forget
        self._log = log
        self._known: dict[str, Known] = lookup.table()
        # Not the dict's own order: finding its first key costs a look at every one deleted before.
        self._order: collections.deque[str] = collections.deque()
        """Ids, oldest first, but for those that `forget` has passed over. One that was asked again
        after its time lies there again.
        """
        self._again: collections.Counter[str] = collections.Counter()
        """Places in the order that do not count, because there is a later one."""
        self._in_order = True
        self.forgotten_total = 0
        """Before their time, because there were too many."""

    def __len__(self) -> int:
        return len(self._known)

    def find(self, request_id: str, now: int) -> Known | None:
        """What was asked under this id, unless that was too long ago. An empty id is none."""
        known = self._known.get(request_id) if request_id else None
        return known if known is not None and now - known.create_time < RETENTION_NS else None

    def remember(self, request_id: str, request: Known, *, tasks_there: int) -> None:
        """Keep one; its record is the accepted task's."""
        earlier = self._known.setdefault(request_id, request)
        if earlier is not request:
            self._tell_forgotten(request_id, earlier)
            self._replace(request_id, earlier, request)
        self._took(request_id, request)
        for _ in range(2):  # the bound goes down, too: as fast as it has grown
            if len(self._known) > REQUESTS_MAX + tasks_there:
                self.forget(1)

    def restore(self, request_id: str, request: Known) -> None:
        """Take one as the journal kept it; afterwards, `sort`: until then none is forgotten for
        want of memory.
        """
        self._in_order = False
        earlier = self._known.setdefault(request_id, request)
        if earlier is not request:
            if earlier.create_time > request.create_time:
                return
            self._replace(request_id, earlier, request)
        self._took(request_id, request)

    def _replace(self, request_id: str, expired: Known, request: Known) -> None:
        self._again[request_id] += 1
        self._uncount(expired)
        self._known[request_id] = request

    def _took(self, request_id: str, request: Known) -> None:
        self._order.append(request_id)
        if isinstance(request, Request):
            self._share.remember()

    def sort(self) -> None:
        """Put those that were restored in order."""
        self._in_order = True
        ids = sorted(self._known, key=self._create_time)
        self._order = collections.deque(ids)
        self._again.clear()

    def _create_time(self, request_id: str) -> int:
        return self._known[request_id].create_time

    def outlive(self, task: tasks.Task) -> None:
        """The task is deleted; its request id is known on."""
        if self._known.get(task.request_id) is task:
            self._known[task.request_id] = Request(
                task.sequence, task.id, task.fingerprint, task.create_time
            )
            self._share.remember()
            if self._in_order:
                self._share.budget.forget_requests()

    def forget(self, count: int) -> None:
        """Forget the oldest ones that have outlived their tasks, at most so many. Those of tasks
        that are there go to the end of the line: they cost nothing, and are not looked at again
        soon. So the line may keep them for longer than a day, once their tasks are gone.
        """
        for _ in range(LOOKED_AT_MAX):
            oldest = self._oldest()
            if oldest is None or not count:
                return
            if isinstance(oldest, Request):
                self._forget_oldest()
                self.forgotten_total += 1
                count -= 1
            else:
                self._order.rotate(-1)

    def sweep(self, now: int, *, limit: int) -> None:
        """Forget what is past its retention, at most `limit` a call."""
        for _ in range(limit):
            oldest = self._oldest()
            if oldest is None or now - oldest.create_time < RETENTION_NS:
                break
            self._forget_oldest()

    def next_sweep(self) -> int:
        """When the first in line is past its retention; NEVER = there is none."""
        oldest = self._oldest()
        return units.NEVER if oldest is None else oldest.create_time + RETENTION_NS

    def _oldest(self) -> Known | None:
        order, again = self._order, self._again
        while again and order[0] in again:
            request_id = order.popleft()
            again[request_id] -= 1
            if not again[request_id]:
                del again[request_id]
        return self._known[order[0]] if order else None

    def _forget_oldest(self) -> None:
        self._oldest()
        request_id = self._order.popleft()
        forgotten = self._known.pop(request_id)
        self._uncount(forgotten)
        self._tell_forgotten(request_id, forgotten)

    def _uncount(self, known: Known) -> None:
        if isinstance(known, Request):
            self._share.forgot()

    def _tell_forgotten(self, request_id: str, request: Known) -> None:
        self._log.append(records.RequestForgotten(self._pool_uid, request.sequence, request_id))
