"""What `kubectl apply` says about a WorkerPool: a refusal that names the field, or defaults.

A real API server decides; the manifests are only checked (`--dry-run=server`), no pool comes to be.
"""

import copy
import dataclasses
import json
import pathlib
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.e2e

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFINITION = ROOT / "charts" / "penstock" / "files" / "workerpools.penstock.dev.yaml"
GOOD: dict[str, Any] = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "WorkerPool",
    "metadata": {"name": "pool"},
    "spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "example/worker"}]}}},
}


@dataclasses.dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with one kubeconfig and one namespace."""

    kubeconfig: str
    namespace: str

    def __call__(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("kubectl", f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"),
                *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def apply(self, manifest: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Check a manifest as `kubectl apply` would; prints the object as JSON."""
        return self("apply", "--dry-run=server", "-o=json", "-f=-", stdin=yaml.safe_dump(manifest))


@pytest.fixture(scope="module")
def kubectl(kubeconfig: str) -> Iterator[Kubectl]:
    """A namespace of its own on a cluster that has the resource."""
    run = Kubectl(kubeconfig=str(kubeconfig), namespace=f"crd-{uuid.uuid4().hex[:8]}")
    applied = run(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=penstock-tests"),
        f"-f={DEFINITION}",
    )
    assert applied.returncode == 0, applied.stderr
    established = run(
        *("wait", "--for=condition=Established", "--timeout=30s", "crd/workerpools.penstock.dev"),
    )
    assert established.returncode == 0, established.stderr
    made = run("create", "namespace", run.namespace)
    assert made.returncode == 0, made.stderr
    yield run
    run("delete", "namespace", run.namespace, "--wait=false")


def pool(changes: dict[str, Any]) -> dict[str, Any]:
    """The good manifest with these fields, given by path."""
    manifest = copy.deepcopy(GOOD)
    for path, value in changes.items():
        target = manifest
        *parents, last = path.split(".")
        for name in parents:
            target = target.setdefault(name, {})
        target[last] = value
    return manifest


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "min above max": (
        {"spec.scaling": {"minReplicas": 5, "maxReplicas": 2}},
        ["spec.scaling.minReplicas", "lower minReplicas or raise maxReplicas"],
    ),
    "warm above max": (
        {"spec.scaling": {"warmReplicas": 5, "maxReplicas": 2}},
        ["spec.scaling.warmReplicas", "raise maxReplicas"],
    ),
    "negative bound": (
        {"spec.queue.maxPending": -5},
        ["spec.queue.maxPending", "must be at least 1"],
    ),
    "bound of zero": ({"spec.queue.maxPending": 0}, ["spec.queue.maxPending", "spec.suspend"]),
    "zero rate": (
        {"spec.rateLimit": {"tasks": 0, "periodSeconds": 1}},
        ["spec.rateLimit.tasks", "leave spec.rateLimit out for no limit"],
    ),
    "zero period": (
        {"spec.rateLimit": {"tasks": 1, "periodSeconds": 0}},
        ["spec.rateLimit.periodSeconds", "must be at least 1"],
    ),
    "rate without period": (
        {"spec.rateLimit": {"tasks": 5}},
        ["spec.rateLimit.tasks", "spec.rateLimit.periodSeconds", "together"],
    ),
    "burst without rate": (
        {"spec.rateLimit": {"burst": 5, "maxInFlight": 1}},
        ["spec.rateLimit.burst", "leave burst out"],
    ),
    "rate of a key without period": (
        {"spec.rateLimit": {"perKeyTasks": 5}},
        ["spec.rateLimit.periodSeconds", "perKeyTasks", "together"],
    ),
    "period without a rate": (
        {"spec.rateLimit": {"periodSeconds": 5, "maxInFlight": 1}},
        ["spec.rateLimit.periodSeconds", "together"],
    ),
    "burst of a key without its rate": (
        {"spec.rateLimit": {"tasks": 5, "periodSeconds": 1, "perKeyBurst": 2}},
        ["spec.rateLimit.perKeyBurst", "leave perKeyBurst out"],
    ),
    "fairness and aging": (
        {
            "spec.queue.fairness": {"policy": "WeightedRoundRobin"},
            "spec.queue.priorityAgingSeconds": 60,
        },
        ["spec.queue.priorityAgingSeconds", "spec.queue.fairness.policy", "choose one"],
    ),
    "weights without fairness": (
        {"spec.queue.fairness": {"weights": {"a": 2}}},
        ["spec.queue.fairness.weights", "set the policy"],
    ),
    "weight of zero": (
        {"spec.queue.fairness": {"policy": "WeightedRoundRobin", "weights": {"a": 0}}},
        ["spec.queue.fairness.weights", "greater than or equal to 1"],
    ),
    "key too long": (
        {"spec.queue.fairness": {"policy": "WeightedRoundRobin", "weights": {"a" * 65: 1}}},
        ["spec.queue.fairness.weights", "64 bytes"],
    ),
    "unknown policy": ({"spec.queue.fairness": {"policy": "Magic"}}, ["fairness.policy", "None"]),
    "too many reasons": (
        {"spec.delivery.nonRetryableReasons": ["x"] * 65},
        ["spec.delivery.nonRetryableReasons", "64"],
    ),
    "empty rate limit": ({"spec.rateLimit": {}}, ["spec.rateLimit is empty"]),
    "missing worker container": (
        {"spec.workerContainer": "main"},
        ["spec.workerContainer", "spec.template.spec.containers", "name the container"],
    ),
    "readiness probe on the worker": (
        {
            "spec.template": {
                "spec": {"containers": [{"name": "worker", "readinessProbe": {"exec": {}}}]}
            }
        },
        ["spec.template", "belongs to the operator", "livenessProbe"],
    ),
    "no containers": (
        {"spec.template": {"spec": {"containers": []}}},
        ["spec.template.spec.containers"],
    ),
    "no template": ({"spec": {"suspend": True}}, ["spec.template", "Required"]),
    "text for a number": (
        {"spec.queue.maxPending": "many"},
        ["spec.queue.maxPending", "must be of type integer"],
    ),
    "number for a switch": ({"spec.suspend": 3}, ["spec.suspend", "must be of type boolean"]),
    "list for an object": ({"spec.scaling": [1]}, ["spec.scaling", "must be of type object"]),
    "not a size": ({"spec.queue.maxPendingBytes": "lots"}, ["spec.queue.maxPendingBytes"]),
    "negative size": (
        {"spec.queue.maxPendingBytes": -1},
        ["spec.queue.maxPendingBytes", "greater than or equal to 1024"],
    ),
    "size past a petabyte": (
        {"spec.queue.maxPendingBytes": 2**50 + 1},
        ["spec.queue.maxPendingBytes", "less than or equal to"],
    ),
    "size of 400 digits": (
        {"spec.queue.maxPendingBytes": "9" * 400},
        ["spec.queue.maxPendingBytes", "Too long"],
    ),
    "priority past int32": (
        {"spec.queue.defaultPriority": 2**31},
        ["spec.queue.defaultPriority", "2147483647"],
    ),
    "unknown mode": ({"spec.scaling.mode": "Magic"}, ["spec.scaling.mode", "Auto"]),
    "replicas in Auto": (
        {"spec.replicas": 3},
        ["spec.replicas", "set spec.scaling.mode", "kubectl patch wpool"],
    ),
    "no replicas in Manual": (
        {"spec.scaling.mode": "Manual"},
        ["spec.replicas", "is required"],
    ),
    "replicas above max": (
        {"spec.scaling.mode": "Manual", "spec.replicas": 11},
        ["spec.replicas", "raise maxReplicas"],
    ),
    "lease too short": (
        {"spec.delivery.heartbeatSeconds": 20},
        ["spec.delivery.leaseSeconds", "raise leaseSeconds"],
    ),
    "back-off upside down": (
        {"spec.delivery.backoff.initialSeconds": 400},
        ["spec.delivery.backoff.initialSeconds", "raise maxSeconds"],
    ),
    "misspelt field": ({"spec.scaling.minReplica": 1}, ["spec.scaling.minReplica"]),
    "long name": ({"metadata.name": "a" * 41}, ["metadata.name", "40 characters"]),
    "name with a dot": ({"metadata.name": "a.b"}, ["metadata.name", "dot"]),
}


@pytest.mark.parametrize(("changes", "named"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_fields_name(
    kubectl: Kubectl, changes: dict[str, Any], named: list[str]
) -> None:
    done = kubectl.apply(pool(changes))
    assert done.returncode != 0, "accepted"
    for words in named:
        assert words in done.stderr


ACCEPTED: dict[str, dict[str, Any]] = {
    "nothing but a template": {},
    "lowest priority": {"spec.queue.defaultPriority": -(2**31)},
    "highest priority": {"spec.queue.defaultPriority": 2**31 - 1},
    "size as a number": {"spec.queue.maxPendingBytes": 1048576},
    "rate limit": {"spec.rateLimit": {"tasks": 10, "periodSeconds": 1, "burst": 3}},
    "only a rate for each key": {"spec.rateLimit": {"perKeyTasks": 2, "periodSeconds": 60}},
    "only a cap for each key": {"spec.rateLimit": {"maxInFlightPerKey": 1}},
    "fair tenants": {
        "spec.queue.fairness": {"policy": "WeightedRoundRobin", "weights": {"gold": 3}},
        "spec.queue.maxPendingPerKey": 100,
    },
    "aging": {"spec.queue.priorityAgingSeconds": 60},
    "reasons": {"spec.delivery.nonRetryableReasons": ["ValueError"]},
    "only a cap on what runs": {"spec.rateLimit": {"maxInFlight": 3}},
    "down to nothing": {"spec.scaling.minReplicas": 0},
    "manual": {"spec.scaling.mode": "Manual", "spec.replicas": 3},
    "external, with more than the maximum asked for": {
        "spec.scaling.mode": "External",
        "spec.replicas": 11,
    },
    "external, before the operator's first value": {"spec.scaling.mode": "External"},
    "another container": {
        "spec.workerContainer": "main",
        "spec.template": {"spec": {"containers": [{"name": "side"}, {"name": "main"}]}},
    },
    "readiness probe beside the worker": {
        "spec.template": {
            "spec": {
                "containers": [
                    {"name": "worker"},
                    {"name": "side", "readinessProbe": {"tcpSocket": {"port": 1}}},
                ]
            }
        },
    },
    "name of 40 characters": {"metadata.name": "a" * 40},
}


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(kubectl: Kubectl, changes: dict[str, Any]) -> None:
    done = kubectl.apply(pool(changes))
    assert done.returncode == 0, done.stderr


def test_defaults_are_filled_in(kubectl: Kubectl) -> None:
    done = kubectl.apply(pool({"spec.scaling": {"maxReplicas": 4}}))
    assert done.returncode == 0, done.stderr
    spec = json.loads(done.stdout)["spec"]
    assert spec["suspend"] is False
    assert spec["workerContainer"] == "worker"
    assert spec["slotsPerWorker"] == 1
    assert spec["drain"] == {"timeoutSeconds": 600}
    assert spec["scaling"] == {
        "mode": "Auto",
        "paused": False,
        "minReplicas": 1,
        "maxReplicas": 4,
        "warmReplicas": 0,
        "utilizationThresholdPercentage": 80,
        "rateLimitAware": True,
        "startupTimeoutSeconds": 300,
        "scaleDown": {"idleTimeoutSeconds": 60},
    }
    assert spec["queue"]["maxPending"] == 10_000
    assert spec["queue"]["maxPendingBytes"] == "256Mi"
    assert spec["queue"]["fairness"] == {"policy": "None"}
    assert spec["queue"]["priorityAgingSeconds"] == 0
    assert spec["delivery"]["leaseSeconds"] == 30
    assert spec["delivery"]["backoff"]["multiplierPercent"] == 200
    assert spec["delivery"]["deadLetter"] == {"maxTasks": 10_000, "retentionSeconds": 604_800}
    assert "rateLimit" not in spec
    assert "replicas" not in spec


def test_what_the_api_server_filled_in_is_accepted_again(kubectl: Kubectl) -> None:
    first = kubectl.apply(pool({}))
    assert first.returncode == 0, first.stderr
    again = json.loads(first.stdout)
    again["metadata"] = {"name": "pool"}
    done = kubectl.apply(again)
    assert done.returncode == 0, done.stderr


def test_examples_are_accepted(kubectl: Kubectl) -> None:
    manifests = sorted(ROOT.glob("examples/*/workerpool.yaml"))
    assert manifests
    for manifest in manifests:
        done = kubectl("apply", "--dry-run=server", f"-f={manifest}")
        assert done.returncode == 0, done.stderr


def test_kubectl_explains_every_section(kubectl: Kubectl) -> None:
    done = kubectl("explain", "wpool.spec.scaling")
    assert done.returncode == 0, done.stderr
    assert "utilizationThresholdPercentage" in done.stdout
    assert "Scale up only when demand" in done.stdout
