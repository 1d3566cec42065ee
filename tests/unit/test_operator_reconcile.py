"""One reconcile: everything known in, the next steps out."""

import dataclasses
from typing import Any

from penstock_operator import (
    actions,
    demand,
    memory,
    observed,
    reconcile,
    resources,
    sections,
    spec,
)

NOW = 1_000_000.0
IDLE_SECONDS = 5
State = demand.WorkerState


def pool(**scaling: Any) -> spec.WorkerPoolSpec:
    limits = {"min_replicas": 1, "max_replicas": 6, "idle_timeout_seconds": IDLE_SECONDS}
    return spec.WorkerPoolSpec(
        namespace="default",
        name="p",
        uid="u",
        generation=1,
        template={},
        scaling=sections.Scaling(**{**limits, **scaling}),
    )


POOL = pool()
REVISION = resources.revision_hash(POOL)
NAME = resources.deployment_name(POOL)


def deployment(replicas: int, **changes: Any) -> observed.Deployment:
    one = observed.Deployment(
        name=NAME,
        uid="d",
        resource_version="7",
        revision=REVISION,
        replicas=replicas,
        pods=replicas,
    )
    return dataclasses.replace(one, **changes)


def pods(count: int, **changes: Any) -> tuple[observed.Pod, ...]:
    one = observed.Pod(
        name="",
        uid="",
        revision=REVISION,
        created=NOW - 100,
        phase="Running",
        ready=True,
        containers=(observed.Container(name="worker", running=True),),
    )
    return tuple(
        dataclasses.replace(one, name=f"pod-{n}", uid=f"uid-{n}", **changes) for n in range(count)
    )


def load(count: int, *, runnable: int = 0, busy: int = 0, **states: State) -> demand.Demand:
    """`count` workers, the first `busy` of them with a task; `uid_N=state` for others."""
    workers = {}
    for n in range(count):
        state = states.get(f"uid_{n}", State.BUSY if n < busy else State.READY)
        workers[f"uid-{n}"] = demand.Worker(
            pod_name=f"pod-{n}",
            pod_uid=f"uid-{n}",
            state=state,
            slots_used=int(n < busy),
            revision=REVISION,
            idle_since=None if n < busy else NOW - 100,
            reservation_id="r" if state in (State.DRAINING, State.DRAINED) else "",
        )
    return demand.Demand(generation=1, runnable_slots=runnable, slots_in_use=busy, workers=workers)


def plan(**seen: Any) -> reconcile.Plan:
    known: dict[str, Any] = {
        "pool": POOL,
        "deployments": (),
        "pods": (),
        "demand": None,
        "memory": memory.Memory(),
        "now": NOW,
    }
    return reconcile.plan(reconcile.Observation(**{**known, **seen}))


def test_a_new_pool_starts_with_its_minimum_whether_demand_is_known_or_not() -> None:
    for known in (None, load(0)):
        (step,) = plan(demand=known).actions
        assert isinstance(step, actions.CreateDeployment)
        assert (step.name, step.replicas) == (NAME, 1)


def test_growth_is_one_patch_to_the_target_that_says_why() -> None:
    (step,) = plan(
        deployments=(deployment(1),), pods=pods(1), demand=load(1, runnable=9, busy=1)
    ).actions
    assert isinstance(step, actions.ScaleDeployment)
    assert (step.replicas, step.resource_version, step.reason) == (6, "7", "Demand")
    assert step.message == "9 runnable + 1 running over 1 slot = 10, at most 6"


def test_pods_on_their_way_count_as_capacity() -> None:
    starting = (*pods(1), *pods(4, phase="Pending", ready=False, containers=())[1:])
    decided = plan(deployments=(deployment(4),), pods=starting, demand=load(1, runnable=1, busy=1))
    assert decided.actions == ()


def test_unknown_demand_holds_the_fleet() -> None:
    decided = plan(deployments=(deployment(4),), pods=pods(4))
    assert decided.actions == ()
    assert decided.decision.reason.value == "DemandUnknown"


def test_phase_one_asks_the_dispatcher_for_idle_workers() -> None:
    (step,) = plan(deployments=(deployment(4),), pods=pods(4), demand=load(4, busy=2)).actions
    assert isinstance(step, actions.ReserveWorkers)
    assert (step.count, step.idle_only, step.idle_for_seconds) == (2, True, IDLE_SECONDS)


def test_phase_two_marks_who_has_drained_and_removes_nobody_yet() -> None:
    known = load(4, busy=2, uid_3=State.DRAINED, uid_2=State.DRAINING)
    (step,) = plan(deployments=(deployment(4),), pods=pods(4), demand=known).actions
    assert step == actions.MarkPods(names=("pod-3",))


def test_phase_three_waits_until_only_the_marked_pod_can_be_chosen() -> None:
    known = load(4, busy=3, uid_3=State.DRAINED)
    marked = list(pods(4))
    marked[3] = dataclasses.replace(marked[3], deletion_cost=observed.LOWEST_DELETION_COST)
    waits = plan(deployments=(deployment(4),), pods=tuple(marked), demand=known)
    assert (waits.actions, waits.waiting) == ((), "drained pod pod-3 is still ready")
    assert waits.recheck_after_seconds is not None
    marked[3] = dataclasses.replace(marked[3], ready=False)
    (step,) = plan(deployments=(deployment(4),), pods=tuple(marked), demand=known).actions
    assert isinstance(step, actions.RemovePods)
    assert step.drained == {"uid-3"}
    assert step.message.startswith("idle for 5 s and drained; now ")
    # Somebody else is not ready either: the controller could choose it.
    marked[0] = dataclasses.replace(marked[0], ready=False)
    waits = plan(deployments=(deployment(4),), pods=tuple(marked), demand=known)
    assert waits.waiting == "pod pod-0 is not ready yet"


def test_returning_demand_takes_back_reserved_workers_before_it_asks_for_new_ones() -> None:
    known = load(3, runnable=3, busy=1, uid_2=State.DRAINING)
    steps = plan(deployments=(deployment(3),), pods=pods(3), demand=known).actions
    assert steps[0] == actions.ReleaseWorkers(reservation_id="r", pod_uids=("uid-2",))
    (raised,) = steps[1:]
    assert isinstance(raised, actions.ScaleDeployment)
    assert raised.replicas == 4


def test_replicas_are_not_raised_while_their_controller_still_has_pods_to_remove() -> None:
    known = load(3, runnable=9, busy=2, uid_2=State.DRAINED)
    marked = pods(3)
    decided = plan(deployments=(deployment(2, pods=3),), pods=marked, demand=known)
    assert not any(isinstance(step, actions.ScaleDeployment) for step in decided.actions)


def test_a_changed_template_grows_beside_the_old_revision_and_drains_it_busy_or_not() -> None:
    changed = dataclasses.replace(POOL, template={"metadata": {"labels": {"a": "b"}}})
    known = load(4, busy=4)
    (first,) = plan(pool=changed, deployments=(deployment(4),), pods=pods(4), demand=known).actions
    assert isinstance(first, actions.CreateDeployment)
    assert (first.replicas, first.reason) == (1, "Rollout")
    new = resources.deployment_name(changed)
    there = deployment(1, name=new, uid="n", revision=resources.revision_hash(changed))
    ready = dataclasses.replace(
        pods(5)[4], revision=resources.revision_hash(changed), name="new", uid="new"
    )
    seen = {"pool": changed, "deployments": (deployment(4), there), "pods": (*pods(4), ready)}
    # It is ready, but does not connect: no old one leaves for it.
    assert not reserved(plan(**seen, demand=known))
    came = dataclasses.replace(known.workers["uid-0"], pod_name="new", pod_uid="new")
    known = dataclasses.replace(known, workers={**known.workers, "new": came})
    (reserve,) = reserved(plan(**seen, demand=known))
    assert (reserve.count, reserve.idle_only, reserve.revision) == (1, False, REVISION)


def test_another_address_rolls_the_pool() -> None:
    there = deployment(1, address="old:1")
    (first,) = plan(deployments=(there,), pods=pods(1), demand=load(1), address="new:1").actions
    assert isinstance(first, actions.CreateDeployment)
    assert (first.name, first.reason) == (f"p-{first.revision}", "Rollout")
    assert first.revision not in ("", REVISION)
    same = plan(deployments=(there,), pods=pods(1), demand=load(1), address="old:1")
    assert same.actions == ()


def reserved(planned: reconcile.Plan) -> list[actions.ReserveWorkers]:
    return [step for step in planned.actions if isinstance(step, actions.ReserveWorkers)]


def test_an_old_revision_without_pods_is_deleted() -> None:
    old = deployment(0, name="p-old", uid="old", revision="old")
    steps = plan(deployments=(deployment(1), old), pods=pods(1), demand=load(1)).actions
    assert steps == (actions.DeleteDeployment(name="p-old", uid="old", resource_version="7"),)


def test_a_worker_whose_container_has_ended_is_reported_once() -> None:
    ended = observed.Container(name="worker", restarts=2, ended_reason="OOMKilled")
    dead = pods(1, ready=False, containers=(ended,))
    known = load(1, uid_0=State.LOST)
    (step,) = plan(deployments=(deployment(1),), pods=dead, demand=known).actions
    assert isinstance(step, actions.ReportGone)
    assert (step.pod_uid, step.reason) == ("uid-0", "OOMKilled")
    remembered = memory.Memory().after_report("uid-0", restarts=2)
    again = plan(deployments=(deployment(1),), pods=dead, demand=known, memory=remembered)
    assert again.actions == ()


def test_what_frees_tasks_comes_first_and_a_pod_that_lives_is_left_in_peace() -> None:
    known = load(2, runnable=9, busy=2, uid_1=State.LOST)
    lost = dataclasses.replace(known.workers["uid-1"], pod_name=f"{NAME}-x", revision=REVISION)
    known = dataclasses.replace(known, workers={**known.workers, "uid-1": lost})
    first, *others = plan(deployments=(deployment(1),), pods=pods(1), demand=known).actions
    assert isinstance(first, actions.ReportGone)
    assert (first.absent, first.pod_uid) == (True, "uid-1")
    assert others
    found = memory.Memory().after_found("uid-1", now=NOW)
    seen = plan(deployments=(deployment(1),), pods=pods(1), demand=known, memory=found)
    assert not any(isinstance(step, actions.ReportGone) for step in seen.actions)


def test_a_deployment_that_somebody_deletes_is_awaited() -> None:
    decided = plan(deployments=(deployment(2, deleting=True),), pods=pods(2), demand=load(2))
    assert not any(isinstance(step, actions.CreateDeployment) for step in decided.actions)
