"""Builds the Deployment of one revision of a pool.

A pool has one Deployment per revision of what the user wrote about its pods, named
`<pool>-<hash>`. Its pod template is written once, at creation, and never patched: a change makes
another Deployment. So the hash covers what the user wrote and nothing that the operator adds, or
an upgrade of the operator would roll every pool. What the user wrote is the template and the
three fields of the spec that shape the pod: the worker's container, its slots and its drain
time-out. One thing of the operator's own makes a new revision, too: another address of the
dispatcher, because workers that go on with the old one are lost with their next connection
(`current_revision`).

The operator adds the worker's environment, its token, its readiness probe (by which it is seen
that a worker has drained, so there is no other), labels, an owner reference (so that deleting the
pool cleans up, without finalizers), and the settings of the Pod Security standard "restricted"
wherever the user said nothing. Pure.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock_operator import observed, spec, template

HASH_CHARACTERS: Final = 10
# The alphabet of Kubernetes' own generated names: no vowels, no look-alikes.
HASH_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
TOKEN_DIRECTORY: Final = "/var/run/secrets/penstock"  # noqa: S105  a path
TOKEN_KEY: Final = "token"  # noqa: S105  a key of the Secret
TERMINATION_MARGIN_SECONDS: Final = 30
WORKER_HTTP_PORT: Final = 8081
# A drained worker is seen within two seconds; a starved probe needs ten to look like one.
READINESS_PROBE: Final[Mapping[str, Any]] = {
    "httpGet": {"path": "/readyz", "port": WORKER_HTTP_PORT},
    "periodSeconds": 1,
    "timeoutSeconds": 5,
    "failureThreshold": 2,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What this installation tells its workers. Empty `token_secret` = workers need no token."""

    address: str
    token_secret: str = "penstock-worker"  # noqa: S105  the name of a Secret, not a secret


def revision_hash(pool: spec.WorkerPoolSpec, *, address: str = "") -> str:
    """Ten characters that stand for what the user wrote about the pods, and for an address if one
    is given.
    """
    written: dict[str, Any] = {
        "template": pool.template,
        "workerContainer": pool.worker_container,
        "slotsPerWorker": pool.slots_per_worker,
        "drainTimeoutSeconds": pool.drain_timeout_seconds,
    }
    if address:
        written["address"] = address
    canonical = json.dumps(written, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    number = int.from_bytes(hashlib.sha256(canonical.encode()).digest(), "big")
    characters = []
    for _ in range(HASH_CHARACTERS):
        number, index = divmod(number, len(HASH_ALPHABET))
        characters.append(HASH_ALPHABET[index])
    return "".join(characters)


def current_revision(
    pool: spec.WorkerPoolSpec, *, deployments: Iterable[observed.Deployment], address: str
) -> str:
    """The revision that the pool's workers should be of.

    That is the hash of what the user wrote, unless its Deployment exists and has another address:
    then a hash with the address, which stays the current one for as long as it exists. Empty
    `address` = any will do.
    """
    plain, moved = revision_hash(pool), revision_hash(pool, address=address)
    known = {each.revision: each for each in deployments}
    if plain in known:
        return plain if known[plain].address in ("", address) or not address else moved
    return moved if moved in known else plain


def deployment_name(pool: spec.WorkerPoolSpec, *, revision: str = "") -> str:
    """The name of a revision's Deployment; without one, of what the user wrote."""
    return f"{pool.name}-{revision or revision_hash(pool)}"


def pod_selector(*, pool_name: str) -> str:
    """The label selector of a pool's pods."""
    return f"{observed.POOL_LABEL}={pool_name}"


def build_deployment(
    pool: spec.WorkerPoolSpec, *, replicas: int, settings: WorkerSettings, revision: str = ""
) -> dict[str, Any]:
    """The body of the pool's current Deployment; `revision` is `revision_hash` unless given."""
    revision = revision or revision_hash(pool)
    identity = {
        observed.POOL_LABEL: pool.name,
        observed.POOL_UID_LABEL: pool.uid,
        observed.REVISION_LABEL: revision,
    }
    labels = {**template.OWNED_LABELS, **identity}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": deployment_name(pool, revision=revision),
            "namespace": pool.namespace,
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": spec.API_VERSION,
                    "kind": spec.KIND,
                    "name": pool.name,
                    "uid": pool.uid,
                    "controller": True,
                    # Blocking would need a right on the pool's finalizers, and could make a
                    # delete hang.
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": identity},
            "template": _pod_template(pool, labels=labels, revision=revision, settings=settings),
            # Never used by the operator, which never changes the template; should somebody else,
            # no pod is
            # taken away before its successor is ready.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "revisionHistoryLimit": 0,
            "progressDeadlineSeconds": pool.scaling.startup_timeout_seconds,
        },
    }


def _pod_template(
    pool: spec.WorkerPoolSpec,
    *,
    labels: Mapping[str, str],
    revision: str,
    settings: WorkerSettings,
) -> dict[str, Any]:
    result: dict[str, Any] = copy.deepcopy(dict(pool.template))
    metadata = result.setdefault("metadata", None) or {}
    result["metadata"] = {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}
    pod = result["spec"]
    pod["terminationGracePeriodSeconds"] = pool.drain_timeout_seconds + TERMINATION_MARGIN_SECONDS
    pod.setdefault("automountServiceAccountToken", False)
    pod.setdefault("enableServiceLinks", False)
    _restrict_pod(pod)
    for kind in ("initContainers", "containers"):
        for container in pod.get(kind) or []:
            _restrict_container(container)
            if kind == "containers" and container["name"] == pool.worker_container:
                _equip(container, pool, revision=revision, settings=settings)
    if settings.token_secret:
        pod["volumes"] = [
            *(pod.get("volumes") or []),
            {"name": template.OWNED_VOLUME, "secret": {"secretName": settings.token_secret}},
        ]
    return result


def worker_environment(pool: spec.WorkerPoolSpec, *, address: str, revision: str) -> dict[str, str]:
    """What every worker of the pool is told, in a pod or as a local process."""
    return {
        observed.ADDRESS: address,
        "PENSTOCK_POOL": pool.full_name,
        "PENSTOCK_POOL_UID": pool.uid,
        "PENSTOCK_REVISION": revision,
        "PENSTOCK_SLOTS": str(pool.slots_per_worker),
        "PENSTOCK_DRAIN_TIMEOUT_SECONDS": str(pool.drain_timeout_seconds),
    }


def _equip(
    container: dict[str, Any],
    pool: spec.WorkerPoolSpec,
    *,
    revision: str,
    settings: WorkerSettings,
) -> None:
    plain = {
        **worker_environment(pool, address=settings.address, revision=revision),
        "PENSTOCK_HTTP_PORT": str(WORKER_HTTP_PORT),
    }
    if settings.token_secret:
        plain["PENSTOCK_TOKEN_FILE"] = f"{TOKEN_DIRECTORY}/{TOKEN_KEY}"
        container["volumeMounts"] = [
            *(container.get("volumeMounts") or []),
            {"name": template.OWNED_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": True},
        ]
    from_pod = {"PENSTOCK_POD_NAME": "metadata.name", "PENSTOCK_POD_UID": "metadata.uid"}
    container["env"] = [
        *(container.get("env") or []),
        *({"name": name, "value": value} for name, value in plain.items()),
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in from_pod.items()
        ),
    ]
    container["readinessProbe"] = copy.deepcopy(dict(READINESS_PROBE))


def _restrict_pod(pod: dict[str, Any]) -> None:
    context = pod.setdefault("securityContext", None) or {}
    pod["securityContext"] = context
    if context.get("runAsUser") != 0:
        context.setdefault("runAsNonRoot", True)
    context.setdefault("seccompProfile", {"type": "RuntimeDefault"})


def _restrict_container(container: dict[str, Any]) -> None:
    context = container.setdefault("securityContext", None) or {}
    container["securityContext"] = context
    if not context.get("privileged"):
        context.setdefault("allowPrivilegeEscalation", False)
    if context.get("runAsUser") == 0:
        # The pod's runAsNonRoot would keep the container that is to run as root from starting.
        context.setdefault("runAsNonRoot", False)
    capabilities = context.setdefault("capabilities", None) or {}
    context["capabilities"] = capabilities
    capabilities.setdefault("drop", ["ALL"])
