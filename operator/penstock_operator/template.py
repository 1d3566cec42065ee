"""What may stand in the pod template of a WorkerPool.

Who can create a WorkerPool makes the operator create pods, so the template is the largest risk
there is. Two kinds of check: `structure_violations` are mistakes (wrong types, no such container,
fields that the operator owns), the same everywhere; `security_violations` are things that reach
beyond the pod, refused unless the operator's settings allow them; they take a template without
mistakes. Both name the field and say what to do. Pure.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final

from penstock_operator import fields, shape

ROOT: Final = "spec.template"
LABEL_PREFIX: Final = "penstock.dev/"
OWNED_LABELS: Final = {
    "app.kubernetes.io/managed-by": "penstock",
    "app.kubernetes.io/name": "penstock-worker",
}
OWNED_ENVIRONMENT: Final = frozenset(
    {
        "PENSTOCK_ADDRESS",
        "PENSTOCK_POOL",
        "PENSTOCK_POOL_UID",
        "PENSTOCK_REVISION",
        "PENSTOCK_SLOTS",
        "PENSTOCK_POD_NAME",
        "PENSTOCK_POD_UID",
        "PENSTOCK_TOKEN_FILE",
        "PENSTOCK_DRAIN_TIMEOUT_SECONDS",
        "PENSTOCK_HTTP_PORT",
    }
)
OWNED_VOLUME: Final = "penstock-token"
CONTAINER_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPolicy:
    """What this installation allows in templates. `allow` holds words of `ALLOWABLE`."""

    allow: frozenset[str] = frozenset()
    service_accounts: frozenset[str] = frozenset({"", "default"})
    protected_secrets: frozenset[str] = frozenset()
    """Names of Secrets that no worker may read (the operator's own credentials)."""


ALLOWABLE: Final = frozenset(
    {"hostPath", "hostNetwork", "hostPID", "hostIPC", "hostPorts", "privileged", "nodeName"}
    | {"serviceAccountToken"}
)


def structure_violations(template: object, *, worker_container: str) -> Iterator[fields.Violation]:
    """Mistakes in a template, whoever wrote it."""
    if not isinstance(template, Mapping):
        yield fields.Violation(ROOT, "is required: the pods' template, as in a Deployment")
        return
    pod = template.get("spec")
    if not isinstance(pod, Mapping):
        yield fields.Violation(f"{ROOT}.spec", "is required: the pods' specification")
        return
    containers = pod.get("containers")
    if containers is None:
        yield fields.Violation(f"{ROOT}.spec.containers", "is required: the pod's containers")
        return
    mistyped = list(shape.violations(template, path=ROOT))
    yield from mistyped
    if mistyped:
        return  # nothing below could be read
    for kind in CONTAINER_LISTS:
        for index, container in enumerate(pod.get(kind) or []):
            if not container.get("name"):
                yield fields.Violation(
                    f"{ROOT}.spec.{kind}[{index}].name", "is required: name the container"
                )
    if not any(each.get("name") == worker_container for each in containers):
        yield fields.Violation(
            f"{ROOT}.spec.containers",
            f"has no container named '{worker_container}': give the one that runs "
            "penstock-worker that name, or "
            "set spec.workerContainer to its name",
        )
    if pod.get("restartPolicy", "Always") != "Always":
        yield fields.Violation(
            f"{ROOT}.spec.restartPolicy", "must be Always, or absent: workers are restarted"
        )
    yield from _owned_by_operator(template, pod, worker_container=worker_container)


def _owned_by_operator(
    template: Mapping[str, Any], pod: Mapping[str, Any], *, worker_container: str
) -> Iterator[fields.Violation]:
    metadata = template.get("metadata") or {}
    for kind in ("labels", "annotations"):
        for key, value in (metadata.get(kind) or {}).items():
            if key.startswith(LABEL_PREFIX):
                yield fields.Violation(
                    f"{ROOT}.metadata.{kind}[{key}]", "belongs to the operator: remove it"
                )
            elif kind == "labels" and OWNED_LABELS.get(key, value) != value:
                yield fields.Violation(
                    f"{ROOT}.metadata.labels[{key}]",
                    f"is set to {OWNED_LABELS[key]} by the operator: use a label of your own, "
                    "such as "
                    "app.kubernetes.io/component",
                )
    for path, container in _containers(pod):
        if container.get("name") != worker_container:
            continue
        if container.get("readinessProbe") is not None:
            yield fields.Violation(
                f"{path}.readinessProbe",
                "belongs to the operator, whose probe shows that a worker has drained: with "
                "another one drained pods could never be removed. Remove it; a check of your own "
                "goes into livenessProbe or startupProbe",
            )
        for variable in container.get("env") or []:
            if variable.get("name") in OWNED_ENVIRONMENT:
                yield fields.Violation(
                    f"{path}.env[{variable['name']}]", "is set by the operator: remove it"
                )
    for volume in pod.get("volumes") or []:
        if volume.get("name") == OWNED_VOLUME:
            yield fields.Violation(
                f"{ROOT}.spec.volumes[{OWNED_VOLUME}]",
                "is a name that the operator uses: rename the volume",
            )


def security_violations(
    template: Mapping[str, Any], *, policy: SecurityPolicy
) -> list[fields.Violation]:
    """What reaches beyond the pod and is not allowed here; empty = fine."""
    pod = template.get("spec") or {}
    return [
        fields.Violation(field, f"{why}; {_remedy(word)}")
        for word, field, why in _findings(pod, policy=policy)
        if word not in policy.allow
    ]


def _remedy(word: str) -> str:
    if word in ALLOWABLE:
        return f"remove it, or let the operator allow it (podTemplates.allow: [{word}])"
    return "use another one" if word == "secret" else "remove it, or add it to the allowed ones"


def _findings(pod: Mapping[str, Any], *, policy: SecurityPolicy) -> Iterator[tuple[str, str, str]]:
    path = f"{ROOT}.spec"
    for word in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(word):
            yield word, f"{path}.{word}", "shares the node's namespace with worker pods"
    if pod.get("nodeName"):
        yield "nodeName", f"{path}.nodeName", "passes the scheduler by"
    for name in ("serviceAccountName", "serviceAccount"):
        account = pod.get(name) or ""
        if account not in policy.service_accounts:
            yield "serviceAccount", f"{path}.{name}", f"'{account}' is a foreign service account"
    if pod.get("automountServiceAccountToken"):
        yield (
            "serviceAccountToken",
            f"{path}.automountServiceAccountToken",
            "gives worker pods a token for the Kubernetes API",
        )
    for volume in pod.get("volumes") or []:
        yield from _volume_findings(volume, policy=policy)
    for where, container in _containers(pod):
        yield from _container_findings(where, container, policy=policy)
    for index, secret in enumerate(pod.get("imagePullSecrets") or []):
        if secret.get("name") in policy.protected_secrets:
            yield "secret", f"{path}.imagePullSecrets[{index}]", "is the operator's own Secret"


def _volume_findings(
    volume: Mapping[str, Any], *, policy: SecurityPolicy
) -> Iterator[tuple[str, str, str]]:
    path = f"{ROOT}.spec.volumes[{volume.get('name')}]"
    if "hostPath" in volume:
        yield "hostPath", f"{path}.hostPath", "reaches into the node's file system"
    sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
    for source in sources:
        if "serviceAccountToken" in source:
            yield "serviceAccountToken", path, "gives worker pods a token for the Kubernetes API"
        secret = source.get("secret") or {}
        if (secret.get("secretName") or secret.get("name")) in policy.protected_secrets:
            yield "secret", path, "is the operator's own Secret"


def _container_findings(
    path: str, container: Mapping[str, Any], *, policy: SecurityPolicy
) -> Iterator[tuple[str, str, str]]:
    context = container.get("securityContext") or {}
    for key in ("privileged", "allowPrivilegeEscalation"):
        if context.get(key):
            yield "privileged", f"{path}.securityContext.{key}", "lets a worker rule its node"
    if (context.get("capabilities") or {}).get("add"):
        yield (
            "privileged",
            f"{path}.securityContext.capabilities.add",
            "gives workers powers of root",
        )
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield (
            "privileged",
            f"{path}.securityContext.windowsOptions.hostProcess",
            "lets a worker rule its node",
        )
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "hostPorts", f"{path}.ports", "takes ports of the node"
    references = [
        (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
        for variable in container.get("env") or []
    ] + [source.get("secretRef") or {} for source in container.get("envFrom") or []]
    if any(reference.get("name") in policy.protected_secrets for reference in references):
        yield "secret", f"{path}.env", "reads the operator's own Secret"


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind in CONTAINER_LISTS:
        for container in pod.get(kind) or []:
            yield f"{ROOT}.spec.{kind}[{container.get('name')}]", container
