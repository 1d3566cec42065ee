"""What is told of a dispatcher, while it goes on."""

import asyncio
import itertools
from typing import Any

from penstock_dispatcher import metrics
from rig import wire


async def test_others_have_their_turn_while_many_pools_are_looked_at(
    serve: Any, monkeypatch: Any
) -> None:
    pools = [
        wire.pool_config(f"namespaces/default/pools/p{number}", f"uid-{number}")
        for number in range(2 * metrics.POOLS_AT_ONCE + 1)
    ]
    looked_at: list[int] = []
    turns: list[int] = []
    look = metrics._look

    def counted(*given: Any) -> Any:
        looked_at.append(1)
        return look(*given)

    async def others() -> None:
        while True:
            turns.append(len(looked_at))
            await asyncio.sleep(0)

    async with serve(pools=pools) as served:
        monkeypatch.setattr(metrics, "_look", counted)
        going_on = asyncio.create_task(others())
        text = await metrics.scrape(served.dispatcher.pump, served.dispatcher.calls)
        going_on.cancel()
    steps = sorted(set(turns))
    assert steps[-1] == len(pools)
    assert max(after - before for before, after in itertools.pairwise(steps)) <= (
        metrics.POOLS_AT_ONCE
    )
    lines = text.decode().splitlines()
    for number in (0, len(pools) - 1):
        labels = f'{{namespace="default",pool="p{number}"}}'
        assert f"penstock_pool_max_pending{labels} 10000.0" in lines
        assert f"penstock_pool_memory_bytes{labels} 0.0" in lines
        for name in ("results_given_up", "dead_letters_given_up", "request_ids_forgotten"):
            assert f"penstock_pool_{name}_total{labels} 0.0" in lines
