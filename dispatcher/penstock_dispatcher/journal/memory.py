"""A journal that remembers nothing: for tests and throw-away pools.

Every append counts as durable at once. Epochs still grow, by the clock given at the start, so that
workers of an earlier run are told apart from those of this one.
"""

from collections.abc import Sequence

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import interface


class MemoryJournal:
    """Keeps nothing. `epoch`: any number above that of earlier runs (whole seconds since the epoch
    serve well).
    """

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
