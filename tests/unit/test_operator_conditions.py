"""What a pool's conditions say: what is so, and what to do about it."""

import dataclasses
from typing import Any

import pytest

from penstock_operator import (
    conditions,
    demand,
    fields,
    health,
    memory,
    observed,
    reconcile,
    resources,
    sections,
    spec,
)

NOW = 1_000_000.0
POOL = spec.WorkerPoolSpec(
    namespace="default",
    name="p",
    uid="u",
    generation=1,
    template={},
    scaling=sections.Scaling(min_replicas=1, max_replicas=3),
)
LINK = conditions.Link(address="dispatcher:50051")
POD = observed.Pod(
    name="pod-1",
    uid="uid-1",
    revision=resources.revision_hash(POOL),
    created=NOW - 10,
    phase="Running",
    ready=True,
    containers=(observed.Container(name="worker", running=True, image="example/worker"),),
)
LOAD = demand.Demand(generation=1)


def derived(
    pool: spec.WorkerPoolSpec = POOL,
    pods: tuple[observed.Pod, ...] = (POD,),
    load: demand.Demand | None = LOAD,
    **changes: Any,
) -> dict[str, conditions.Condition]:
    deployment = observed.Deployment(
        name=resources.deployment_name(pool),
        uid="d",
        resource_version="1",
        revision=resources.revision_hash(pool),
        replicas=1,
    )
    plan = reconcile.plan(
        reconcile.Observation(
            pool=pool,
            deployments=(deployment,),
            pods=pods,
            demand=load,
            memory=memory.Memory(),
            now=NOW,
        )
    )
    problems = health.problems(pool, deployments=(deployment,), pods=pods, workers=None, now=NOW)
    situation = conditions.Situation(
        pool=pool, plan=plan, load=load, problems=problems, link=LINK, **changes
    )
    return {each.type: each for each in conditions.derive(situation)}


def waiting(reason: str, **changes: Any) -> observed.Pod:
    container = observed.Container(
        name="worker", waiting_reason=reason, image="example/worker", **changes
    )
    return dataclasses.replace(POD, ready=False, containers=(container,))


def test_all_is_well() -> None:
    found = derived()
    assert {name for name, each in found.items() if each.status} == {
        "Ready",
        "DispatcherConnected",
        "ScalingActive",
        "AbleToScale",
        "ScalingLimited",  # nothing to do, and one worker at least
    }
    assert found["Ready"].reason == "Running"


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (waiting("ImagePullBackOff"), ["example/worker", "cannot be pulled", "imagePullSecrets"]),
        (waiting("CrashLoopBackOff", ended_exit_code=3), ["exit code 3", "kubectl logs"]),
        (waiting("CrashLoopBackOff", ended_reason="OOMKilled"), ["memory", "limits.memory"]),
        (waiting("CreateContainerConfigError"), ["Mend spec.template"]),
        (
            dataclasses.replace(
                POD, phase="Pending", ready=False, containers=(), unschedulable="no cpu"
            ),
            ["no node takes the pod", "no cpu", "lower the requests"],
        ),
        (dataclasses.replace(POD, ready=False, created=NOW - 301), ["300 s", "kubectl describe"]),
    ],
)
def test_a_pod_that_does_not_work_says_what_to_do(pod: observed.Pod, words: list[str]) -> None:
    found = derived(pods=(pod,))
    assert found["Degraded"].status is True
    assert found["Ready"].status is False
    for word in words:
        assert word in found["Degraded"].message
        assert word in found["Ready"].message


def test_a_dispatcher_that_is_down() -> None:
    link = conditions.Link(address="dispatcher:50051", down_seconds=60, problem="refused")
    situation = conditions.Situation(pool=POOL, plan=None, link=link)
    found = {each.type: each for each in conditions.derive(situation)}
    assert found["DispatcherConnected"].status is False
    for word in ("dispatcher:50051", "refused", "kubectl get pods", "fleet is held"):
        assert word in found["DispatcherConnected"].message


def test_a_moment_without_a_dispatcher_is_not_reported() -> None:
    link = conditions.Link(address="d", down_seconds=1)
    situation = conditions.Situation(pool=POOL, plan=None, link=link)
    connected = {each.type: each for each in conditions.derive(situation)}["DispatcherConnected"]
    assert connected.status is None
    before = [{"type": "DispatcherConnected", "status": "True", "lastTransitionTime": "t"}]
    merged = conditions.merge(before, [connected], generation=1, now=NOW)
    assert merged == before


def test_a_manifest_that_cannot_be_used_names_its_fields() -> None:
    wrong = (fields.Violation("spec.queue.maxPending", "must be at least 1"),)
    situation = conditions.Situation(pool=None, violations=wrong, link=LINK)
    ready = {each.type: each for each in conditions.derive(situation)}["Ready"]
    assert (ready.status, ready.reason) == (False, "InvalidSpec")
    assert "spec.queue.maxPending" in ready.message


def test_latches_limits_and_failures() -> None:
    assert derived(dataclasses.replace(POOL, suspend=True))["Ready"].reason == "Suspended"
    paused = dataclasses.replace(POOL.scaling, paused=True)
    assert derived(dataclasses.replace(POOL, scaling=paused))["ScalingActive"].reason == "Paused"
    busy = dataclasses.replace(LOAD, runnable_slots=50)
    limited = derived(load=busy)["ScalingLimited"]
    assert limited.status is True
    assert "maxReplicas" in limited.message
    failing = derived(tasks_fail=True)["TasksFailing"]
    assert "penstock list --pool default/p --state DEAD_LETTERED" in failing.message
    refused = dataclasses.replace(LOAD, config_error="rate_limit.tasks must be at least 1")
    assert derived(load=refused)["Ready"].reason == "ConfigRefused"


def test_transition_times_stay_while_nothing_turns() -> None:
    first = conditions.merge([], derived().values(), generation=1, now=NOW)
    later = conditions.merge(first, derived().values(), generation=2, now=NOW + 60)
    assert [each["lastTransitionTime"] for each in later] == [
        each["lastTransitionTime"] for each in first
    ]
    turned = conditions.merge(first, derived(pods=()).values(), generation=2, now=NOW + 60)
    moved = {
        each["type"]
        for each, old in zip(turned, first, strict=True)
        if each != old and each["lastTransitionTime"] != old["lastTransitionTime"]
    }
    assert moved == {"Ready"}
