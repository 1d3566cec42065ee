"""A journal that remembers nothing: for tests and throw-away pools.

Every append counts as durable at once. The epoch, which cannot be kept, is taken from the time: so
is the number of tokens that are left out, one for each nanosecond of the epoch that has passed. A
run therefore begins above every token that an earlier one can have made, and a worker that has
lived longer than its dispatcher cannot claim a task of the next one that has the same id.
"""

from collections.abc import Sequence
from typing import Final

from penstock_dispatcher.core import leases, records, units
from penstock_dispatcher.journal import interface

EPOCH_NS: Final = 600 * units.SECOND
"""Leaves out little more than half of an epoch's tokens (`leases.COUNTER_BITS`); the epochs last
for more than a century.
"""


class MemoryJournal:
    """Keeps nothing. `now`: nanoseconds since the Unix epoch, later than in earlier runs."""

    def __init__(self, *, now: int) -> None:
        number, taken = divmod(now, EPOCH_NS)
        self._opened = interface.Opened(
            epoch=number % (leases.EPOCHS_MAX - 1) + 1,
            operator_epoch=0,
            pools=(),
            tokens_taken=taken,
        )

    async def open(self) -> interface.Opened:
        """Nothing is there."""
        return self._opened

    async def load_tasks(self, after: int) -> Sequence[interface.StoredTask]:  # noqa: ARG002
        """No tasks."""
        return ()

    async def load_requests(self, after: int) -> Sequence[interface.StoredRequest]:  # noqa: ARG002
        """No requests."""
        return ()

    async def append(self, batch: Sequence[records.Record], *, follows: bool = False) -> None:
        """As durable as this process."""

    async def compact(self, now: int) -> bool:  # noqa: ARG002
        """Nothing to do."""
        return False

    def full(self) -> bool:
        """Never by itself; the pools' own bounds hold."""
        return False

    async def close(self) -> None:
        """Nothing to give back."""
