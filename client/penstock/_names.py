"""Resource names: short for people, full on the wire.

A pool may be written `pool` (namespace `default`), `namespace/pool`, or
`namespaces/{namespace}/pools/{pool}`; a task as its full name
`namespaces/{namespace}/pools/{pool}/tasks/{task}` or as its id inside a pool that is known.
"""

import re
from typing import Final

DEFAULT_NAMESPACE: Final = "default"

_SEGMENT: Final = r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?"
_POOL: Final = re.compile(rf"(?:(?P<namespace>{_SEGMENT})/)?(?P<pool>{_SEGMENT})")
_FULL_POOL: Final = re.compile(rf"namespaces/(?P<namespace>{_SEGMENT})/pools/(?P<pool>{_SEGMENT})")
_FULL_TASK: Final = re.compile(rf"(namespaces/{_SEGMENT}/pools/{_SEGMENT})/tasks/([^/\s]+)")
_ID: Final = re.compile(r"[^/\s]+")


def pool(name: str) -> str:
    """The full name of a pool. Raises ValueError for what cannot be one."""
    match = _FULL_POOL.fullmatch(name)
    if match is None and not name.startswith("namespaces/"):
        match = _POOL.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is not the name of a pool: write it as 'pool', 'namespace/pool' or "
            "'namespaces/NAMESPACE/pools/POOL'"
        )
    return f"namespaces/{match['namespace'] or DEFAULT_NAMESPACE}/pools/{match['pool']}"


def task(name: str, *, within: str | None) -> str:
    """The full name of a task; a bare id is looked up in the pool `within` (full name).

    Raises ValueError for what cannot be one, and for an id without a pool.
    """
    if _FULL_TASK.fullmatch(name):
        return name
    if not _ID.fullmatch(name):
        raise ValueError(
            f"{name!r} is not the name of a task: write its id, or "
            "'namespaces/NAMESPACE/pools/POOL/tasks/TASK'"
        )
    if within is None:
        raise ValueError(f"which pool is task {name!r} in? Give its full name, or a pool")
    return f"{within}/tasks/{name}"


def namespace(name: str | None) -> str:
    """The parent of a list of pools; None = all namespaces. Raises ValueError for a bad name."""
    if name is None:
        return ""
    if not re.fullmatch(_SEGMENT, name):
        raise ValueError(f"{name!r} is not the name of a namespace")
    return f"namespaces/{name}"


def parts(name: str) -> tuple[str, str, str]:
    """Namespace, pool and last segment of the full name of a task or a worker, or of a pool (the
    last segment is then empty).
    """
    segments = name.split("/")
    segments += [""] * (6 - len(segments))
    return segments[1], segments[3], segments[5]
