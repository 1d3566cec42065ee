"""What is wrong with a pool's pods, and what to do about it.

Each `Problem` is one cause, with the number of pods it holds up and a message that a person can
act on. The worst comes first. Messages change only when what they say changes, so that they do
not make the status churn. Pure.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping
from typing import Final

from penstock_operator import demand, observed, spec

IMAGE_REASONS: Final = frozenset(
    {
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
    }
)
CONFIG_REASONS: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
CRASH_RESTARTS: Final = 2
"""A container that was restarted this often and is not ready is crashing, whatever it waits for."""
CONNECT_SECONDS: Final = 30.0
"""A ready pod that the dispatcher has not heard of for this long does not get through to it."""
QUOTED_CHARACTERS_MAX: Final = 200


class Cause(enum.Enum):
    """Worst first; the value is the condition's reason."""

    IMAGE = "ImagePullFailed"
    CONFIG = "ContainerNotCreated"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH = "Crashing"
    CREATION = "PodsNotCreated"
    UNSCHEDULABLE = "Unschedulable"
    STARTUP = "StartupTimedOut"
    NOT_CONNECTED = "NotConnected"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One cause that keeps `pods` pods from working. `example` names one; empty = none exists."""

    cause: Cause
    pods: int
    message: str
    example: str = ""


def problems(
    pool: spec.WorkerPoolSpec,
    *,
    deployments: Iterable[observed.Deployment],
    pods: Iterable[observed.Pod],
    workers: Mapping[str, demand.Worker] | None,
    now: float,
) -> tuple[Problem, ...]:
    """Everything wrong with the pods, worst first. `workers` None = who is connected is unknown."""
    found: dict[Cause, list[tuple[str, str]]] = {}
    for pod in sorted(pods, key=lambda each: each.name):
        if not pod.active:
            continue
        diagnosis = _diagnose(pool, pod, workers=workers, now=now)
        if diagnosis is not None:
            cause, message = diagnosis
            found.setdefault(cause, []).append((pod.name, message))
    result = [
        Problem(
            cause=Cause.CREATION,
            pods=max(0, deployment.replicas - deployment.pods),
            message=(
                f"pods of Deployment {deployment.name} cannot be created: "
                f"{_quote(deployment.create_failure)}. Raise the quota, or mend spec.template"
            ),
        )
        for deployment in deployments
        if deployment.create_failure and deployment.replicas
    ]
    for cause, held_up in found.items():
        name, message = held_up[0]
        result.append(Problem(cause=cause, pods=len(held_up), message=message, example=name))
    order = list(Cause)
    return tuple(sorted(result, key=lambda problem: order.index(problem.cause)))


def _diagnose(
    pool: spec.WorkerPoolSpec,
    pod: observed.Pod,
    *,
    workers: Mapping[str, demand.Worker] | None,
    now: float,
) -> tuple[Cause, str] | None:
    for container in pod.containers:
        diagnosis = _diagnose_container(pool, pod, container)
        if diagnosis is not None:
            return diagnosis
    if pod.unschedulable:
        return (
            Cause.UNSCHEDULABLE,
            (
                f"no node takes the pod: {_quote(pod.unschedulable)}. Add capacity, or lower the "
                "requests in "
                "spec.template"
            ),
        )
    leaving = workers is not None and pod.uid in workers and workers[pod.uid].leaving
    if not pod.ready:
        if leaving or pod.created + pool.scaling.startup_timeout_seconds > now:
            return None
        return (
            Cause.STARTUP,
            (
                f"not ready {pool.scaling.startup_timeout_seconds} s after its creation "
                "(spec.scaling.startupTimeoutSeconds). See `kubectl describe pod -n "
                f"{pool.namespace} {pod.name}`"
            ),
        )
    if workers is not None and pod.uid not in workers and pod.created + CONNECT_SECONDS <= now:
        return (
            Cause.NOT_CONNECTED,
            (
                "ready, but not connected to the dispatcher. Check that it can reach it "
                "(NetworkPolicy, token): "
                f"`kubectl logs -n {pool.namespace} {pod.name} -c {pool.worker_container}`"
            ),
        )
    return None


def _diagnose_container(
    pool: spec.WorkerPoolSpec, pod: observed.Pod, container: observed.Container
) -> tuple[Cause, str] | None:
    reason = container.waiting_reason
    if reason in IMAGE_REASONS:
        return (
            Cause.IMAGE,
            (
                f"image {container.image} of container {container.name} cannot be pulled. Mend its "
                "name in "
                "spec.template, or give spec.template the imagePullSecrets that it needs"
            ),
        )
    if reason in CONFIG_REASONS:
        return (
            Cause.CONFIG,
            (
                f"container {container.name} cannot be created ({reason}): "
                f"{_quote(container.waiting_message)}. Mend spec.template"
            ),
        )
    if pod.ready or not (reason == "CrashLoopBackOff" or (container.restarts >= CRASH_RESTARTS)):
        return None
    log = f"`kubectl logs -n {pool.namespace} {pod.name} -c {container.name} --previous`"
    if container.ended_reason == "OOMKilled":
        return (
            Cause.OUT_OF_MEMORY,
            (
                f"container {container.name} runs out of memory. Raise its "
                "resources.limits.memory in "
                "spec.template, or lower spec.slotsPerWorker"
            ),
        )
    return (
        Cause.CRASH,
        (
            f"container {container.name} keeps crashing (exit code {container.ended_exit_code}). "
            "Its "
            f"last words: {log}"
        ),
    )


def describe(problem: Problem) -> str:
    """The problem in a sentence, with how many pods it holds up."""
    if not problem.example:
        return f"{problem.pods} pods: {problem.message}"
    others = problem.pods - 1
    more = f" and {others} more" if others else ""
    return f"pod {problem.example}{more}: {problem.message}"


def _quote(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    if len(text) > QUOTED_CHARACTERS_MAX:
        text = text[: QUOTED_CHARACTERS_MAX - 1] + "…"
    return text
