"""What holds for every WorkerPool object, however odd what stands in it."""

import copy
from typing import Any

import hypothesis
from hypothesis import strategies as st

from penstock_operator import resources, spec, template

GOOD: dict[str, Any] = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "WorkerPool",
    "metadata": {"name": "pool", "namespace": "team", "uid": "u-1", "generation": 1},
    "spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "example/worker"}]}}},
}
POLICY = template.SecurityPolicy(protected_secrets=frozenset({"penstock-auth"}))
WORKER = "template.spec.containers.0"


def manifest(path: str, value: Any) -> dict[str, Any]:
    """The good one with one more field; numbers in the path are places in a list."""
    made = copy.deepcopy(GOOD)
    target: Any = made["spec"]
    *parents, last = path.split(".")
    for name in parents:
        target = target[int(name)] if name.isdecimal() else target.setdefault(name, {})
    target[last] = value
    return made


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
PATHS = (
    *("template", "template.metadata", "template.metadata.labels", "template.spec"),
    *("template.spec.containers", "template.spec.volumes", "template.spec.initContainers"),
    *(
        f"{WORKER}.{name}"
        for name in ("env", "envFrom", "securityContext", "ports", "volumeMounts")
    ),
    *("template.spec.securityContext", "template.spec.imagePullSecrets", "queue.maxPendingBytes"),
    *("queue.fairness", "queue.fairness.weights", "delivery.nonRetryableReasons"),
    *("scaling", "queue", "rateLimit", "delivery", "drain", "workerContainer", "replicas"),
)


@hypothesis.given(st.sampled_from(PATHS), JSON)
def test_whatever_stands_in_a_manifest_it_is_refused_or_a_deployment_can_be_made(
    path: str, value: Any
) -> None:
    examined = spec.examine(manifest(path, value), policy=POLICY)
    assert examined.unexpected is None
    if examined.pool is not None:
        settings = resources.WorkerSettings(address="dispatcher:50051")
        resources.build_deployment(examined.pool, replicas=1, settings=settings)
    else:
        assert examined.violations
