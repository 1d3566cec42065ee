"""A WorkerPool object as the API server has it: read, or refused by name; never an exception."""

import copy
from typing import Any

import pytest

from penstock_operator import fields, spec, template

GOOD: dict[str, Any] = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "WorkerPool",
    "metadata": {"name": "pool", "namespace": "team", "uid": "u-1", "generation": 1},
    "spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "example/worker"}]}}},
}
POLICY = template.SecurityPolicy(protected_secrets=frozenset({"penstock-auth"}))


def manifest(path: str, value: Any) -> dict[str, Any]:
    """The good one with one more field; numbers in the path are places in a list."""
    made = copy.deepcopy(GOOD)
    target: Any = made["spec"]
    *parents, last = path.split(".")
    for name in parents:
        target = target[int(name)] if name.isdecimal() else target.setdefault(name, {})
    target[last] = value
    return made


def said(document: dict[str, Any]) -> dict[str, str]:
    examined = spec.examine(document, policy=POLICY)
    assert examined.unexpected is None
    return {each.field: each.description for each in examined.violations}


WORKER = "template.spec.containers.0"
MISTYPED: dict[str, tuple[str, Any, str]] = {
    "environment as lines": (f"{WORKER}.env", ["A=B"], "spec.template.spec.containers[0].env[0]"),
    "environment as an object": (
        f"{WORKER}.env",
        {"A": "B"},
        "spec.template.spec.containers[0].env",
    ),
    "name of a variable": (
        f"{WORKER}.env",
        [{"name": ["PENSTOCK_POOL"]}],
        "spec.template.spec.containers[0].env[0].name",
    ),
    "source of a variable": (
        f"{WORKER}.env",
        [{"name": "A", "valueFrom": "x"}],
        "spec.template.spec.containers[0].env[0].valueFrom",
    ),
    "labels as a list": ("template.metadata.labels", ["a"], "spec.template.metadata.labels"),
    "label that is a number": (
        "template.metadata.labels",
        {"a": 1},
        "spec.template.metadata.labels.a",
    ),
    "annotations": ("template.metadata.annotations", "x", "spec.template.metadata.annotations"),
    "metadata as text": ("template.metadata", "x", "spec.template.metadata"),
    "container as text": ("template.spec.containers", ["x"], "spec.template.spec.containers[0]"),
    "no container at all": (
        "template.spec.initContainers",
        [None],
        "spec.template.spec.initContainers[0]",
    ),
    "container without a name": (
        "template.spec.initContainers",
        [{"image": "example/init"}],
        "spec.template.spec.initContainers[0].name",
    ),
    "security as a list": (
        f"{WORKER}.securityContext",
        [],
        "spec.template.spec.containers[0].securityContext",
    ),
    "capabilities as a list": (
        f"{WORKER}.securityContext",
        {"capabilities": ["ALL"]},
        "spec.template.spec.containers[0].securityContext.capabilities",
    ),
    "ports": (f"{WORKER}.ports", [80], "spec.template.spec.containers[0].ports[0]"),
    "volumes": ("template.spec.volumes", "x", "spec.template.spec.volumes"),
    "projected sources": (
        "template.spec.volumes",
        [{"name": "v", "projected": {"sources": {}}}],
        "spec.template.spec.volumes[0].projected.sources",
    ),
    "service account": (
        "template.spec.serviceAccountName",
        {"name": "x"},
        "spec.template.spec.serviceAccountName",
    ),
    "pull secrets": (
        "template.spec.imagePullSecrets",
        ["registry"],
        "spec.template.spec.imagePullSecrets[0]",
    ),
    "size past int64": ("queue.maxPendingBytes", "99999999999Gi", "spec.queue.maxPendingBytes"),
    "size of 400 digits": ("queue.maxPendingBytes", "9" * 400, "spec.queue.maxPendingBytes"),
    "negative size": ("queue.maxPendingBytes", -1, "spec.queue.maxPendingBytes"),
}


@pytest.mark.parametrize(("path", "value", "field"), MISTYPED.values(), ids=MISTYPED)
def test_a_value_of_the_wrong_kind_is_refused_by_name(path: str, value: Any, field: str) -> None:
    assert field in said(manifest(path, value))


def test_how_many_may_wait_for_room_and_how_long() -> None:
    unsaid = spec.pool_config(spec.parse_manifest(GOOD))
    assert (unsaid.max_waiters, unsaid.max_wait.seconds) == (1000, 30)
    queue = {"maxWaiters": 7, "maxWaitSeconds": 3600}
    said_so = spec.pool_config(spec.parse_manifest(manifest("queue", queue)))
    assert (said_so.max_waiters, said_so.max_wait.seconds) == (7, 3600)
    for path, value in (("maxWaiters", 0), ("maxWaiters", 10_001), ("maxWaitSeconds", 0)):
        assert f"spec.queue.{path}" in said(manifest("queue", {path: value}))


def test_keys_and_their_shares_reach_the_dispatcher() -> None:
    unsaid = spec.pool_config(spec.parse_manifest(GOOD))
    assert (unsaid.fair, dict(unsaid.fairness_weights), unsaid.max_pending_per_key) == (
        False,
        {},
        0,
    )
    assert unsaid.priority_aging.seconds == 0
    assert not unsaid.HasField("rate_limit_per_key")
    assert unsaid.max_in_flight_per_key == 0
    assert unsaid.slots_per_worker == 1
    document = manifest("slotsPerWorker", 8)
    document["spec"]["queue"] = {
        "maxPendingPerKey": 7,
        "fairness": {"policy": "WeightedRoundRobin", "weights": {"gold": 3, "silver": 2}},
    }
    document["spec"]["rateLimit"] = {
        "perKeyTasks": 4,
        "perKeyBurst": 2,
        "periodSeconds": 60,
        "maxInFlightPerKey": 1,
    }
    document["spec"]["delivery"] = {"nonRetryableReasons": ["ValueError", "NO_SUCH_FILE"]}
    config = spec.pool_config(spec.parse_manifest(document))
    assert config.slots_per_worker == 8
    assert config.max_pending_per_key == 7
    assert config.fair
    assert dict(config.fairness_weights) == {"gold": 3, "silver": 2}
    limit = config.rate_limit_per_key
    assert (limit.tasks, limit.burst, limit.period.seconds) == (4, 2, 60)
    assert not config.HasField("rate_limit"), "a limit of each key is none of the pool"
    assert config.max_in_flight_per_key == 1
    assert list(config.retry_policy.non_retryable_reasons) == ["ValueError", "NO_SUCH_FILE"]


def test_aging_reaches_the_dispatcher_and_not_together_with_fairness() -> None:
    aged = spec.parse_manifest(manifest("queue", {"priorityAgingSeconds": 60}))
    assert spec.pool_config(aged).priority_aging.seconds == 60
    fair = {"policy": "WeightedRoundRobin"}
    both = said(manifest("queue", {"priorityAgingSeconds": 60, "fairness": fair}))
    assert list(both) == ["spec.queue.priorityAgingSeconds"]
    assert "spec.queue.fairness.policy" in both["spec.queue.priorityAgingSeconds"]


LIMITS: dict[str, tuple[dict[str, int], str]] = {
    "a rate of each key, without its period": ({"perKeyTasks": 1}, "spec.rateLimit.periodSeconds"),
    "a period of nothing": ({"periodSeconds": 1, "maxInFlight": 1}, "spec.rateLimit.tasks"),
    "a burst of each key, without its rate": (
        {"tasks": 1, "periodSeconds": 1, "perKeyBurst": 1},
        "spec.rateLimit.perKeyBurst",
    ),
    "the pool's burst with a rate of each key": (
        {"perKeyTasks": 1, "periodSeconds": 1, "burst": 1},
        "spec.rateLimit.burst",
    ),
}


@pytest.mark.parametrize(("limit", "field"), LIMITS.values(), ids=LIMITS)
def test_what_a_rate_limit_cannot_do_without(limit: dict[str, int], field: str) -> None:
    assert list(said(manifest("rateLimit", limit))) == [field]


def test_weights_need_the_policy() -> None:
    refused = said(manifest("queue.fairness", {"weights": {"a": 2}}))
    assert "WeightedRoundRobin" in refused["spec.queue.fairness.weights"]


def test_null_counts_as_absent() -> None:
    for path in ("template.metadata", "template.spec.volumes", f"{WORKER}.env"):
        assert said(manifest(path, None)) == {}


def test_what_no_check_foresees_is_a_violation_too() -> None:
    class Odd(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise RuntimeError("odd")

    examined = spec.examine({**GOOD, "spec": Odd()})
    assert isinstance(examined.unexpected, RuntimeError)
    (violation,) = examined.violations
    assert violation.field == "spec"
    assert "odd" in violation.description


def test_a_readiness_probe_on_the_worker_is_the_operators() -> None:
    probe = {"exec": {"command": ["true"]}}
    refused = said(manifest(f"{WORKER}.readinessProbe", probe))
    (field,) = refused
    assert field == "spec.template.spec.containers[worker].readinessProbe"
    assert "livenessProbe" in refused[field]
    side = {"name": "side", "image": "example/side", "readinessProbe": probe}
    both = [*GOOD["spec"]["template"]["spec"]["containers"], side]
    assert said(manifest("template.spec.containers", both)) == {}


def test_a_file_with_keys_that_are_not_text_is_refused() -> None:
    with pytest.raises(fields.InvalidManifest, match="put it into quotes"):
        spec.parse_manifest(manifest("template.metadata.labels", {1: "x"}))
