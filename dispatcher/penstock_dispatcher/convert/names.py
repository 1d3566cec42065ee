"""Resource names (AIP-122): built and taken apart in one place."""

import re
from typing import Final, NamedTuple

from penstock_dispatcher import errors

_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_POOL: Final = re.compile(rf"namespaces/({_LABEL})/pools/({_LABEL})")
_TASK: Final = re.compile(rf"(namespaces/{_LABEL}/pools/{_LABEL})/tasks/([A-Za-z0-9_-]{{1,64}})")
# Not only what Kubernetes allows: outside of it a worker is called after its host.
_POD: Final = r"[^/\x00-\x1f\x7f]{1,253}"
_WORKER: Final = re.compile(rf"(namespaces/{_LABEL}/pools/{_LABEL})/workers/({_POD})")
POD: Final = re.compile(_POD)
_NAMESPACE: Final = re.compile(rf"namespaces/({_LABEL}|-)")
TASK_ID: Final = re.compile(r"[a-z](?:[-a-z0-9]{0,62})")


class Child(NamedTuple):
    """A name below a pool's."""

    pool: str
    id: str


def check_pool(name: str, field: str) -> str:
    """A pool's full name as it came in `field`. Raises Refusal."""
    if _POOL.fullmatch(name) is None:
        raise errors.invalid(field, f"must be namespaces/NAMESPACE/pools/POOL, is {name[:200]!r}")
    return name


def namespace_of(pool_name: str) -> str:
    """The namespace in a name that was checked."""
    return pool_name.split("/", 2)[1]


def task(name: str, field: str = "name") -> Child:
    """A task's name taken apart. Raises Refusal."""
    found = _TASK.fullmatch(name)
    if found is None:
        raise errors.invalid(
            field, f"must be namespaces/NAMESPACE/pools/POOL/tasks/TASK, is {name[:300]!r}"
        )
    return Child(found[1], found[2])


def worker(name: str, field: str = "name") -> Child:
    """A worker's name taken apart. Raises Refusal."""
    found = _WORKER.fullmatch(name)
    if found is None:
        raise errors.invalid(
            field, f"must be namespaces/NAMESPACE/pools/POOL/workers/POD, is {name[:400]!r}"
        )
    return Child(found[1], found[2])


def namespace(parent: str, field: str = "parent") -> str:
    """The namespace of `parent`; empty = all. Raises Refusal."""
    if parent == "":
        return ""
    found = _NAMESPACE.fullmatch(parent)
    if found is None:
        raise errors.invalid(
            field, f"must be namespaces/NAMESPACE, namespaces/- or empty, is {parent[:100]!r}"
        )
    return "" if found[1] == "-" else found[1]
