"""A rollout gets rid of old pods that never become ready, or that never connect; and of no busy
one.
"""

import dataclasses
from typing import Any

import pytest

from penstock_operator import (
    actions,
    demand,
    memory,
    observed,
    reconcile,
    removal,
    resources,
    sections,
    spec,
)

NOW = 1_000_000.0
COUNT = 4
State = demand.WorkerState
POOL = spec.WorkerPoolSpec(
    namespace="default",
    name="p",
    uid="u",
    generation=2,
    template={"metadata": {"labels": {"edition": "new"}}},
    scaling=sections.Scaling(min_replicas=COUNT, max_replicas=COUNT),
)
OLD = "old"
NAME = f"p-{OLD}"
WORKER = observed.Container(name="worker", running=True, started=NOW - 600)
LONG = 3600.0
"""Seconds for which demand has been known."""


def pods(count: int = COUNT, **changes: Any) -> tuple[observed.Pod, ...]:
    one = observed.Pod(
        name="",
        uid="",
        revision=OLD,
        created=NOW - 600,
        phase="Running",
        ready=True,
        containers=(WORKER,),
    )
    return tuple(
        dataclasses.replace(one, name=f"pod-{n}", uid=f"uid-{n}", **changes) for n in range(count)
    )


def load(*states: State) -> demand.Demand:
    workers = {
        f"uid-{n}": demand.Worker(
            pod_name=f"pod-{n}",
            pod_uid=f"uid-{n}",
            state=state,
            slots_used=int(state is State.BUSY),
            revision=OLD,
            reservation_id="r" if state is State.DRAINED else "",
        )
        for n, state in enumerate(states)
    }
    busy = sum(state is State.BUSY for state in states)
    return demand.Demand(generation=1, slots_in_use=busy, workers=workers)


def plan(
    old: tuple[observed.Pod, ...],
    known: demand.Demand | None,
    *,
    remembered: memory.Memory | None = None,
    known_seconds: float = LONG,
) -> reconcile.Plan:
    deployments = (
        observed.Deployment(
            name=NAME, uid="o", resource_version="7", revision=OLD, replicas=len(old), pods=len(old)
        ),
        observed.Deployment(
            name=resources.deployment_name(POOL),
            uid="n",
            resource_version="8",
            revision=resources.revision_hash(POOL),
            replicas=0,
        ),
    )
    return reconcile.plan(
        reconcile.Observation(
            pool=POOL,
            deployments=deployments,
            pods=old,
            demand=known,
            known_seconds=known_seconds,
            memory=remembered or memory.Memory(),
            now=NOW,
        )
    )


def test_workers_in_pods_that_are_not_ready_are_drained_one_surge_at_a_time() -> None:
    (step,) = plan(pods(ready=False), load(*[State.BUSY] * COUNT)).actions
    assert isinstance(step, actions.ReserveWorkers)
    assert (step.count, step.revision, step.idle_only) == (1, OLD, False)


def marked(pod: observed.Pod, **changes: Any) -> observed.Pod:
    cost = observed.LOWEST_DELETION_COST
    return dataclasses.replace(pod, deletion_cost=cost, **changes)


def test_a_drained_pod_goes_before_busy_ones_that_are_not_ready_either() -> None:
    first, *others = pods(ready=False)
    known = load(State.DRAINED, *[State.BUSY] * (COUNT - 1))
    (step,) = plan((marked(first), *others), known).actions
    assert isinstance(step, actions.RemovePods)
    assert (step.drained, step.old) == ({"uid-0"}, True)


@pytest.mark.parametrize(
    "container",
    [
        dataclasses.replace(WORKER, ready=True),
        dataclasses.replace(WORKER, started=NOW - 1),
        dataclasses.replace(WORKER, running=False),
    ],
    ids=["ready but for another container", "just restarted", "being restarted"],
)
def test_but_not_while_it_could_become_ready(container: observed.Container) -> None:
    first, *others = pods(ready=False)
    known = load(State.DRAINED, *[State.BUSY] * (COUNT - 1))
    planned = plan((marked(first, containers=(container,)), *others), known)
    assert planned.actions == ()
    assert planned.waiting == "pod pod-3 is not ready yet"


def test_and_not_in_the_current_revision() -> None:
    first, *others = pods(ready=False)
    wanted = actions.RemovePods(
        name=NAME,
        drained=frozenset({"uid-0"}),
        expendable=frozenset(),
        expendable_count=0,
        strangers=frozenset(),
        old=False,
        pool_from=COUNT,
        reason="Idle",
        message="",
    )
    verdict = removal.confirm(
        wanted,
        replicas=COUNT,
        pods=(marked(first), *others),
        workers={},
        worker_container="worker",
        now=NOW,
    )
    assert (verdict.count, verdict.waiting) == (0, "pod pod-3 is not ready yet")


def test_pods_that_never_connect_are_shut_out_marked_and_removed() -> None:
    old = pods()
    uids = tuple(pod.uid for pod in old)
    (step,) = plan(old, load()).actions
    assert step == actions.ShutOut(pod_uids=uids)
    out = memory.Memory().after_shut_out(uids, asked=COUNT, now=NOW)
    (step,) = plan(old, load(), remembered=out).actions
    assert step == actions.MarkPods(names=tuple(pod.name for pod in old))
    (step,) = plan(tuple(marked(pod) for pod in old), load(), remembered=out).actions
    assert isinstance(step, actions.RemovePods)
    assert (step.strangers, step.reason) == (frozenset(uids), "Rollout")


def confirmed(old: tuple[observed.Pod, ...], known: demand.Demand, *strangers: str) -> int:
    wanted = actions.RemovePods(
        name=NAME,
        drained=frozenset(),
        expendable=frozenset(),
        expendable_count=0,
        strangers=frozenset(strangers),
        old=True,
        pool_from=COUNT,
        reason="Rollout",
        message="",
    )
    return removal.confirm(
        wanted,
        replicas=len(old),
        pods=old,
        workers=known.workers,
        worker_container="worker",
        now=NOW,
    ).count


def test_a_ready_stranger_goes_only_if_no_busy_pod_could_be_taken_instead() -> None:
    known = load(State.BUSY, State.BUSY)
    busy, other, stranger = pods(3)
    assert confirmed((busy, other, marked(stranger)), known, "uid-2") == 1
    assert confirmed((busy, other, stranger), known, "uid-2") == 0
    unready = dataclasses.replace(busy, ready=False)
    assert confirmed((unready, other, marked(stranger)), known, "uid-2") == 0
    assert confirmed((marked(busy), other, marked(stranger)), known, "uid-2") == 0
    starting = dataclasses.replace(busy, phase="Pending", ready=False, containers=())
    assert confirmed((starting, other, marked(stranger)), known, "uid-2") == 0


def test_a_stranger_that_has_connected_meanwhile_stays() -> None:
    known = load(State.BUSY, State.BUSY, State.BUSY)
    busy, other, stranger = pods(3)
    assert confirmed((busy, other, marked(stranger)), known, "uid-2") == 0


@pytest.mark.parametrize(
    ("known", "known_seconds", "changes"),
    [
        (None, 0.0, {}),
        (load(), 60.0, {}),
        (load(), LONG, {"created": NOW - 200}),
        (load(*[State.LOST] * COUNT), LONG, {}),
    ],
    ids=["demand unknown", "known for less than lease and grace", "still starting", "only away"],
)
def test_who_may_still_hold_something_is_not_shut_out(
    known: demand.Demand | None, known_seconds: float, changes: dict[str, Any]
) -> None:
    planned = plan(pods(**changes), known, known_seconds=known_seconds)
    assert not [
        step
        for step in planned.actions
        if isinstance(step, actions.ShutOut | actions.RemovePods | actions.MarkPods)
    ]


def test_a_pod_that_the_dispatcher_would_not_shut_out_is_asked_about_again_later() -> None:
    out = memory.Memory().after_shut_out(("uid-0",), asked=COUNT, now=NOW)
    (step,) = plan(pods(), load(), remembered=out).actions
    assert step == actions.MarkPods(names=("pod-0",))
    later = dataclasses.replace(out, reserve_after=NOW)
    asked = plan(pods(), load(), remembered=later).actions[0]
    assert asked == actions.ShutOut(pod_uids=("uid-1", "uid-2", "uid-3"))
