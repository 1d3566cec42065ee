"""The hub: what an event or a LIST of objects comes to, for every pool and for one bad one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from penstock.v1 import fleet_service_pb2
from penstock_operator import cluster, dispatcher_link, hub, metrics, settings
from rig import virtual_time

NAMESPACE = "team"


def pool(name: str, uid: str, **template: Any) -> dict[str, Any]:
    body = {"spec": {"containers": [{"name": "worker", "image": "example/worker"}]}, **template}
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid,
            "generation": 1,
            "resourceVersion": "5",
        },
        "spec": {"template": body},
    }


class Kubernetes:
    """The few requests that a hub and its controllers make, answered from dicts."""

    def __init__(self) -> None:
        self.pools: list[dict[str, Any]] = []
        self.pods: list[dict[str, Any]] = []
        self.statuses: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, cluster.ApiError] = {}
        """By namespace: what a LIST there answers."""
        self.lists = 0

    def _listing(self, namespace: str, items: list[dict[str, Any]]) -> cluster.Listing:
        self.lists += 1
        if namespace in self.refused:
            raise self.refused[namespace]
        mine = [item for item in items if item["metadata"]["namespace"] == namespace]
        return cluster.Listing(items=tuple(mine), version="100")

    async def list_pools(self, namespace: str) -> cluster.Listing:
        return self._listing(namespace, self.pools)

    async def list_pods(self, namespace: str, **_: Any) -> cluster.Listing:
        return self._listing(namespace, self.pods)

    async def get_pod(self, namespace: str, name: str) -> dict[str, Any]:
        for item in self.pods:
            if item["metadata"]["name"] == name:
                return item
        raise cluster.NotFound(404, f"{name} was not found")

    async def list_deployments(self, namespace: str) -> cluster.Listing:
        return self._listing(namespace, [])

    async def create_deployment(self, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        meta = {**body["metadata"], "uid": "d", "resourceVersion": "9"}
        return {**body, "metadata": meta}

    async def patch_pool_status(
        self, namespace: str, name: str, *, uid: str, patch: dict[str, Any]
    ) -> dict[str, Any]:
        self.statuses.setdefault(name, {}).update(patch)
        (body,) = (each for each in self.pools if each["metadata"]["name"] == name)
        return {**body, "metadata": {**body["metadata"], "resourceVersion": "7"}}

    async def create_event(self, namespace: str, body: dict[str, Any]) -> None:
        pass


class World:
    """A hub with a real link that is never run, and a made Kubernetes."""

    def __init__(self, *namespaces: str) -> None:
        self.api = Kubernetes()
        config = settings.read(
            [f"--namespaces={','.join(namespaces or (NAMESPACE,))}"], {"PENSTOCK_POD_NAME": "me"}
        )
        self.hub = hub.Hub(
            api=self.api,  # type: ignore[arg-type]
            config=config,
            numbers=metrics.Metrics(),
            wall=lambda: 1_000_000.0,
        )
        self.link = dispatcher_link.DispatcherLink(
            address="dispatcher:50051",
            token_file="",
            operator_id="me",
            epoch=lambda: 1,
            wake=self.hub.demand_changed,
            wake_all=self.hub.link_changed,
            clock=lambda: 0.0,
        )
        self.hub.link = self.link

    async def condition(self, name: str) -> dict[str, Any]:
        """The pool's Ready condition, as soon as it is written."""
        async with asyncio.timeout(5):
            while name not in self.api.statuses:
                await asyncio.sleep(0)
        (ready,) = (
            each for each in self.api.statuses[name]["conditions"] if each["type"] == "Ready"
        )
        return ready


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.hub.stop()


class Written:
    """The dispatcher's end of a stream, which only listens."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.synced = asyncio.Event()

    async def write(self, request: fleet_service_pb2.SyncPoolsRequest) -> None:
        kind = request.WhichOneof("message") or ""
        value = getattr(request, kind)
        self.said.append((kind, value if isinstance(value, str) else getattr(value, "uid", "")))
        if kind == "sync_end":
            self.synced.set()


async def first_words(link: dispatcher_link.DispatcherLink) -> list[tuple[str, str]]:
    """What the link says at the beginning of a stream."""
    call = Written()
    writing = asyncio.ensure_future(link._write(call))  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await call.synced.wait()
    writing.cancel()
    return call.said


async def test_a_pool_that_exists_and_cannot_be_read_is_named_to_the_dispatcher(
    world: World,
) -> None:
    bad = pool("bad", "u-1", spec={"containers": []})
    world.api.pools = [bad, pool("good", "u-2")]
    await world.hub.prime()
    assert await first_words(world.link) == [
        ("upsert", "u-2"),
        ("kept_uid", "u-1"),
        ("sync_end", ""),
    ]
    mended = pool("bad", "u-1")
    mended["metadata"] |= {"generation": 2, "resourceVersion": "9"}
    world.hub.pool_event("MODIFIED", mended)
    assert await first_words(world.link) == [("upsert", "u-2"), ("upsert", "u-1"), ("sync_end", "")]


async def test_a_pool_that_goes_bad_is_told_as_it_was(world: World) -> None:
    world.api.pools = [pool("a", "u-1")]
    await world.hub.prime()
    bad = pool("a", "u-1", spec={"containers": []})
    bad["metadata"] |= {"generation": 2, "resourceVersion": "9"}
    world.hub.pool_event("MODIFIED", bad)
    assert await first_words(world.link) == [("upsert", "u-1"), ("sync_end", "")]
    world.hub.pool_event("DELETED", bad)
    assert await first_words(world.link) == [("sync_end", "")]


async def test_a_bad_pool_that_is_deleted_is_not_kept(world: World) -> None:
    bad = pool("bad", "u-1", spec={"containers": []})
    world.hub.pool_event("ADDED", bad)
    world.hub.pool_event("DELETED", bad)
    assert await first_words(world.link) == [("sync_end", "")]


async def test_a_malformed_pool_is_told_so_and_the_others_are_served(world: World) -> None:
    env = [{"name": "worker", "image": "example/worker", "env": ["A=B"]}]
    world.api.pools = [
        pool("bad", "u-1", spec={"containers": env}),
        pool("good", "u-2"),
    ]
    await world.hub.prime()
    assert world.hub.primed
    ready = await world.condition("bad")
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "spec.template.spec.containers[0].env[0]" in ready["message"]
    assert (await world.condition("good"))["reason"] != "InvalidSpec"


async def test_a_running_pod_that_leaves_the_watch_is_not_given_up(world: World) -> None:
    labels = {"penstock.dev/pool": "a", "penstock.dev/pool-uid": "u-1"}
    meta = {"name": "a-1", "namespace": NAMESPACE, "uid": "p-1", "resourceVersion": "5"}
    body = {"metadata": {**meta, "labels": labels}, "status": {"phase": "Running"}}
    world.api.pods = [{**body, "metadata": {**meta, "resourceVersion": "6"}}]
    world.hub.pod_event("ADDED", body)
    world.hub.pod_event("DELETED", body)
    async with asyncio.timeout(5):
        while world.hub._departures._checks:
            await asyncio.sleep(0)
    assert not world.link._gone


@pytest.mark.parametrize("status", [403, 404])
async def test_a_namespace_that_cannot_be_read_takes_nobody_else_down(status: int) -> None:
    world = World("away", NAMESPACE)
    world.api.refused["away"] = cluster.ApiError(status, "no")
    world.api.pools = [pool("good", "u-2")]
    await world.hub.prime()
    assert (world.hub.primed, world.hub.namespaces) == (True, (NAMESPACE,))
    assert await first_words(world.link) == [
        ("upsert", "u-2"),
        ("kept_namespace", "away"),
        ("sync_end", ""),
    ]
    await world.hub.stop()


@pytest.mark.parametrize(
    ("namespaces", "status"), [((NAMESPACE,), 403), (("other", NAMESPACE), 500)]
)
async def test_but_a_start_that_reads_nothing_or_half_fails(
    namespaces: tuple[str, ...], status: int
) -> None:
    world = World(*namespaces)
    world.api.refused[NAMESPACE] = cluster.ApiError(status, "no")
    with pytest.raises(cluster.ApiError, match="no"):
        await world.hub.prime()
    assert not world.hub.primed


def test_a_namespace_that_comes_back_ends_the_process_for_a_new_one_to_watch_it() -> None:
    async def history() -> float:
        world = World("away", NAMESPACE)
        world.api.refused["away"] = cluster.ApiError(403, "no")
        await world.hub.prime()
        resyncing = asyncio.ensure_future(world.hub.resync())
        await asyncio.sleep(1000)
        assert not resyncing.done()
        del world.api.refused["away"]
        began = asyncio.get_running_loop().time()
        with pytest.raises(hub.NamespaceCame, match="away"):
            await resyncing
        return asyncio.get_running_loop().time() - began

    assert virtual_time.run(history()) <= 72


def test_a_watch_that_begins_anew_makes_everything_be_read_soon_and_once() -> None:
    async def history() -> list[float]:
        world = World()
        await world.hub.prime()
        loop = asyncio.get_running_loop()
        resyncing = asyncio.ensure_future(world.hub.resync())
        began, reads = loop.time(), []
        await asyncio.sleep(10)
        before = world.api.lists
        for _ in range(50):
            world.hub.relisted()
            await asyncio.sleep(0.01)
        while loop.time() - began < 30:
            await asyncio.sleep(0.1)
            if world.api.lists > before:
                reads.append(loop.time() - began - 10)
                before = world.api.lists
        resyncing.cancel()
        return reads

    (read,) = virtual_time.run(history())
    assert read < 1.2


async def test_a_pod_whose_deletion_was_missed_leaves_the_picture_with_the_next_list(
    world: World,
) -> None:
    labels = {"penstock.dev/pool": "a", "penstock.dev/pool-uid": "u-1"}
    meta = {"name": "a-1", "namespace": NAMESPACE, "uid": "p-1", "resourceVersion": "5"}
    world.hub.pod_event(
        "ADDED", {"metadata": {**meta, "labels": labels}, "status": {"phase": "Running"}}
    )
    await world.hub.prime()
    assert not world.hub._objects.pods_of(("team", "a"), uid="u-1")  # type: ignore[arg-type]
