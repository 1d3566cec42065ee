"""A journal that remembers nothing: for tests and throw-away pools.

Every append counts as durable at once. The epoch is given at
the start; tasks of an earlier run do not exist any more, so that its workers' claims are refused.
"""

from collections.abc import Sequence

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import interface


class MemoryJournal:
    """Keeps nothing. `epoch`: 1 to `leases.EPOCHS_MAX` - 1, and best above that of earlier runs."""

    def __init__(self, *, epoch: int) -> None:
        self._epoch = epoch

    async def open(self) -> interface.Opened:
        """Nothing is there."""
        return interface.Opened(epoch=self._epoch, operator_epoch=0, pools=())

    async def load_tasks(self, after: int) -> Sequence[interface.StoredTask]:  # noqa: ARG002
        """No tasks."""
        return ()

    async def append(self, batch: Sequence[records.Record]) -> None:
        """As durable as this process."""

    async def compact(self, now: int) -> bool:  # noqa: ARG002
        """Nothing to do."""
        return False

    def full(self) -> bool:
        """Never by itself; the pools' own bounds hold."""
        return False

    async def close(self) -> None:
        """Nothing to give back."""
