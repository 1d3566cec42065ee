"""Carries out what a plan asks for, one action at a time, and remembers what each has taught.

An action that was decided on something which is no longer so changes nothing: it refreshes the
picture and answers False, and the caller plans anew. What Kubernetes or the dispatcher refuses is
raised.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from penstock.v1 import fleet_service_pb2
from penstock_operator import (
    actions,
    cluster,
    departures,
    dispatcher_link,
    memory,
    metrics,
    observed,
    removal,
    reservations,
    resources,
    spec,
    status,
    store,
)

PATCHES_AT_ONCE: Final = 8

logger = logging.getLogger(__name__)


class Executor:
    """Of one WorkerPool object. `scaled` hears of every change of the number of workers."""

    def __init__(
        self,
        *,
        key: store.Key,
        uid: str,
        api: cluster.Cluster,
        objects: store.Store,
        link: dispatcher_link.DispatcherLink,
        gone: departures.Departures,
        workers: resources.WorkerSettings,
        numbers: metrics.Metrics,
        scaled: Callable[[status.LastScale], None],
        wall: Callable[[], float],
    ) -> None:
        self._key = key
        self._uid = uid
        self._api = api
        self._objects = objects
        self._link = link
        self._departures = gone
        self._workers = workers
        self._numbers = numbers
        self._tell_scaled = scaled
        self._wall = wall
        self.memory = memory.Memory()

    async def act(self, pool: spec.WorkerPoolSpec, action: actions.Action) -> bool:
        """Do it. False = it was planned on something that is not so any more."""
        match action:
            case actions.CreateDeployment():
                return await self._create(pool, action)
            case actions.ScaleDeployment():
                return await self._scale(action)
            case actions.RemovePods():
                return await self._remove(pool, action)
            case actions.MarkPods():
                return await self._mark(action)
            case actions.ReserveWorkers():
                return await self._reserve(pool, action)
            case actions.ShutOut():
                return await self._shut_out(pool, action)
            case actions.ReleaseWorkers():
                return await self._release(pool, action)
            case actions.DeleteDeployment():
                return await self._delete(action)
            case actions.WriteReplicas():
                answer = await self._api.patch_pool_replicas(
                    *self._key, uid=self._uid, replicas=action.replicas
                )
                self._objects.put_pool(answer)
                return False  # the spec is another one
            case actions.ReportGone():
                return await self._report_gone(pool, action)

    async def _report_gone(self, pool: spec.WorkerPoolSpec, action: actions.ReportGone) -> bool:
        pod = observed.Pod(name=action.pod_name, uid=action.pod_uid)
        if action.absent:
            if not await self._departures.confirm(self._key, pod):
                self.memory = self.memory.after_found(action.pod_uid, now=self._wall())
                return False
        else:
            body = await self._departures.read(self._key, pod)
            now = observed.pod_of(body).container(pool.worker_container) if body else None
            if body and now and (now.running or now.restarts != action.restarts):
                self._objects.put_pod(body)  # another process runs there by now
                return False
            self._link.worker_gone(
                pool=pool.full_name,
                pod_name=action.pod_name,
                pod_uid=action.pod_uid,
                reason=action.reason,
                exit_code=action.exit_code,
            )
        self.memory = self.memory.after_report(action.pod_uid, restarts=action.restarts)
        return True

    async def _create(self, pool: spec.WorkerPoolSpec, action: actions.CreateDeployment) -> bool:
        body = resources.build_deployment(
            pool, replicas=action.replicas, settings=self._workers, revision=action.revision
        )
        before = sum(each.replicas for each in self._deployments())
        try:
            self._objects.put_deployment(
                await self._api.create_deployment(self._key.namespace, body)
            )
        except cluster.Conflict:
            found = await self._api.get_deployment(self._key.namespace, action.name)
            if observed.controller_uid(found) != self._uid:
                raise cluster.ApiError(
                    409,
                    f"Deployment {action.name} exists and belongs to something else: delete it, "
                    "or give "
                    "the pool another name",
                ) from None
            self._objects.put_deployment(found)
            return False
        after = before + action.replicas
        if action.replicas:
            self._scaled(before, after, reason=action.reason, message=action.message)
        return True

    async def _scale(self, action: actions.ScaleDeployment) -> bool:
        done = await self._write_replicas(
            action.name,
            replicas=action.replicas,
            resource_version=action.resource_version,
        )
        if done:
            if action.replicas > action.current and action.reason == "Demand":
                self._numbers.scale_seconds.observe(
                    self._link.demand_age(
                        spec.pool_name(namespace=self._key.namespace, name=self._key.name)
                    )
                )
            self._scaled(
                action.pool_from, action.pool_to, reason=action.reason, message=action.message
            )
        return done

    async def _write_replicas(self, name: str, *, replicas: int, resource_version: str) -> bool:
        try:
            version = await self._api.scale_deployment(
                self._key.namespace, name, replicas=replicas, resource_version=resource_version
            )
        except cluster.Conflict:
            await self._refresh(name)
            return False
        except cluster.NotFound:
            await self._refresh(name)
            return False
        self._objects.scaled(self._key, name=name, replicas=replicas, resource_version=version)
        return True

    async def _refresh(self, name: str) -> observed.Deployment | None:
        try:
            body = await self._api.get_deployment(self._key.namespace, name)
        except cluster.NotFound:
            for each in self._deployments():
                if each.name == name:
                    self._objects.forget_deployment(self._key, name=name, uid=each.uid)
            return None
        self._objects.put_deployment(body)
        return observed.deployment_of(body)

    async def _remove(self, pool: spec.WorkerPoolSpec, action: actions.RemovePods) -> bool:
        deployment = await self._refresh(action.name)
        selector = resources.pod_selector(pool_name=pool.name)
        listing = await self._api.list_pods(self._key.namespace, selector=selector)
        for body in listing.items:
            self._objects.put_pod(body)
        missed = self._objects.missing_pods(
            self._key.namespace, listing.items, version=listing.version, only=self._key
        )
        for key, pod in missed:
            self._departures.missing(key, pod)
        load = self._link.demand(pool.full_name, uid=self._uid)
        if deployment is None or load is None:
            return False
        pods = [observed.pod_of(body) for body in listing.items]
        verdict = removal.confirm(
            action,
            replicas=deployment.replicas,
            pods=[pod for pod in pods if pod.revision == deployment.revision],
            workers=load.workers,
            worker_container=pool.worker_container,
            now=self._wall(),
        )
        if not verdict.count:
            logger.debug("%s/%s: removal waits: %s", *self._key, verdict.waiting)
            return False
        done = await self._write_replicas(
            action.name,
            replicas=deployment.replicas - verdict.count,
            resource_version=deployment.resource_version,
        )
        if done:
            after = action.pool_from - verdict.count
            self._scaled(action.pool_from, after, reason=action.reason, message=action.message)
        return done

    async def _mark(self, action: actions.MarkPods) -> bool:
        for start in range(0, len(action.names), PATCHES_AT_ONCE):
            batch = action.names[start : start + PATCHES_AT_ONCE]
            answers = await asyncio.gather(
                *(self._api.mark_pod(self._key.namespace, name) for name in batch),
                return_exceptions=True,
            )
            for name, answer in zip(batch, answers, strict=True):
                if isinstance(answer, cluster.NotFound):
                    self._objects.forget_pod(self._key, name=name)
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                self._objects.put_pod(answer)
        return True

    async def _reserve(self, pool: spec.WorkerPoolSpec, action: actions.ReserveWorkers) -> bool:
        self.memory = await reservations.reserve(
            self._link, pool, action, remembered=self.memory, wall=self._wall
        )
        return True

    async def _shut_out(self, pool: spec.WorkerPoolSpec, action: actions.ShutOut) -> bool:
        answer = await self._link.reserve(
            fleet_service_pb2.ReserveWorkersRequest(
                pool=pool.full_name, absent_pod_uids=action.pod_uids
            )
        )
        self.memory = self.memory.after_shut_out(
            answer.absent_pod_uids, asked=len(action.pod_uids), now=self._wall()
        )
        return True

    async def _release(self, pool: spec.WorkerPoolSpec, action: actions.ReleaseWorkers) -> bool:
        self.memory = await reservations.release(
            self._link, pool, action, remembered=self.memory, wall=self._wall
        )
        return True

    async def _delete(self, action: actions.DeleteDeployment) -> bool:
        try:
            await self._api.delete_deployment(
                self._key.namespace,
                action.name,
                uid=action.uid,
                resource_version=action.resource_version,
            )
        except cluster.Conflict:
            await self._refresh(action.name)
            return False
        except cluster.NotFound:
            logger.debug("%s/%s: %s was gone already", *self._key, action.name)
        self._objects.forget_deployment(self._key, name=action.name, uid=action.uid)
        return True

    # ------------------------------------------------------------ helpers

    def _scaled(self, before: int, after: int, *, reason: str, message: str) -> None:
        direction = "up" if after > before else "down"
        self._numbers.scales.labels(*self._key, direction, reason).inc()
        logger.info("%s/%s: scaled %d to %d: %s", *self._key, before, after, message)
        self._tell_scaled(
            status.LastScale(
                time=self._wall(), before=before, after=after, reason=reason, message=message
            )
        )

    def _deployments(self) -> tuple[observed.Deployment, ...]:
        return self._objects.deployments_of(self._key, uid=self._uid)
