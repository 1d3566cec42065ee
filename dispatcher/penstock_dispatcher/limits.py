"""How many calls may be open at a time: of each kind that lasts, for each caller and in all.

A caller is the name of a token; of calls without one, the host that they come from. What is over in
a moment has no limit here: its work is bounded by the queue's own bounds.
"""

import collections
import contextlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from penstock_dispatcher import errors
from penstock_dispatcher.core import units

RETRY_AFTER_NS: Final = units.SECOND


class Limit(NamedTuple):
    """Calls that may be open: by one caller, and by everybody. `remedy`: what to do instead."""

    per_caller: int
    in_all: int
    what: str
    remedy: str


LIMITS: Final = {
    "StreamSubmitTasks": Limit(
        200, 2_000, "submit streams", "send more tasks over each stream, or close some"
    ),
    "WatchTasks": Limit(
        50, 200, "streams that watch tasks", "watch a whole pool over one stream, or close some"
    ),
    "WaitTask": Limit(
        10_000, 50_000, "calls that wait for a task", "watch the pool instead, or wait for fewer"
    ),
    "DrainPool": Limit(
        1_000, 10_000, "calls that wait for a drain", "wait once for each pool, or for less long"
    ),
    # All workers of a namespace may share one token.
    "Work": Limit(20_000, 50_000, "workers' streams", "give workers more slots, or run fewer"),
    "SyncPools": Limit(10, 10, "operators' streams", "run one operator"),
}
"""By method."""


class Open:
    """Calls of one kind that are open, by caller."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._of: collections.Counter[str] = collections.Counter()
        self._total = 0

    def __len__(self) -> int:
        return self._total

    @contextlib.contextmanager
    def by(self, caller: str) -> Iterator[None]:
        """A call is open for the length of the block. Raises Refusal if it is one too many."""
        limit = LIMITS[self._method]
        if self._of[caller] >= limit.per_caller:
            raise _refusal(f"{caller} has {limit.per_caller} {limit.what} open", limit)
        if self._total >= limit.in_all:
            raise _refusal(f"{limit.in_all} {limit.what} are open", limit)
        self._of[caller] += 1
        self._total += 1
        try:
            yield
        finally:
            self._total -= 1
            self._of[caller] -= 1
            if not self._of[caller]:
                del self._of[caller]


def _refusal(found: str, limit: Limit) -> errors.Refusal:
    return errors.Refusal(
        errors.Reason.TOO_MANY_STREAMS,
        f"{found}, which is the most: {limit.remedy}",
        errors.Details(retry_after_ns=RETRY_AFTER_NS),
    )
