"""What a reconcile wants done, as frozen values. Somebody else does it, and learns nothing from
doing it but new observations.

Every write to a Deployment names the resourceVersion that it was decided on. Pure.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CreateDeployment:
    """Create the Deployment of the pool's current revision."""

    name: str
    revision: str
    replicas: int
    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScaleDeployment:
    """Set replicas. `pool_from` and `pool_to` are the fleet's numbers, for people."""

    name: str
    resource_version: str
    current: int
    replicas: int
    pool_from: int
    pool_to: int
    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemovePods:
    """Phase three: lower replicas by these pods, if a fresh LIST bears it out.

    `drained` have confirmed that they run nothing; of the `expendable`, which hold nothing and do
    not start, any `expendable_count`; and all `strangers`, which are shut out. They hold pod UIDs.
    `old`: the Deployment is an old revision's.
    """

    name: str
    drained: frozenset[str]
    expendable: frozenset[str]
    expendable_count: int
    strangers: frozenset[str]
    old: bool
    pool_from: int
    reason: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MarkPods:
    """Give these pods, by name, the lowest deletion cost: phase two, and before strangers go."""

    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReserveWorkers:
    """Phase one: have the dispatcher choose workers to leave. Empty `revision` = any."""

    count: int
    idle_only: bool
    idle_for_seconds: int
    revision: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShutOut:
    """Have the dispatcher give no work to these pods, which it does not know, if they connect."""

    pod_uids: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseWorkers:
    """Take back workers of a reservation that have not confirmed yet."""

    reservation_id: str
    pod_uids: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDeployment:
    """Delete the Deployment of an old revision, which has no pods left."""

    name: str
    uid: str
    resource_version: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteReplicas:
    """Write the first value of spec.replicas (mode External): there is nothing to scale before."""

    replicas: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportGone:
    """Tell the dispatcher that a worker's process has ended, once the pod itself bears it out. Its
    pod goes on and its container is being restarted; or, `absent`, it is not in the picture.
    """

    absent: bool
    pod_name: str
    pod_uid: str
    restarts: int
    reason: str
    exit_code: int


Action = (
    CreateDeployment
    | ScaleDeployment
    | RemovePods
    | MarkPods
    | ReserveWorkers
    | ShutOut
    | ReleaseWorkers
    | DeleteDeployment
    | WriteReplicas
    | ReportGone
)
