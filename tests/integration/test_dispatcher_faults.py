"""What must never silence a dispatcher: faults of its own, and pools that go away under workers."""

import asyncio
from typing import Any

import pytest

from penstock_dispatcher import server
from penstock_dispatcher.journal import interface


async def test_a_fault_in_a_turn_ends_the_process_instead_of_silencing_it(make_pool: Any) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("a broken turn")

    def started(dispatcher: server.Dispatcher) -> None:
        dispatcher.pump.changed = broken
        dispatcher.pump.mark(next(iter(dispatcher.pump.registry.by_uid.values())))

    settings = server.Settings(listen="127.0.0.1:0")
    with pytest.raises(interface.JournalFailed, match="a broken turn"):
        async with asyncio.timeout(20):
            await server.run(settings, pools=[make_pool()], started=started)
