"""The types of what the operator reads of a pod template.

The resource keeps whatever stands in a template, and Kubernetes looks at it only when pods are
made. So a list where an object belongs, or a number where text does, comes as far as the
operator. `violations` finds them before anything reads the template, which may then take types
for granted; fields that the operator never reads are left to Kubernetes. Pure.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from penstock_operator import fields

# In a shape: `str` = text, a list = a list of the one shape in it, a mapping = an object with
# these fields, and under ANY what every field of it is.
ANY: Final = "*"
_REFERENCE: Final = {"name": str}
_CONTAINER: Final = {
    "name": str,
    "env": [{"name": str, "valueFrom": {"secretKeyRef": _REFERENCE}}],
    "envFrom": [{"secretRef": _REFERENCE}],
    "ports": [{}],
    "volumeMounts": [{}],
    "securityContext": {"capabilities": {}, "windowsOptions": {}},
}
_VOLUME: Final = {
    "name": str,
    "secret": {"secretName": str, "name": str},
    "projected": {"sources": [{"secret": {"secretName": str, "name": str}}]},
}
TEMPLATE: Final[Mapping[str, Any]] = {
    "metadata": {"labels": {ANY: str}, "annotations": {ANY: str}},
    "spec": {
        "initContainers": [_CONTAINER],
        "containers": [_CONTAINER],
        "ephemeralContainers": [_CONTAINER],
        "volumes": [_VOLUME],
        "imagePullSecrets": [_REFERENCE],
        "serviceAccountName": str,
        "serviceAccount": str,
        "securityContext": {},
    },
}


def violations(value: object, *, path: str, shape: Any = TEMPLATE) -> Iterator[fields.Violation]:
    """What is not of the type it must be. Null counts as absent, but not inside a list."""
    if shape is str:
        if not isinstance(value, str):
            yield fields.Violation(path, f"must be text, is {fields.shown(value)}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield fields.Violation(path, f"must be a list, is {fields.shown(value)}")
            return
        for index, item in enumerate(value):
            yield from violations(item, path=f"{path}[{index}]", shape=shape[0])
    elif not isinstance(value, Mapping):
        yield fields.Violation(path, f"must be an object, is {fields.shown(value)}")
    else:
        yield from _fields(value, path=path, shape=shape)


def _fields(
    value: Mapping[Any, Any], *, path: str, shape: Mapping[str, Any]
) -> Iterator[fields.Violation]:
    for name, field in value.items():
        if not isinstance(name, str):
            yield fields.Violation(
                path, f"has a key that is not text, {fields.shown(name)}: put it into quotes"
            )
            continue
        wanted = shape.get(name, shape.get(ANY))
        if wanted is not None and field is not None:
            yield from violations(field, path=f"{path}.{name}", shape=wanted)
