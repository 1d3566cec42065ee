"""How many tasks wait at each priority, and which are the highest that have any.

There may be as many distinct priorities as tasks: people are shown the highest ones, and finding
those costs by how many are shown.
"""

import heapq
from typing import Final

PRIORITIES_FREE: Final = 16
"""Priorities without a task that are not worth making the heap anew."""
SCANNED_MAX: Final = 128
"""Distinct priorities up to which counting looks at each; beyond it, at the sums of groups."""
GROUP_SHIFTS: Final = (24, 16, 8)
"""Groups of priorities whose upper bits are the same, the largest first."""
_PRIORITY_END: Final = 1 << 31


class Priorities:
    """Counts of one pool."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._highest: list[int] = []
        """A heap of negated priorities, each at most once; some have no task any more."""
        self._listed: set[int] = set()
        self._groups: tuple[dict[int, int], ...] = ()
        """Sums for each shift; none while priorities are few."""

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, priority: int) -> None:
        """One more task."""
        self._counts[priority] = self._counts.get(priority, 0) + 1
        if self._groups:
            self._count_groups(priority, 1)
        elif len(self._counts) > SCANNED_MAX:
            self._group()
        if priority not in self._listed:
            self._listed.add(priority)
            heapq.heappush(self._highest, -priority)

    def remove(self, priority: int) -> None:
        """One task less."""
        if self._groups:
            self._count_groups(priority, -1)
        left = self._counts[priority] - 1
        if left:
            self._counts[priority] = left
            return
        del self._counts[priority]
        if len(self._counts) < SCANNED_MAX // 2:
            self._groups = ()
        if len(self._listed) > 2 * len(self._counts) + PRIORITIES_FREE:
            self._listed = set(self._counts)
            self._highest = [-each for each in self._listed]
            heapq.heapify(self._highest)

    def _group(self) -> None:
        self._groups = tuple({} for _ in GROUP_SHIFTS)
        for priority, count in self._counts.items():
            self._count_groups(priority, count)

    def _count_groups(self, priority: int, change: int) -> None:
        for shift, sums in zip(GROUP_SHIFTS, self._groups, strict=True):
            group = priority >> shift
            total = sums.get(group, 0) + change
            if total:
                sums[group] = total
            else:
                del sums[group]

    def at_least(self, priority: int) -> int:
        """Tasks of that priority or a higher one: a look at `SCANNED_MAX` counts, or at 1,024."""
        if not self._groups:
            return sum(count for each, count in self._counts.items() if each >= priority)
        found, begin = 0, _PRIORITY_END
        for shift, sums in zip(GROUP_SHIFTS, self._groups, strict=True):
            # The whole groups between the one that `priority` is in and those counted before.
            first = (priority >> shift) + 1
            found += sum(sums.get(group, 0) for group in range(first, begin >> shift))
            begin = first << shift
        return found + sum(self._counts.get(each, 0) for each in range(priority, begin))

    def highest(self, count: int) -> dict[int, int]:
        """Tasks by priority, for the `count` highest priorities that have any, in that order."""
        found: dict[int, int] = {}
        while self._highest and len(found) < count:
            priority = -heapq.heappop(self._highest)
            if priority in self._counts:
                found[priority] = self._counts[priority]
            else:
                self._listed.discard(priority)
        for priority in found:
            heapq.heappush(self._highest, -priority)
        return found
