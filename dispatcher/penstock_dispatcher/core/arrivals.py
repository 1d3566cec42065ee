"""Which waiting task came first: its time is what people see as the age of the queue.

Nearly every task comes once, in the order of time, and leaves once: a line of tasks with a word of
memory each is enough for those. Those that come back (after a failure, a loss, a redrive), and
those of a deleted pool, which are older than their sequences say, lie in a heap beside it. What has
left out of turn is passed over, and swept when it is the larger part.
"""

import collections

from penstock_dispatcher.core import lazy_heap
from penstock_dispatcher.core import task as tasks


class Arrivals:
    """Waiting tasks of one pool, by create time. A task's ticket is 0 in its first stay."""

    def __init__(self) -> None:
        self._line: collections.deque[tasks.Task] = collections.deque()
        self._in_line = 0
        self._beside: set[tasks.Task] = set()
        self._back: lazy_heap.LazyHeap[lazy_heap.Stay] = lazy_heap.LazyHeap(lazy_heap.waits)

    @property
    def dead_entries(self) -> int:
        """Entries of tasks that have left, kept for now."""
        return len(self._line) - self._in_line + self._back.dead

    def came(self, task: tasks.Task) -> None:
        """It waits from now on."""
        line = self._line
        if task.ticket or (line and task.create_time < line[-1].create_time):
            self._beside.add(task)
            self._back.push((task.create_time, task.sequence, task.ticket, task))
        else:
            line.append(task)
            self._in_line += 1

    def left(self, task: tasks.Task) -> None:
        """It does not wait any more; its ticket is the next one already."""
        if task in self._beside:
            self._beside.remove(task)
            self._back.died()
            return
        self._in_line -= 1
        line = self._line
        while line and line[0].ticket:
            line.popleft()
        if len(line) > 2 * self._in_line + lazy_heap.DEAD_ENTRIES_FREE:
            self._line = collections.deque(each for each in line if not each.ticket)

    def oldest(self) -> tasks.Task | None:
        """The one that came first, or None."""
        first = self._line[0] if self._line else None
        back = self._back.head()
        if back is None or (
            first is not None and (first.create_time, first.sequence) < (back[0], back[1])
        ):
            return first
        return back[3]
