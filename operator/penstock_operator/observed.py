"""Kubernetes objects as the operator sees them: Deployments and pods, cut down to what decisions
need.

Bodies come from watch events, LISTs and answers to writes; all of them pass through here, so that
nothing else knows how a pod says that it is ready. Pure; times are float seconds since the epoch.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

POOL_LABEL: Final = "penstock.dev/pool"
POOL_UID_LABEL: Final = "penstock.dev/pool-uid"
REVISION_LABEL: Final = "penstock.dev/revision"
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
ADDRESS: Final = "PENSTOCK_ADDRESS"
LOWEST_DELETION_COST: Final = "-2147483647"
ENDED_PHASES: Final = ("Succeeded", "Failed")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container's status. `ended_…` is how it ended last, in this or an earlier life."""

    name: str
    running: bool = False
    started: float = 0.0
    """Since when it runs."""
    ready: bool = False
    """By its own readiness probe."""
    waiting_reason: str = ""
    waiting_message: str = ""
    restarts: int = 0
    ended_reason: str = ""
    ended_exit_code: int = 0
    image: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A worker pod."""

    name: str
    uid: str
    resource_version: str = ""
    revision: str = ""
    created: float = 0.0
    phase: str = "Pending"
    reason: str = ""
    """The pod's own, when it ended: Evicted, …"""
    ready: bool = False
    terminating: bool = False
    deletion_cost: str = ""
    unschedulable: str = ""
    """The scheduler's message, while it finds no node."""
    containers: tuple[Container, ...] = ()

    @property
    def active(self) -> bool:
        """Counted by its ReplicaSet: not told to stop, and not ended."""
        return not self.terminating and self.phase not in ENDED_PHASES

    def container(self, name: str) -> Container | None:
        """The status of a container, once there is one."""
        return next((each for each in self.containers if each.name == name), None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The Deployment of one revision."""

    name: str
    uid: str
    resource_version: str
    revision: str
    replicas: int
    created: float = 0.0
    deleting: bool = False
    pods: int = 0
    """That its controller last counted."""
    address: str = ""
    """That its workers connect to; empty = none is set."""
    create_failure: str = ""
    """Why pods cannot be created (quota, admission), as its controller says."""


def deployment_of(body: Mapping[str, Any]) -> Deployment:
    """A Deployment from its body."""
    meta, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    failure = next(
        (
            str(condition.get("message") or condition.get("reason") or "unknown")
            for condition in status.get("conditions") or []
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
        ),
        "",
    )
    return Deployment(
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        revision=(meta.get("labels") or {}).get(REVISION_LABEL, ""),
        replicas=int(spec.get("replicas", 1)),
        created=timestamp(meta.get("creationTimestamp")),
        deleting=bool(meta.get("deletionTimestamp")),
        pods=int(status.get("replicas") or 0),
        address=_address((spec.get("template") or {}).get("spec") or {}),
        create_failure=failure,
    )


def _address(pod: Mapping[str, Any]) -> str:
    variables = (
        variable
        for container in pod.get("containers") or []
        for variable in container.get("env") or []
    )
    return next((str(each.get("value", "")) for each in variables if each["name"] == ADDRESS), "")


def pod_of(body: Mapping[str, Any]) -> Pod:
    """A pod from its body."""
    meta, status = body["metadata"], body.get("status") or {}
    conditions = {each.get("type"): each for each in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled") or {}
    images = {
        each.get("name"): each.get("image", "")
        for each in (body.get("spec") or {}).get("containers") or []
    }
    return Pod(
        name=meta["name"],
        uid=meta.get("uid", ""),
        resource_version=meta.get("resourceVersion", ""),
        revision=(meta.get("labels") or {}).get(REVISION_LABEL, ""),
        created=timestamp(meta.get("creationTimestamp")),
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        ready=(conditions.get("Ready") or {}).get("status") == "True",
        terminating=bool(meta.get("deletionTimestamp")),
        deletion_cost=(meta.get("annotations") or {}).get(DELETION_COST, ""),
        unschedulable=(
            str(scheduled.get("message") or "no node fits")
            if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
            else ""
        ),
        containers=tuple(
            _container(each, image=images.get(each.get("name"), ""))
            for each in status.get("containerStatuses") or []
        ),
    )


def _container(status: Mapping[str, Any], *, image: str) -> Container:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    return Container(
        name=status.get("name", ""),
        running="running" in state,
        started=timestamp((state.get("running") or {}).get("startedAt")),
        ready=bool(status.get("ready")),
        waiting_reason=waiting.get("reason") or "",
        waiting_message=waiting.get("message") or "",
        restarts=int(status.get("restartCount") or 0),
        ended_reason=ended.get("reason") or "",
        ended_exit_code=int(ended.get("exitCode") or 0),
        image=image or status.get("image", ""),
    )


def labels_of(body: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's labels."""
    labels: Mapping[str, str] = (body.get("metadata") or {}).get("labels") or {}
    return labels


def controller_uid(body: Mapping[str, Any]) -> str:
    """UID of the owner that controls the object; empty = none does."""
    for owner in (body.get("metadata") or {}).get("ownerReferences") or []:
        if owner.get("controller"):
            return str(owner.get("uid", ""))
    return ""


def timestamp(text: object) -> float:
    """Seconds since the epoch of a Kubernetes time; 0.0 = none."""
    if not isinstance(text, str) or not text:
        return 0.0
    return dt.datetime.fromisoformat(text).timestamp()


def time_text(seconds: float) -> str:
    """A Kubernetes time, whole seconds."""
    moment = dt.datetime.fromtimestamp(int(seconds), tz=dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def precise_time_text(seconds: float) -> str:
    """A Kubernetes time in microseconds."""
    moment = dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def is_newer(version: str, than: str) -> bool:
    """One resourceVersion against another of the same object.

    They are decimal numbers that grow (Kubernetes 1.35 promises it, etcd always did so). Versions
    that are not numbers cannot be ordered: then whatever came last counts as newer.
    """
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
