"""Writes a pool's status and posts its Events: the slow half of a reconcile.

Status is patched only where it changed; counts at most once a second, what was done and what is
wrong at once. Events go through a budget. A write that fails is tried again with the next turn;
it never stops a reconcile.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock_operator import cluster, conditions, demand, events, observed, spec, status, store

STATUS_INTERVAL_SECONDS: Final = 1.0
REPORTER: Final = "penstock.dev/operator"
FAILING_SECONDS: Final = 300.0
"""Failed tasks are reported for this long after the last one."""

logger = logging.getLogger(__name__)


class Reporter:
    """Of one pool. `instance` is the operator's identity."""

    def __init__(
        self, *, api: cluster.Cluster, objects: store.Store, key: store.Key, instance: str
    ) -> None:
        self._api = api
        self._objects = objects
        self._key = key
        self._instance = instance
        self._budget = events.Budget()
        self._queued: list[events.Event] = []
        self._written_at = 0.0
        self._written: Mapping[str, Any] | None = None
        self._last_scale: status.LastScale | None = None
        self._failed_total = -1
        self._failing_until = 0.0
        self._told_restorable = ""

    def scaled(self, scale: status.LastScale) -> None:
        """The number of workers was changed."""
        self._last_scale = scale
        self._queued.append(
            events.scaled(before=scale.before, after=scale.after, message=scale.message)
        )

    def say(self, event: events.Event) -> None:
        """Post this with the next report."""
        self._queued.append(event)

    def restorable(self, load: demand.Demand) -> None:
        """Say once of each deleted pool that its tasks can be had back."""
        if load.restorable_tasks and load.restorable_uid != self._told_restorable:
            self._told_restorable = load.restorable_uid
            self.say(
                events.restorable(
                    pool=self._key.name,
                    tasks=load.restorable_tasks,
                    uid=load.restorable_uid,
                    until=load.restorable_until,
                )
            )

    def tasks_fail(self, *, failed_total: int, dead_lettered: int, now: float) -> bool:
        """Tasks have failed of late, or dead letters are kept."""
        if 0 <= self._failed_total < failed_total:
            self._failing_until = now + FAILING_SECONDS
        self._failed_total = failed_total
        return dead_lettered > 0 or now < self._failing_until

    async def report(
        self,
        body: Mapping[str, Any],
        seen: conditions.Situation,
        *,
        pods: Iterable[observed.Pod],
        now: float,
    ) -> float | None:
        """Bring status and Events up to date. Answers with the seconds after which to come back."""
        meta = body["metadata"]
        before: Mapping[str, Any] = (
            body.get("status") or {} if self._written is None else self._written
        )
        after = status.build(
            seen,
            name=self._key.name,
            generation=int(meta.get("generation") or 0),
            pods=pods,
            last_scale=self._last_scale,
            previous=before,
            now=now,
        )
        patch = status.merge_patch(before, after)
        wait = self._written_at + STATUS_INTERVAL_SECONDS - now
        if patch is not None and (
            status.is_urgent(patch) or not 0 < wait <= STATUS_INTERVAL_SECONDS
        ):
            turned = events.transitions(
                before.get("conditions") or (), after.get("conditions") or ()
            )
            try:
                answer = await self._api.patch_pool_status(
                    self._key.namespace, self._key.name, uid=meta["uid"], patch=patch
                )
            except (cluster.NotFound, cluster.Conflict):
                return None  # deleted meanwhile, or another one by that name
            self._objects.put_pool(answer)
            self._written, self._written_at = after, now
            self._queued.extend(turned)
            wait, patch = 0.0, None
        await self._post(meta, now=now)
        return wait if patch is not None else None

    async def _post(self, meta: Mapping[str, Any], *, now: float) -> None:
        queued, self._queued = self._queued, []
        for event in queued:
            if not self._budget.allows(event, now=now):
                continue
            try:
                await self._api.create_event(
                    self._key.namespace, _body(event, meta, instance=self._instance, now=now)
                )
            except cluster.ApiError as error:
                logger.info("an Event of %s/%s was not posted: %s", *self._key, error)


def _body(
    event: events.Event, meta: Mapping[str, Any], *, instance: str, now: float
) -> dict[str, Any]:
    note = event.note
    if len(note) > events.NOTE_CHARACTERS_MAX:
        note = note[: events.NOTE_CHARACTERS_MAX - 1] + "…"
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta['name']}-", "namespace": meta["namespace"]},
        "eventTime": observed.precise_time_text(now),
        "reportingController": REPORTER,
        "reportingInstance": instance[:128],
        "action": event.action,
        "reason": event.reason,
        "type": "Warning" if event.warning else "Normal",
        "note": note,
        "regarding": {
            "apiVersion": spec.API_VERSION,
            "kind": spec.KIND,
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
    }
