"""When demand goes out: soon, a few in a row, then ten a second; time is the test's own."""

import asyncio

import pytest

from penstock.v1 import fleet_service_pb2
from penstock_dispatcher import demand_feed, registry
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import records, settings, units, workers
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
        known = registry.Registry(log=records.RecordLog(), clock=self.clock)  # type: ignore[arg-type]
        config = settings.PoolSettings(name="namespaces/a/pools/b", uid="u", max_pending=10_000)
        self.pool = known.make(config, fresh=True)
        known.add(self.pool, b"")
        self.feed = demand_feed.DemandFeed(pool_registry=known, now=self.clock.now)
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


class Fleets:
    """Pools with `fleet` workers each, and one feed."""

    def __init__(self, count: int, *, fleet: int) -> None:
        self.clock = Clock()
        self.registry = registry.Registry(log=records.RecordLog(), clock=self.clock)  # type: ignore[arg-type]
        self.pools = []
        for number in range(count):
            config = settings.PoolSettings(
                name=f"namespaces/a/pools/p{number}", uid=f"u{number}", max_pending=1
            )
            pool = self.registry.make(config, fresh=True)
            self.registry.add(pool, b"")
            self.pools.append(pool)
            self.say_hello(pool, fleet)
        self.feed = demand_feed.DemandFeed(pool_registry=self.registry, now=self.clock.now)

    def say_hello(self, pool: pools.Pool, fleet: int) -> None:
        for number in range(fleet):
            hello = workers.Introduction(
                session_id=f"s{number}",
                pod_name=f"{number}-{'x' * 200}",
                pod_uid=f"uid-{number}",
                slots=1,
                running=(),
            )
            pool.fleet.hello(hello, self.clock.now())


def check(messages: list[list[fleet_service_pb2.PoolDemand]], pools_: int) -> None:
    """Each pool once, and no message of several that is large or has room for the next one."""
    assert [one.pool for message in messages for one in message] == [
        f"namespaces/a/pools/p{number}" for number in range(pools_)
    ]
    sizes = [sum(one.ByteSize() for one in message) for message in messages]
    for message, size in zip(messages, sizes, strict=True):
        assert len(message) == 1 or size <= demand_feed.MESSAGE_BYTES_MAX
    for size, following in zip(sizes, messages[1:], strict=False):
        assert size + following[0].ByteSize() > demand_feed.MESSAGE_BYTES_MAX


async def test_a_message_of_several_pools_is_bounded_in_bytes() -> None:
    scene = Fleets(7, fleet=1_000)
    check(list(scene.feed.everything()), 7)
    for pool in scene.pools:
        scene.feed.introduce(pool.config.uid)
        scene.feed.changed(pool)
    scene.feed.start()
    scene.clock.time += demand_feed.GATHER_NS
    messages: list[list[fleet_service_pb2.PoolDemand]] = []
    while sum(map(len, messages)) < 7:
        messages.append(await scene.feed.next())
    scene.feed.close()
    check(messages, 7)
    assert len(messages) > 1
