"""Tells the dispatcher that a pod has ended, and makes sure of it first.

A report frees what the worker held, so that it runs elsewhere at once: said of a worker that
lives, it makes its task run twice. A pod whose own status says that it has ended is reported as
it is. One that is only missing (a watch or a LIST does not show it any more) may have lost its
label, or the watch may be behind: it is read by its name, without any selector, and reported if
that UID is not there or has ended. One that lives goes back into the picture. What cannot be read
is not reported: the lease runs out, or the reconcile asks again.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from penstock_operator import cluster, dispatcher_link, observed, spec, store

READS_AT_ONCE: Final = 8

logger = logging.getLogger(__name__)


class Departures:
    """Of one operator. `link` gives the link to the dispatcher, `wake` has a pool looked at."""

    def __init__(
        self,
        *,
        api: cluster.Cluster,
        objects: store.Store,
        link: Callable[[], dispatcher_link.DispatcherLink],
        wake: Callable[[store.Key], None],
    ) -> None:
        self._api = api
        self._objects = objects
        self._link = link
        self._wake = wake
        self._room = asyncio.Semaphore(READS_AT_ONCE)
        self._checks: dict[str, asyncio.Task[None]] = {}
        """By pod UID."""

    def ended(self, key: store.Key, pod: observed.Pod) -> None:
        """The pod's status says that it has ended."""
        self._report(key, pod, absent=False)

    def missing(self, key: store.Key, pod: observed.Pod) -> None:
        """The pod is not shown any more; this was the last that was seen of it."""
        if pod.phase in observed.ENDED_PHASES:
            self._report(key, pod, absent=True)
        elif pod.uid not in self._checks:
            task = asyncio.create_task(self._check(key, pod), name=f"look for pod {pod.name}")
            self._checks[pod.uid] = task
            task.add_done_callback(lambda _: self._checks.pop(pod.uid, None))

    async def _check(self, key: store.Key, pod: observed.Pod) -> None:
        try:
            async with self._room:
                await self.confirm(key, pod)
        except cluster.ApiError as error:
            logger.warning("%s/%s: pod %s cannot be looked for: %s", *key, pod.name, error)
        self._wake(key)

    async def read(self, key: store.Key, pod: observed.Pod) -> cluster.Body | None:
        """The pod as it is now, whatever its labels; None = it is gone. Raises ApiError."""
        try:
            body = await self._api.get_pod(key.namespace, pod.name)
        except cluster.NotFound:
            return None
        return body if observed.pod_of(body).uid == pod.uid else None

    async def confirm(self, key: store.Key, pod: observed.Pod) -> bool:
        """Look for a missing pod; report it if it is gone. False = it lives. Raises ApiError."""
        body = await self.read(key, pod)
        if body is None:
            self._report(key, pod, absent=True)
            return True
        found = observed.pod_of(body)
        if found.phase in observed.ENDED_PHASES:
            self._report(key, found, absent=False)
            return True
        logger.warning("%s/%s: pod %s was missing and lives", *key, pod.name)
        self._objects.revive_pod(body)
        return False

    def _report(self, key: store.Key, pod: observed.Pod, *, absent: bool) -> None:
        ended = next((each for each in pod.containers if each.ended_reason), None)
        reason = pod.reason or (ended.ended_reason if ended is not None else "")
        if not reason or (absent and reason == "Completed"):
            reason = "Deleted" if absent else pod.phase
        self._link().worker_gone(
            pool=spec.pool_name(namespace=key.namespace, name=key.name),
            pod_name=pod.name,
            pod_uid=pod.uid,
            reason=reason,
            exit_code=ended.ended_exit_code if ended is not None else 0,
        )

    async def stop(self) -> None:
        """Look for nobody any more."""
        tasks = list(self._checks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
