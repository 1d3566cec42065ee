"""One pool's reconcile when something refuses: later each time, and the rest goes on."""

import itertools
from typing import Any

import pytest

from penstock.v1 import fleet_service_pb2
from penstock_operator import (
    backoff,
    cluster,
    conditions,
    controller,
    demand,
    departures,
    dispatcher_link,
    metrics,
    settings,
    store,
)

KEY = store.Key("team", "p")
BODY: dict[str, Any] = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "WorkerPool",
    "metadata": {
        "name": "p",
        "namespace": "team",
        "uid": "u",
        "generation": 1,
        "resourceVersion": "5",
    },
    "spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "example/worker"}]}}},
}


def test_every_wait_is_longer_than_the_one_before_up_to_a_limit() -> None:
    waits, tries, now = [], backoff.Backoff(), 100.0
    for _ in range(7):
        tries.failed(now, draw=0.0)
        waits.append(tries.left(now))
        now += waits[-1]
        assert tries.left(now) == 0
    assert waits == [1, 2, 4, 8, 15, 15, 15]
    tries.failed(now, draw=1.0)
    assert tries.left(now) == backoff.SECONDS_MAX
    tries.reset()
    assert tries.left(now) == 0


class World:
    """A controller whose turns the test takes, at its own time."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.creations = 0
        self.refusal: Exception | None = cluster.ApiError(403, "quota exceeded")
        self.status: dict[str, Any] = {}
        self.status_refusal: Exception | None = None
        self.status_writes = 0
        self.events: list[tuple[str, str]] = []
        self.objects = store.Store()
        self.objects.put_pool(BODY)
        self.numbers = metrics.Metrics()
        self.link = Link()
        api: Any = self
        self.one = controller.Controller(
            key=KEY,
            uid="u",
            api=api,
            objects=self.objects,
            link=(link := self.link),  # type: ignore[arg-type]
            gone=departures.Departures(
                api=api,
                objects=self.objects,
                link=lambda: link,  # type: ignore[arg-type,return-value]
                wake=lambda _: None,
            ),
            config=settings.read(["--namespaces=team"], {}),
            numbers=self.numbers,
            wall=lambda: self.now,
        )

    async def turn(self) -> float | None:
        return await self.one._guarded_turn()

    def outcomes(self, outcome: str) -> float:
        labels = {"namespace": "team", "pool": "p", "outcome": outcome}
        found = self.numbers.registry.get_sample_value("penstock_operator_reconciles_total", labels)
        return found or 0

    async def create_deployment(self, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        self.creations += 1
        if self.refusal is not None:
            raise self.refusal
        return {**body, "metadata": {**body["metadata"], "uid": "d", "resourceVersion": "6"}}

    async def patch_pool_status(
        self, namespace: str, name: str, *, uid: str, patch: dict[str, Any]
    ) -> dict[str, Any]:
        self.status_writes += 1
        if self.status_refusal is not None:
            raise self.status_refusal
        self.status |= patch
        return BODY

    async def create_event(self, namespace: str, body: dict[str, Any]) -> None:
        self.events.append((body["reason"], body["note"]))


class Link:
    """A dispatcher that is not there, or says one thing."""

    load: demand.Demand | None = None

    def demand(self, name: str, *, uid: str) -> demand.Demand | None:
        return self.load

    def known_for(self, name: str) -> float:
        return 0.0

    def synced_for(self) -> float:
        return 0.0

    def demand_age(self, name: str) -> float:
        return 0.0

    def status(self) -> conditions.Link:
        return conditions.Link(address="dispatcher:50051")


async def test_wakes_do_not_pass_the_back_off_by_and_it_grows() -> None:
    world = World()
    tries = []
    for _ in range(1200):  # ten wakes a second for two minutes
        before = world.creations
        await world.turn()
        if world.creations > before:
            tries.append(world.now)
        world.now += 0.1
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert len(tries) <= 12
    assert gaps[0] < 3
    assert gaps[-1] >= 15
    assert world.outcomes("failed") == len(tries)
    assert world.outcomes("done") == 0


async def test_a_refusal_stays_in_the_status_until_it_is_over_and_then_all_begins_anew() -> None:
    world = World()
    wait = await world.turn()
    assert wait is not None
    await world.turn()  # held
    (ready,) = (each for each in world.status["conditions"] if each["type"] == "Ready")
    assert (ready["reason"], ready["message"]) == ("KubernetesRefused", "quota exceeded")
    world.refusal = None
    world.now += wait
    await world.turn()
    assert world.creations == 2
    assert world.outcomes("done") == 1
    assert world.outcomes("held") == 1


async def test_another_spec_is_tried_at_once() -> None:
    world = World()
    await world.turn()
    meta = {**BODY["metadata"], "generation": 2, "resourceVersion": "9"}
    world.objects.put_pool({**BODY, "metadata": meta})
    await world.turn()
    assert world.creations == 2


@pytest.mark.parametrize(("refusal", "tries"), [(dispatcher_link.LinkDown("gone"), 2), (None, 1)])
async def test_a_new_stream_ends_the_back_off_of_the_old_one_only(
    refusal: Exception | None, tries: int
) -> None:
    world = World()
    world.refusal = refusal or world.refusal
    await world.turn()
    world.one.link_changed()
    await world.turn()
    assert world.creations == tries


async def test_a_status_that_cannot_be_written_does_not_stop_scaling() -> None:
    world = World()
    world.refusal = None
    world.status_refusal = cluster.ApiError(403, "no")
    for _ in range(20):
        await world.turn()
    assert world.creations == 1
    assert world.status_writes == 1
    assert world.outcomes("failed") == 1


async def test_a_deleted_pool_that_can_be_had_back_is_told_once() -> None:
    world = World()
    world.refusal = None
    message = fleet_service_pb2.PoolDemand(pool="namespaces/team/pools/p", uid="u")
    world.link.load = demand.merge(None, message, first=True)
    await world.turn()
    assert [reason for reason, _ in world.events] == ["ScaledUp"]
    message.restorable_tasks, message.restorable_uid = 3, "u-before"
    message.restorable_until.FromJsonString("2026-03-04T05:06:07Z")
    for left in (3, 2):
        message.restorable_tasks = left
        world.link.load = demand.merge(world.link.load, message, first=False)
        await world.turn()
    (note,) = [note for reason, note in world.events if reason == "TasksRestorable"]
    assert note == (
        "The deleted pool of this name (u-before) keeps 3 tasks until 2026-03-04 05:06 UTC:"
        " 'penstock restore p' moves them into this one"
    )
