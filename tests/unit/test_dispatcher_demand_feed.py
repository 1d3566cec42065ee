"""When demand goes out: soon, a few in a row, then ten a second; time is the test's own."""

import asyncio

import pytest

from penstock_dispatcher import demand_feed, registry
from penstock_dispatcher.core import records, settings, units
from penstock_dispatcher.core import task as tasks

T0 = 1_700_000_000 * units.SECOND


class Clock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.time = T0

    def now(self) -> int:
        return self.time


class Scene:
    """One pool and one feed."""

    def __init__(self) -> None:
        self.clock = Clock()
        pools = registry.Registry(log=records.RecordLog(), clock=self.clock)  # type: ignore[arg-type]
        config = settings.PoolSettings(name="namespaces/a/pools/b", uid="u", max_pending=10_000)
        self.pool = pools.make(config, fresh=True)
        pools.add(self.pool, b"")
        self.feed = demand_feed.DemandFeed(pool_registry=pools, now=self.clock.now)
        list(self.feed.everything())
        self.feed.start()
        self._count = 0

    def submit(self) -> None:
        self._count += 1
        wanted = tasks.Submission(task_id=f"t{self._count}", uid="x", type="a", body=b"", size=0)
        assert self.pool.submit(wanted, self.clock.now()).admitted
        self.feed.changed(self.pool)

    async def sent(self) -> list[int]:
        """`pending` in what goes out now; empty = nothing does."""
        waiting = asyncio.ensure_future(self.feed.next())
        for _ in range(5):
            await asyncio.sleep(0)
        if waiting.done():
            return [one.stats.pending for one in waiting.result()]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return []

    def later(self, milliseconds: float) -> None:
        self.clock.time += int(milliseconds * units.MILLISECOND)
        self.feed.start()  # what the timer does


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_burst_of_submissions_is_told_in_its_few_steps(scene: Scene) -> None:
    scene.later(1000)
    for step in range(1, 4):
        scene.submit()
        assert await scene.sent() == []
        scene.later(10)
        assert await scene.sent() == [step]


async def test_what_comes_close_together_is_told_together(scene: Scene) -> None:
    scene.later(1000)
    for _ in range(3):
        scene.submit()
        scene.later(3)
        assert await scene.sent() == []
    scene.later(1)
    assert await scene.sent() == [3]


async def test_a_steady_stream_is_told_ten_times_a_second(scene: Scene) -> None:
    scene.later(1000)
    messages: list[int] = []
    for _ in range(3000):
        scene.submit()
        messages += await scene.sent()
        scene.later(1)
    scene.feed.close()
    assert 30 <= len(messages) <= 30 + demand_feed.PACE.burst
    assert messages[-1] > 2800


async def test_what_is_known_is_not_told_again(scene: Scene) -> None:
    scene.later(1000)
    scene.submit()
    scene.later(10)
    assert await scene.sent() == [1]
    scene.later(1000)
    scene.feed.changed(scene.pool)
    assert await scene.sent() == []
