"""A pool's status: counts, queue, revisions, conditions, its last change of size.

`build` makes the whole status, `merge_patch` the smallest patch that turns one into another (None
= nothing to write), `is_urgent` tells whether that patch may wait for its turn: counts may, what
was done and what is wrong may not. Pure.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock_operator import conditions, demand, observed, resources

REVISIONS_MAX: Final = 10
MESSAGE_CHARACTERS_MAX: Final = 1024
URGENT: Final = ("conditions", "lastScale", "observedGeneration", "desiredReplicas", "selector")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LastScale:
    """The last change of the number of workers. `time` in seconds since the epoch."""

    time: float
    before: int
    after: int
    reason: str
    message: str


def build(
    seen: conditions.Situation,
    *,
    name: str,
    generation: int,
    pods: Iterable[observed.Pod],
    last_scale: LastScale | None,
    previous: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """The status as it should be now. What is unknown stays as it was in `previous`."""
    status: dict[str, Any] = {
        key: previous[key]
        for key in ("queue", "lastScale", "busyReplicas", "idleReplicas", "drainingReplicas")
        if key in previous
    }
    status["observedGeneration"] = generation
    status["selector"] = resources.pod_selector(pool_name=name)
    status.update(_counts(tuple(pods)))
    if seen.plan is not None:
        status["desiredReplicas"] = seen.plan.wanted
        status["drainingReplicas"] = sum(
            len(revision.leaving) for revision in seen.plan.fleet.revisions
        )
        status["revisions"] = [
            {
                "hash": revision.hash,
                "deployment": revision.deployment.name,
                "replicas": revision.replicas,
                "draining": revision is not seen.plan.fleet.current,
            }
            for revision in seen.plan.fleet.revisions
            if revision.deployment is not None
        ][:REVISIONS_MAX]
    elif "desiredReplicas" in previous:
        status["desiredReplicas"] = previous["desiredReplicas"]
    if seen.load is not None:
        status["queue"] = _queue(seen.load)
        workers = seen.load.workers.values()
        status["busyReplicas"] = sum(worker.slots_used > 0 for worker in workers)
        status["idleReplicas"] = sum(
            worker.state is demand.WorkerState.READY and not worker.leaving for worker in workers
        )
    if last_scale is not None:
        status["lastScale"] = {
            "time": observed.time_text(last_scale.time),
            "from": last_scale.before,
            "to": last_scale.after,
            "reason": last_scale.reason,
            "message": last_scale.message[:MESSAGE_CHARACTERS_MAX],
        }
    status["conditions"] = conditions.merge(
        previous.get("conditions") or (),
        conditions.derive(seen),
        generation=generation,
        now=now,
    )
    return status


def _counts(pods: tuple[observed.Pod, ...]) -> dict[str, int]:
    active = [pod for pod in pods if pod.active]
    ready = sum(pod.ready for pod in active)
    # A drained worker is not ready either, but it is not on its way.
    pending = sum(not pod.ready and not pod.deletion_cost for pod in active)
    return {
        "replicas": len(active),
        "readyReplicas": ready,
        "pendingReplicas": pending,
        "terminatingReplicas": sum(
            pod.terminating and pod.phase not in observed.ENDED_PHASES for pod in pods
        ),
    }


def _queue(load: demand.Demand) -> dict[str, Any]:
    queue: dict[str, Any] = {
        "pending": load.pending,
        "delayed": load.delayed,
        "inFlight": load.in_flight,
        "waiters": load.waiters,
        "deadLettered": load.dead_lettered,
    }
    if load.oldest_pending_time is not None:
        queue["oldestPendingTime"] = observed.time_text(load.oldest_pending_time)
    return queue


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """A JSON merge patch (RFC 7386) from one object to another; None = they are the same."""
    patch: dict[str, Any] = {}
    for key in before.keys() - after.keys():
        patch[key] = None
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = merge_patch(old, value)
            if inner is not None:
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch or None


def is_urgent(patch: Mapping[str, Any]) -> bool:
    """The patch must not wait."""
    return any(key in patch for key in URGENT)
