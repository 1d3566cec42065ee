"""How many tasks wait at each priority, and which are the highest that have any.

There may be as many distinct priorities as tasks: people are shown the highest ones, and finding
those costs by how many are shown.
"""

import heapq
from typing import Final

PRIORITIES_FREE: Final = 16
"""Priorities without a task that are not worth making the heap anew."""


class Priorities:
    """Counts of one pool."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._highest: list[int] = []
        """A heap of negated priorities, each at most once; some have no task any more."""
        self._listed: set[int] = set()

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, priority: int) -> None:
        """One more task."""
        self._counts[priority] = self._counts.get(priority, 0) + 1
        if priority not in self._listed:
            self._listed.add(priority)
            heapq.heappush(self._highest, -priority)

    def remove(self, priority: int) -> None:
        """One task less."""
        left = self._counts[priority] - 1
        if left:
            self._counts[priority] = left
            return
        del self._counts[priority]
        if len(self._listed) > 2 * len(self._counts) + PRIORITIES_FREE:
            self._listed = set(self._counts)
            self._highest = [-each for each in self._listed]
            heapq.heapify(self._highest)

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
