"""All pools of the served namespaces: routes what happens to the pool that it concerns.

Watch events, LISTs and demand end here in the same two steps: put it into the picture (`store`),
set the pool's flag. Nothing is decided here, and nothing waits. There is one `Controller` task
per WorkerPool object.

`prime` reads everything once before the dispatcher is told anything, because what is not named to
it in the first sync is closed. A namespace that may not be read (it was deleted, or its Role) is
left out: its pools are kept at the dispatcher, all other namespaces are served. `resync` reads
again each `RESYNC_SECONDS`, and soon after a watch has begun anew with a list: nobody reports what
was deleted before it. When it can read a namespace that was left out, it ends the process, for the
next one to watch that namespace, too.

The end of a pod is reported to the dispatcher from here at once (see `departures`), whether its
pool still exists or not.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from penstock_operator import (
    cluster,
    controller,
    departures,
    dispatcher_link,
    metrics,
    observed,
    settings,
    spec,
    store,
)

RESYNC_SECONDS: Final = 60.0
RELIST_SECONDS: Final = 1.0
"""After a watch's new list, for the rest of it to arrive."""
UNREADABLE: Final = (403, 404)
POOLS_MAX: Final = 5_000
"""Pools served by one operator; more are left alone and said so."""

logger = logging.getLogger(__name__)


class NamespaceCame(Exception):  # noqa: N818  it says what happened
    """A served namespace can be read now and is not watched: the process must begin anew."""


class Hub:
    """Of one operator. `wall` is the time of day in seconds."""

    def __init__(
        self,
        *,
        api: cluster.Cluster,
        config: settings.Settings,
        numbers: metrics.Metrics,
        wall: Callable[[], float],
    ) -> None:
        self._api = api
        self._config = config
        self._numbers = numbers
        self._wall = wall
        self._objects = store.Store()
        self._controllers: dict[
            store.Key, tuple[str, controller.Controller, asyncio.Task[None]]
        ] = {}
        self._departures = departures.Departures(
            api=api, objects=self._objects, link=lambda: self.link, wake=self._wake
        )
        self._link: dispatcher_link.DispatcherLink | None = None
        self._relisted = asyncio.Event()
        self.primed = False
        self.namespaces: tuple[str, ...] = ()
        """Served ones that could be read."""

    @property
    def link(self) -> dispatcher_link.DispatcherLink:
        """The link to the dispatcher; set once, before `prime`."""
        assert self._link is not None, "the link is set before anything happens"
        return self._link

    @link.setter
    def link(self, link: dispatcher_link.DispatcherLink) -> None:
        self._link = link

    # ------------------------------------------------------------ what watches say

    def pool_event(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """A WorkerPool was listed (None), ADDED, MODIFIED or DELETED."""
        if kind == "DELETED":
            self._pool_gone(body)
        elif (key := self._objects.put_pool(body)) is not None:
            self._pool_here(key, body)

    def deployment_event(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """A Deployment of ours, likewise."""
        put = self._objects.drop_deployment if kind == "DELETED" else self._objects.put_deployment
        self._wake(put(body))

    def pod_event(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """A worker pod, likewise."""
        if kind == "DELETED":
            key = self._objects.drop_pod(body)
            if key is not None:
                self._departures.missing(key, observed.pod_of(body))
            self._wake(key)
            return
        key = self._objects.put_pod(body)
        if key is not None:
            pod = observed.pod_of(body)
            if pod.phase in observed.ENDED_PHASES:
                self._departures.ended(key, pod)
        self._wake(key)

    def relisted(self) -> None:
        """A watch has begun with a list: what ended before it is reported by nobody."""
        self._relisted.set()

    # ------------------------------------------------------------ what the dispatcher says

    def demand_changed(self, pool_name: str) -> None:
        """Demand of a pool has arrived."""
        parts = pool_name.split("/")
        if len(parts) == 4:
            self._wake(store.Key(parts[1], parts[3]))

    def link_changed(self) -> None:
        """The dispatcher came or went."""
        for _, each, _ in self._controllers.values():
            each.link_changed()

    # ------------------------------------------------------------ reading everything

    async def prime(self) -> None:
        """Read everything, and start. Raises ApiError where nothing can be read."""
        refused: cluster.ApiError | None = None
        readable = []
        for namespace in self._config.namespaces:
            try:
                await self._read(namespace)
            except cluster.ApiError as error:
                if error.status not in UNREADABLE:
                    raise
                refused = error
                logger.error(  # noqa: TRY400  a traceback tells people nothing here
                    "namespace %s is not served: it does not exist, or the operator's Role there "
                    "is missing (%s)",
                    namespace,
                    error,
                )
                self.link.keep_namespace(namespace)
            else:
                readable.append(namespace)
        if refused is not None and not readable:
            raise refused
        self.namespaces = tuple(readable)
        self.primed = True

    async def resync(self) -> None:
        """Read everything again and again. Raises NamespaceCame."""
        while True:
            await self._until_due()
            for namespace in self._config.namespaces:
                try:
                    await self._read(namespace)
                except cluster.ApiError as error:
                    logger.warning("cannot read %s: %s", namespace, error)
                else:
                    if namespace not in self.namespaces:
                        raise NamespaceCame(f"{namespace} can be read now: starting anew with it")

    async def _until_due(self) -> None:
        try:
            async with asyncio.timeout(RESYNC_SECONDS * random.uniform(0.8, 1.2)):
                await self._relisted.wait()
            await asyncio.sleep(RELIST_SECONDS)
        except TimeoutError:
            logger.debug("time to read everything again")
        self._relisted.clear()

    async def _read(self, namespace: str) -> None:
        # Pods and Deployments first: a pool's first look should find them.
        pods = await self._api.list_pods(namespace)
        for body in pods.items:
            self.pod_event(None, body)
        for key, pod in self._objects.missing_pods(namespace, pods.items, version=pods.version):
            self._departures.missing(key, pod)
            self._wake(key)
        deployments = await self._api.list_deployments(namespace)
        for body in deployments.items:
            self.deployment_event(None, body)
        for key in self._objects.prune_deployments(
            namespace, deployments.items, version=deployments.version
        ):
            self._wake(key)
        pools = await self._api.list_pools(namespace)
        for body in pools.items:
            self.pool_event(None, body)
        for body in self._objects.missing_pools(namespace, pools.items, version=pools.version):
            self._pool_gone(body)

    # ------------------------------------------------------------ pools

    def _pool_here(self, key: store.Key, body: Mapping[str, Any]) -> None:
        meta = body["metadata"]
        if meta.get("deletionTimestamp"):
            # Deleted in the foreground: it must not get new Deployments while its old ones go.
            self._stop(key)
            self.link.delete(
                name=spec.pool_name(namespace=key.namespace, name=key.name), uid=meta["uid"]
            )
            return
        examined = spec.examine(body)
        if examined.config is not None:
            self.link.upsert(examined.config)
        else:
            # The dispatcher goes on with the earlier configuration; the status says why.
            name = spec.pool_name(namespace=key.namespace, name=key.name)
            self.link.keep(name=name, uid=meta["uid"])
            why = "; ".join(str(each) for each in examined.violations)
            logger.warning("%s/%s cannot be used: %s", *key, why, exc_info=examined.unexpected)
        uid, each, _ = self._controllers.get(key, ("", None, None))
        if each is None or uid != meta["uid"]:
            self._stop(key)
            self._start(key, uid=meta["uid"])
        else:
            each.wake()

    def _start(self, key: store.Key, *, uid: str) -> None:
        if len(self._controllers) >= POOLS_MAX:
            logger.error("%s/%s is left alone: %d pools are served already", *key, POOLS_MAX)
            return
        each = controller.Controller(
            key=key,
            uid=uid,
            api=self._api,
            objects=self._objects,
            link=self.link,
            gone=self._departures,
            config=self._config,
            numbers=self._numbers,
            wall=self._wall,
        )
        task = asyncio.create_task(each.run(), name=f"pool {key.namespace}/{key.name}")
        self._controllers[key] = (uid, each, task)

    def _stop(self, key: store.Key) -> None:
        found = self._controllers.pop(key, None)
        if found is not None:
            found[2].cancel()
            self._numbers.forget(namespace=key.namespace, pool=key.name)

    def _pool_gone(self, body: Mapping[str, Any]) -> None:
        key = self._objects.drop_pool(body)
        if key is None:
            return
        self._stop(key)
        self.link.delete(
            name=spec.pool_name(namespace=key.namespace, name=key.name),
            uid=body["metadata"]["uid"],
        )

    def _wake(self, key: store.Key | None) -> None:
        found = self._controllers.get(key) if key is not None else None
        if found is not None:
            found[1].wake()

    async def stop(self) -> None:
        """Stop every pool's task. Nothing is undone: the next operator goes on from here."""
        await self._departures.stop()
        tasks = [task for _, _, task in self._controllers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._controllers.clear()
