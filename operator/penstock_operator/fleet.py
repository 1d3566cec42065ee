"""The fleet of a pool, revision by revision: which pods count, and as what.

Replicas say how many workers were asked for; pods say which of them exist; the dispatcher's table
says what each is doing. This module brings the three together and decides nothing.

* *leaving*: reserved, draining or drained; it gets no more work. Its replica is still there until
  removed.
* *ready*: its pod is.
* *serving*: connected, so that it takes work; of the current revision only if its pod is ready,
  too.
* *starting*: on its way, for at most the start-up time-out; replicas without a pod count here.
* *stuck*: not ready for longer than that, or cannot be created. No capacity.
* *expendable*: a pod that runs nothing and will not soon: never connected (or lost without a
  task) and its worker's container does not run, for the start-up time-out or, in an old revision,
  since it began to fail.
* *stranger*: in an old revision, a pod past the start-up time-out that the dispatcher does not
  know, though what it knows has been complete for longer than a lease and the reconnect grace. So
  it holds no lease, and nothing that it may still run can have an outcome.

Pure.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from penstock_operator import demand, observed

FAILING_REASONS: Final = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
        "RunContainerError",
    }
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """The workers of one revision. Sets hold UIDs of active pods."""

    hash: str
    deployment: observed.Deployment | None
    pods: tuple[observed.Pod, ...]
    """Active ones."""
    terminating: int
    leaving: frozenset[str]
    drained: frozenset[str]
    ready: int
    serving: int
    starting: int
    stuck: int
    expendable: frozenset[str]
    strangers: frozenset[str]

    @property
    def replicas(self) -> int:
        """Asked for, those that are leaving included."""
        return self.deployment.replicas if self.deployment is not None else 0

    @property
    def excess(self) -> int:
        """Pods beyond what is asked for: replicas were lowered, and they are about to be told."""
        return max(0, len(self.pods) - self.replicas)

    @property
    def staying(self) -> int:
        """Asked for, without those that are leaving (unless they were subtracted already)."""
        return max(0, self.replicas - max(0, len(self.leaving) - self.excess))

    @property
    def missing(self) -> int:
        """Asked for, but there is no pod yet."""
        return max(0, self.replicas - len(self.pods))

    @property
    def empty(self) -> bool:
        """Nothing is asked for, and nothing is left."""
        counted = self.deployment.pods if self.deployment is not None else 0
        return not (self.replicas or self.pods or self.terminating or counted)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All revisions of a pool."""

    current: Revision
    old: tuple[Revision, ...]
    """Oldest first."""
    next_timeout: float | None
    """When the next starting pod is taken for stuck."""

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """The current one first, then old ones, newest first."""
        return (self.current, *reversed(self.old))

    @property
    def replicas(self) -> int:
        """Asked for in all."""
        return sum(revision.replicas for revision in self.revisions)

    @property
    def staying(self) -> int:
        """Asked for in all, without those that are leaving."""
        return sum(revision.staying for revision in self.revisions)

    @property
    def exists(self) -> bool:
        """There is a Deployment."""
        return any(revision.deployment is not None for revision in self.revisions)


def build(
    *,
    revision: str,
    worker_container: str,
    startup_timeout_seconds: int,
    deployments: Iterable[observed.Deployment],
    pods: Iterable[observed.Pod],
    workers: Mapping[str, demand.Worker],
    reserved: frozenset[str],
    released: frozenset[str],
    absence_tells: bool,
    now: float,
) -> Fleet:
    """The fleet now. `revision` is the current one.

    `reserved` and `released` are pods of which we know better than the table does yet.
    `absence_tells`: the table has been complete for long enough that who is not in it holds
    nothing.
    """
    by_hash = {each.revision: each for each in deployments if not each.deleting}
    pods_of: dict[str, list[observed.Pod]] = {}
    for pod in pods:
        pods_of.setdefault(pod.revision, []).append(pod)
    timeouts: list[float] = []

    def view(hash_: str) -> Revision:
        return _revision(
            hash_,
            by_hash.get(hash_),
            pods_of.get(hash_, []),
            is_current=hash_ == revision,
            worker_container=worker_container,
            startup_timeout_seconds=startup_timeout_seconds,
            workers=workers,
            reserved=reserved,
            released=released,
            absence_tells=absence_tells,
            now=now,
            timeouts=timeouts,
        )

    old = sorted(
        (each for hash_, each in by_hash.items() if hash_ != revision),
        key=lambda each: (each.created, each.name),
    )
    return Fleet(
        current=view(revision),
        old=tuple(view(each.revision) for each in old),
        next_timeout=min(timeouts, default=None),
    )


def _revision(
    hash_: str,
    deployment: observed.Deployment | None,
    pods: list[observed.Pod],
    *,
    is_current: bool,
    worker_container: str,
    startup_timeout_seconds: int,
    workers: Mapping[str, demand.Worker],
    reserved: frozenset[str],
    released: frozenset[str],
    absence_tells: bool,
    now: float,
    timeouts: list[float],
) -> Revision:
    active = tuple(sorted((pod for pod in pods if pod.active), key=lambda pod: pod.name))
    leaving, drained, expendable, strangers = set(), set(), set(), set()
    ready = serving = starting = stuck = 0
    for pod in active:
        worker = workers.get(pod.uid)
        if worker is not None and worker.state is demand.WorkerState.DRAINED:
            drained.add(pod.uid)
        going = worker is not None and worker.leaving and pod.uid not in released
        if pod.uid in drained or pod.uid in reserved or going:
            leaving.add(pod.uid)
            continue
        deadline = pod.created + startup_timeout_seconds
        if worker is not None and worker.connected and (pod.ready or not is_current):
            serving += 1
        dead = holds_nothing(pod, worker, worker_container=worker_container)
        if not pod.ready and dead and (deadline <= now or (not is_current and is_failing(pod))):
            expendable.add(pod.uid)
        elif not is_current and worker is None and absence_tells and deadline <= now:
            strangers.add(pod.uid)
        elif pod.ready:
            ready += 1
            continue
        if deadline <= now:
            stuck += 1
        else:
            starting += 1
            timeouts.append(deadline)
    missing = max(0, (deployment.replicas if deployment is not None else 0) - len(active))
    if deployment is not None and deployment.create_failure:
        stuck += missing
    else:
        starting += missing
    return Revision(
        hash=hash_,
        deployment=deployment,
        pods=active,
        terminating=sum(pod.terminating for pod in pods),
        leaving=frozenset(leaving),
        drained=frozenset(drained),
        ready=ready,
        serving=serving,
        starting=starting,
        stuck=stuck,
        expendable=frozenset(expendable),
        strangers=frozenset(strangers),
    )


def is_failing(pod: observed.Pod) -> bool:
    """Some container cannot start, or no node will have the pod."""
    return bool(pod.unschedulable) or any(
        each.waiting_reason in FAILING_REASONS for each in pod.containers
    )


def holds_nothing(
    pod: observed.Pod, worker: demand.Worker | None, *, worker_container: str
) -> bool:
    """The pod's worker is not connected, has no task, and its container does not run."""
    container = pod.container(worker_container)
    if container is not None and container.running:
        return False
    return worker is None or (not worker.connected and worker.slots_used == 0)
