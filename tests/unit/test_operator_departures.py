"""Who is reported gone: pods that are not there any more, and nobody else."""

import asyncio
from typing import Any

import pytest

from penstock_operator import (
    actions,
    cluster,
    departures,
    executor,
    metrics,
    observed,
    resources,
    spec,
    store,
)

KEY = store.Key("team", "p")
POOL = spec.WorkerPoolSpec(namespace="team", name="p", uid="u", generation=1, template={})


def body(uid: str = "uid-1", *, labels: bool = True, version: str = "5", **status: Any) -> Any:
    labelled = {observed.POOL_LABEL: "p", observed.POOL_UID_LABEL: "u"}
    return {
        "metadata": {
            "name": "pod-1",
            "namespace": "team",
            "uid": uid,
            "resourceVersion": version,
            "labels": labelled if labels else {},
        },
        "status": {"phase": "Running", **status},
    }


class Link:
    """What is told to the dispatcher."""

    def __init__(self) -> None:
        self.gone: list[tuple[str, str]] = []

    def worker_gone(self, *, pod_uid: str, reason: str, **_: Any) -> None:
        self.gone.append((pod_uid, reason))


class World:
    """One pod, as Kubernetes has it: a body, None, or an error."""

    def __init__(self, there: Any) -> None:
        self.there = there
        self.link = Link()
        self.woken: list[store.Key] = []
        self.objects = store.Store()
        self.departures = departures.Departures(
            api=self,  # type: ignore[arg-type]
            objects=self.objects,
            link=lambda: self.link,  # type: ignore[arg-type,return-value]
            wake=self.woken.append,
        )

    async def get_pod(self, namespace: str, name: str) -> Any:
        assert (namespace, name) == ("team", "pod-1")
        if isinstance(self.there, cluster.ApiError):
            raise self.there
        if self.there is None:
            raise cluster.NotFound(404, "pods pod-1 was not found")
        return self.there

    async def lost_sight(self, seen: Any = None) -> list[tuple[str, str]]:
        """The watch says DELETED."""
        seen = seen or body()
        self.objects.put_pod(seen)
        self.objects.drop_pod(seen)
        self.departures.missing(KEY, observed.pod_of(seen))
        async with asyncio.timeout(5):
            while not self.woken and not self.link.gone:
                await asyncio.sleep(0)
        return self.link.gone

    def pods(self) -> list[str]:
        return [pod.uid for pod in self.objects.pods_of(KEY, uid="u")]


async def test_a_pod_that_is_not_there_is_reported() -> None:
    assert await World(None).lost_sight() == [("uid-1", "Deleted")]
    assert await World(body("uid-2")).lost_sight() == [("uid-1", "Deleted")]


async def test_a_pod_that_only_lost_its_label_is_not() -> None:
    world = World(body(labels=False, version="6"))
    assert await world.lost_sight() == []
    assert world.woken == [KEY]
    assert world.pods() == []


async def test_a_pod_that_a_list_has_missed_comes_back_into_the_picture() -> None:
    world = World(body(version="6"))
    assert await world.lost_sight() == []
    assert world.pods() == ["uid-1"]


async def test_a_pod_that_ended_is_reported_with_its_own_reason() -> None:
    world = World(body(phase="Failed", reason="Evicted"))
    assert await world.lost_sight() == [("uid-1", "Evicted")]


async def test_an_end_that_was_seen_needs_no_second_look() -> None:
    world = World(cluster.ApiError(500, "not to be asked"))
    assert await world.lost_sight(body(phase="Succeeded")) == [("uid-1", "Deleted")]


async def test_what_cannot_be_read_is_not_reported() -> None:
    world = World(cluster.ApiError(403, "no"))
    assert await world.lost_sight() == []


def hands(world: World) -> executor.Executor:
    return executor.Executor(
        key=KEY,
        uid="u",
        api=world,  # type: ignore[arg-type]
        objects=world.objects,
        link=world.link,  # type: ignore[arg-type]
        gone=world.departures,
        workers=resources.WorkerSettings(address="dispatcher:50051"),
        numbers=metrics.Metrics(),
        scaled=lambda _: None,
        wall=lambda: 1000.0,
    )


def report(*, absent: bool, restarts: int = 1) -> actions.ReportGone:
    return actions.ReportGone(
        absent=absent,
        pod_name="pod-1",
        pod_uid="uid-1",
        restarts=restarts,
        reason="OOMKilled",
        exit_code=137,
    )


async def test_a_lost_worker_whose_new_pod_was_not_seen_yet_is_not_reported() -> None:
    world = World(body())
    acting = hands(world)
    assert await acting.act(POOL, report(absent=True)) is False
    assert world.link.gone == []
    assert world.pods() == ["uid-1"]
    assert acting.memory.alive == {"uid-1": 1010.0}
    world.there = None
    assert await acting.act(POOL, report(absent=True)) is True
    assert world.link.gone == [("uid-1", "Deleted")]


@pytest.mark.parametrize(
    ("state", "restarts", "told"),
    [
        ({"waiting": {"reason": "CrashLoopBackOff"}}, 1, True),
        ({"running": {}}, 1, False),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, 2, False),
    ],
    ids=["it still waits", "it runs again", "it ended once more"],
)
async def test_an_ended_container_is_reported_unless_another_process_came(
    state: dict[str, Any], restarts: int, told: bool
) -> None:
    status = {"name": "worker", "state": state, "restartCount": restarts}
    world = World(body(containerStatuses=[status]))
    assert await hands(world).act(POOL, report(absent=False)) is told
    assert bool(world.link.gone) is told
