"""Leadership as a value: what to do about a Lease, given what it says.

One operator acts at a time. The holder renews each `RENEW_SECONDS`; who finds a Lease unchanged
for `DURATION_SECONDS`, by its own clock, may take it. Every taking counts `leaseTransitions` up,
and that number is the leader's epoch: the dispatcher refuses a lower one. A Lease that is made
anew begins at the minutes since the epoch, so that an epoch does not go back when somebody
deleted the Lease.

A process with the holder's identity takes over at once: identities are pod names, and a pod runs
one operator, so the earlier one is dead. Pure.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from penstock_operator import observed

DURATION_SECONDS: Final = 15
RENEW_SECONDS: Final = 2.0
RENEW_DEADLINE_SECONDS: Final = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Write this body to lead in this epoch."""

    body: Mapping[str, Any]
    create: bool
    epoch: int


def claim(
    found: Mapping[str, Any] | None,
    *,
    name: str,
    namespace: str,
    identity: str,
    unchanged_seconds: float,
    now: float,
) -> Claim | None:
    """How to become the leader; None = somebody else is. `unchanged_seconds`: as seen by us."""
    if found is None:
        epoch = int(now // 60)
        return Claim(
            body=_body({}, name=name, namespace=namespace, identity=identity, epoch=epoch, now=now),
            create=True,
            epoch=epoch,
        )
    held = found.get("spec") or {}
    holder = held.get("holderIdentity") or ""
    duration = int(held.get("leaseDurationSeconds") or DURATION_SECONDS)
    if holder not in ("", identity) and unchanged_seconds < duration:
        return None
    epoch = int(held.get("leaseTransitions") or 0) + 1
    return Claim(
        body=_body(found, name=name, namespace=namespace, identity=identity, epoch=epoch, now=now),
        create=False,
        epoch=epoch,
    )


def renewal(found: Mapping[str, Any], *, now: float) -> dict[str, Any]:
    """The body that renews a Lease that we hold."""
    return {**found, "spec": {**found["spec"], "renewTime": observed.precise_time_text(now)}}


def release(found: Mapping[str, Any], *, now: float) -> dict[str, Any]:
    """The body that lets the next one have it at once."""
    return {
        **found,
        "spec": {
            **found["spec"],
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "renewTime": observed.precise_time_text(now),
        },
    }


def holder_of(found: Mapping[str, Any]) -> str:
    """Who holds it; empty = nobody."""
    return str((found.get("spec") or {}).get("holderIdentity") or "")


def beacon(
    found: Mapping[str, Any] | None, *, name: str, namespace: str, identity: str, now: float
) -> dict[str, Any]:
    """The body of a Lease that is only written so that it comes back by a watch."""
    return _body(found or {}, name=name, namespace=namespace, identity=identity, epoch=0, now=now)


def _body(
    found: Mapping[str, Any],
    *,
    name: str,
    namespace: str,
    identity: str,
    epoch: int,
    now: float,
) -> dict[str, Any]:
    metadata = found.get("metadata") or {
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": "penstock"},
    }
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": dict(metadata),
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "acquireTime": observed.precise_time_text(now),
            "renewTime": observed.precise_time_text(now),
            "leaseTransitions": epoch,
        },
    }
