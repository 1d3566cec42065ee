"""One holistic reconcile: everything that is known about a pool in, everything to be done about it
out.

`plan` is called again after every action it asked for, with what the action taught us, until it
asks for nothing; so an action here is always the next step, never a script. That is also what
makes an interruption at any point harmless: nothing is remembered that is not in Kubernetes or at
the dispatcher, but for `Memory`, which only bridges the moment until an answer shows up there,
and may be lost.

The three phases of a scale-down as seen from here:
1. `ReserveWorkers`: the dispatcher chooses idle workers and stops giving them work; `ShutOut`:
   it never will give any to pods of an old revision that it does not know;
2. a worker that shows up as drained gets the lowest deletion cost (`MarkPods`), and fails its
   readiness probe;
3. `RemovePods` lowers replicas by the drained pods, after a LIST made for the purpose. A
   reservation that is not confirmed yet is taken back (`ReleaseWorkers`) when demand returns
   before new pods are asked for. While demand is unknown nothing shrinks.

Pure. Times are float seconds since the epoch.
"""

import dataclasses
from collections.abc import Iterable
from typing import Final

from penstock_operator import (
    actions,
    demand,
    fleet,
    memory,
    observed,
    removal,
    resources,
    rollout,
    scaling,
    sections,
    spec,
)

REMOVAL_RECHECK_SECONDS: Final = 5.0
"""A drained pod that cannot be removed yet is looked at again after this, should no event come."""
ENDED: Final = -1
"""In place of a number of restarts: the pod itself has ended."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """All there is to know. `demand` None = it is unknown; `known_seconds`: for how long it has
    been known without a gap.
    """

    pool: spec.WorkerPoolSpec
    deployments: tuple[observed.Deployment, ...]
    pods: tuple[observed.Pod, ...]
    demand: demand.Demand | None
    known_seconds: float = 0.0
    memory: memory.Memory
    address: str = ""
    """That workers should connect to; empty = any will do."""
    now: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do next, and the picture that it was decided on."""

    actions: tuple[actions.Action, ...]
    decision: scaling.ScaleDecision
    fleet: fleet.Fleet
    wanted: int
    """Workers that the pool is heading for; a rollout's surge is not part of it."""
    rolling: bool
    waiting: str
    """What the removal of drained pods waits for; empty = nothing to remove, or nothing in the way.
    """
    recheck_after_seconds: float | None


def plan(seen: Observation) -> Plan:
    """The next steps for a pool."""
    pool = seen.pool
    workers = seen.demand.workers if seen.demand is not None else {}
    revision = resources.current_revision(pool, deployments=seen.deployments, address=seen.address)
    crew = fleet.build(
        revision=revision,
        worker_container=pool.worker_container,
        startup_timeout_seconds=pool.scaling.startup_timeout_seconds,
        deployments=seen.deployments,
        pods=seen.pods,
        workers=workers,
        reserved=frozenset(seen.memory.reserved),
        released=frozenset(seen.memory.released),
        absence_tells=seen.demand is not None and seen.known_seconds > _unknown_seconds_max(pool),
        now=seen.now,
    )
    rolling = any(revision.staying for revision in crew.old)
    decision = scaling.decide(
        pool,
        load=_load(seen, crew),
        fleet=scaling.Fleet(
            current=crew.staying,
            ready=sum(revision.ready for revision in crew.revisions),
            starting=sum(revision.starting for revision in crew.revisions),
            expendable=0 if rolling else len(crew.current.expendable),
            held=seen.memory.held if rolling else None,
            exists=crew.exists,
        ),
        now=seen.now,
    )
    wanted = decision.target if rolling else decision.desired
    name = resources.deployment_name(pool, revision=revision)
    if any(each.deleting and each.name == name for each in seen.deployments):
        steps: list[actions.Action] = []  # somebody deleted it: its name is taken until it is gone
    elif rolling:
        steps = list(_roll(seen, crew, decision, wanted=wanted))
    elif crew.current.deployment is None:
        room = max(0, pool.scaling.max_replicas - crew.replicas)
        steps = [
            actions.CreateDeployment(
                name=name,
                revision=revision,
                replicas=min(decision.desired, room),
                reason=decision.reason.value,
                message=decision.message,
            )
        ]
    elif decision.desired > decision.current:
        steps = list(_grow(seen, crew, decision))
    elif decision.desired < decision.current:
        steps = list(_shrink(seen, crew, decision))
    else:
        steps = []
    if pool.scaling.mode is sections.Mode.EXTERNAL and pool.replicas is None:
        steps.append(actions.WriteReplicas(replicas=decision.desired))
    waiting = ""
    if seen.demand is not None:
        foreign = frozenset[str]().union(*(revision.strangers for revision in crew.old))
        foreign -= seen.memory.shut_out
        if foreign and seen.memory.reserve_after <= seen.now:
            steps.append(actions.ShutOut(pod_uids=tuple(sorted(foreign))))
        removals, waiting = removal.steps(
            crew,
            decision,
            shut_out=seen.memory.shut_out,
            rolling=rolling,
            workers=seen.demand.workers,
            worker_container=pool.worker_container,
            idle_timeout_seconds=pool.scaling.idle_timeout_seconds,
            now=seen.now,
        )
        steps += removals
    steps += [
        actions.DeleteDeployment(
            name=revision.deployment.name,
            uid=revision.deployment.uid,
            resource_version=revision.deployment.resource_version,
        )
        for revision in crew.old
        if revision.deployment is not None and revision.empty
    ]
    return Plan(
        # First what frees tasks: it must not wait for what Kubernetes may refuse.
        actions=(*_gone(seen), *steps),
        decision=decision,
        fleet=crew,
        wanted=wanted,
        rolling=rolling,
        waiting=waiting,
        recheck_after_seconds=_recheck(seen, crew, decision, waiting=waiting),
    )


def _unknown_seconds_max(pool: spec.WorkerPoolSpec) -> float:
    """For how long a worker that the dispatcher does not know may hold a lease nevertheless."""
    return pool.delivery.lease_seconds + pool.delivery.reconnect_grace_seconds


def _load(seen: Observation, crew: fleet.Fleet) -> scaling.Load | None:
    """The load that workers who stay have to carry."""
    load = seen.demand
    if load is None:
        return None
    going = frozenset[str]().union(*(revision.leaving for revision in crew.revisions))
    going |= {pod.uid for pod in seen.pods if not pod.active}
    staying = {pod.uid for revision in crew.revisions for pod in revision.pods} - going
    carried = sum(load.workers[uid].slots_used for uid in going if _runs(load.workers.get(uid)))
    return scaling.Load(
        runnable_slots=load.runnable_slots,
        slots_in_use=max(0, load.slots_in_use - carried),
        mean_execution_seconds=load.mean_execution_seconds,
        tokens=load.tokens,
        slots_per_task=load.slots_per_task,
        idle_since=tuple(
            worker.idle_since
            for uid, worker in load.workers.items()
            if uid in staying
            and worker.state is demand.WorkerState.READY
            and worker.idle_since is not None
        ),
    )


def _runs(worker: demand.Worker | None) -> bool:
    return worker is not None and worker.connected


def _raise(
    crew: fleet.Fleet, decision: scaling.ScaleDecision, *, by: int, reason: str, message: str
) -> actions.ScaleDeployment:
    deployment = crew.current.deployment
    assert deployment is not None, "only a Deployment that exists is raised"
    return actions.ScaleDeployment(
        name=deployment.name,
        resource_version=deployment.resource_version,
        current=deployment.replicas,
        replicas=deployment.replicas + by,
        pool_from=decision.current,
        pool_to=decision.desired,
        reason=reason,
        message=message,
    )


def _grow(
    seen: Observation, crew: fleet.Fleet, decision: scaling.ScaleDecision
) -> Iterable[actions.Action]:
    more = decision.desired - decision.current
    if crew.current.excess:
        # Replicas were lowered a moment ago; raised again before their controller has seen it, the
        # drained pods would stay.
        return
    if seen.demand is not None:
        for reservation_id, uids in _revocable(seen, crew).items():
            taken = uids[:more]
            if taken:
                yield actions.ReleaseWorkers(reservation_id=reservation_id, pod_uids=taken)
                more -= len(taken)
    more = min(more, seen.pool.scaling.max_replicas - crew.replicas)
    if more > 0:
        yield _raise(
            crew, decision, by=more, reason=decision.reason.value, message=decision.message
        )


def _revocable(seen: Observation, crew: fleet.Fleet) -> dict[str, tuple[str, ...]]:
    """Reserved and not confirmed, by reservation."""
    workers = seen.demand.workers if seen.demand is not None else {}
    found: dict[str, tuple[str, ...]] = {}
    for pod in crew.current.pods:
        if pod.uid not in crew.current.leaving or pod.uid in crew.current.drained:
            continue
        worker = workers.get(pod.uid)
        reservation_id = worker.reservation_id if worker is not None else ""
        if not reservation_id and pod.uid in seen.memory.reserved:
            reservation_id = seen.memory.reserved[pod.uid].reservation_id
        if reservation_id:
            found[reservation_id] = (*found.get(reservation_id, ()), pod.uid)
    return found


def _shrink(
    seen: Observation, crew: fleet.Fleet, decision: scaling.ScaleDecision
) -> Iterable[actions.Action]:
    less = decision.current - decision.desired
    deployment = crew.current.deployment
    assert deployment is not None, "a fleet that can shrink has a Deployment"
    if deployment.create_failure and crew.current.missing:
        # Never created: nothing to drain.
        never = min(less, crew.current.missing)
        yield actions.ScaleDeployment(
            name=deployment.name,
            resource_version=deployment.resource_version,
            current=deployment.replicas,
            replicas=deployment.replicas - never,
            pool_from=decision.current,
            pool_to=decision.current - never,
            reason=decision.reason.value,
            message=f"{decision.message}; {never} could not be created",
        )
        return
    less -= len(crew.current.expendable)
    if less > 0 and seen.demand is not None and seen.memory.reserve_after <= seen.now:
        yield actions.ReserveWorkers(
            count=less,
            idle_only=not decision.busy_may_go,
            idle_for_seconds=(
                0 if decision.busy_may_go else seen.pool.scaling.idle_timeout_seconds
            ),
            revision="",
            message=decision.message,
        )


def _roll(
    seen: Observation, crew: fleet.Fleet, decision: scaling.ScaleDecision, *, wanted: int
) -> Iterable[actions.Action]:
    pool = seen.pool
    maximum = pool.scaling.max_replicas
    known = seen.demand is not None
    move = rollout.step(crew, wanted=wanted, maximum=maximum)
    text = f"rollout to revision {crew.current.hash}: {wanted} workers wanted"
    if crew.current.deployment is None:
        yield actions.CreateDeployment(
            name=resources.deployment_name(pool, revision=crew.current.hash),
            revision=crew.current.hash,
            replicas=move.grow if known else min(move.grow, pool.scaling.min_replicas),
            reason="Rollout",
            message=text,
        )
        return
    if not known:
        return  # nothing old can be drained; and a fleet is not doubled in the dark
    if move.grow and not crew.current.excess:
        yield _raise(crew, decision, by=move.grow, reason="Rollout", message=text)
    if seen.memory.reserve_after <= seen.now:
        for revision, count in move.drain:
            yield actions.ReserveWorkers(
                count=count, idle_only=False, idle_for_seconds=0, revision=revision, message=text
            )


def _gone(seen: Observation) -> Iterable[actions.Action]:
    """Worker processes that have ended: their leases need not run out.

    Either the pod goes on (its container is being restarted), or it is not in the picture: its end
    was missed, or the picture is behind. A worker that is no pod of ours at all is none of our
    business.
    """
    if seen.demand is None:
        return
    pods = {pod.uid: pod for pod in seen.pods}
    for uid, worker in seen.demand.workers.items():
        absent = uid not in pods
        if not absent:
            container = pods[uid].container(seen.pool.worker_container)
            if worker.state is not demand.WorkerState.LOST or container is None:
                continue
            if container.running or not container.ended_reason:
                continue
            restarts, reason = container.restarts, container.ended_reason
            exit_code = container.ended_exit_code
        elif _was_ours(seen.pool, worker) and seen.memory.alive.get(uid, 0.0) <= seen.now:
            restarts, reason, exit_code = ENDED, "Deleted", 0
        else:
            continue
        if (uid, restarts) not in seen.memory.reported:
            yield actions.ReportGone(
                absent=absent,
                pod_name=worker.pod_name,
                pod_uid=uid,
                restarts=restarts,
                reason=reason,
                exit_code=exit_code,
            )


def _was_ours(pool: spec.WorkerPoolSpec, worker: demand.Worker) -> bool:
    away = worker.state in (demand.WorkerState.LOST, demand.WorkerState.DRAINED)
    return (
        away
        and bool(worker.revision)
        and worker.pod_name.startswith(f"{pool.name}-{worker.revision}-")
    )


def _recheck(
    seen: Observation, crew: fleet.Fleet, decision: scaling.ScaleDecision, *, waiting: str
) -> float | None:
    due = [
        decision.recheck_after_seconds,
        crew.next_timeout - seen.now if crew.next_timeout is not None else None,
        seen.memory.reserve_after - seen.now if seen.memory.reserve_after > seen.now else None,
        REMOVAL_RECHECK_SECONDS if waiting or crew.current.excess else None,
    ]
    return min((max(0.0, each) for each in due if each is not None), default=None)
