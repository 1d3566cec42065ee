"""The conditions of a pool's status: what is so, why, and what to do about it.

Types and reasons follow the habits of the Kubernetes autoscaler and of KEDA, so that people and
tools know them: Ready, DispatcherConnected, ScalingActive, AbleToScale, ScalingLimited, Degraded,
TasksFailing. Messages carry no number that changes while the situation stays the same; those are
in the status' own fields. Pure.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock_operator import demand, fields, health, observed, reconcile, scaling, sections, spec

DOWN_SECONDS: Final = 3.0
"""A dispatcher that is away for less (it restarts) is not reported."""
WAITING_SECONDS: Final = 30.0
"""Removal of drained pods that waits for longer than this is reported."""
MESSAGE_CHARACTERS_MAX: Final = 2000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition. `status` None = unknown."""

    type: str
    status: bool | None
    reason: str
    message: str

    @property
    def status_text(self) -> str:
        """As Kubernetes writes it."""
        return {True: "True", False: "False", None: "Unknown"}[self.status]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The connection to the dispatcher. `down_seconds` 0 = it is there."""

    address: str
    down_seconds: float = 0.0
    problem: str = ""

    @property
    def is_down(self) -> bool:
        """Away for long enough to say so."""
        return self.down_seconds >= DOWN_SECONDS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that conditions speak of."""

    pool: spec.WorkerPoolSpec | None
    """None = the manifest cannot be used; then `violations` says why, and there is no plan."""
    violations: tuple[fields.Violation, ...] = ()
    plan: reconcile.Plan | None = None
    load: demand.Demand | None = None
    problems: tuple[health.Problem, ...] = ()
    link: Link
    api_error: str = ""
    """The last write that Kubernetes refused for good, or failed too often."""
    waiting_seconds: float = 0.0
    """For how long the plan's removals have been waiting."""
    tasks_fail: bool = False
    """Tasks have ended in failure of late, or dead letters are kept."""


def derive(seen: Situation) -> tuple[Condition, ...]:
    """All conditions, in the order in which they are listed."""
    return (
        _ready(seen),
        _connected(seen),
        _active(seen),
        _able(seen),
        _limited(seen),
        _degraded(seen),
        _failing(seen),
    )


def _ready(seen: Situation) -> Condition:
    def say(status: bool, reason: str, message: str) -> Condition:
        return Condition(type="Ready", status=status, reason=reason, message=message)

    if seen.violations or seen.pool is None or seen.plan is None:
        return say(False, "InvalidSpec", _join(str(each) for each in seen.violations))
    if seen.link.is_down:
        return say(False, "DispatcherUnreachable", _connected(seen).message)
    if seen.load is not None and seen.load.config_error:
        return say(
            False,
            "ConfigRefused",
            f"the dispatcher refused the configuration and goes on with the earlier one: "
            f"{seen.load.config_error}",
        )
    if seen.api_error:
        return say(False, "KubernetesRefused", seen.api_error)
    if seen.link.down_seconds:
        return Condition(
            type="Ready", status=None, reason="Connecting", message=_connected(seen).message
        )
    ready = sum(revision.ready for revision in seen.plan.fleet.revisions)
    if not ready and seen.plan.wanted:
        if seen.problems:
            worst = seen.problems[0]
            return say(False, worst.cause.value, health.describe(worst))
        return say(False, "Starting", "no worker is ready yet")
    if seen.pool.suspend:
        return say(True, "Suspended", "spec.suspend is set: tasks are accepted, none is started")
    if seen.plan.rolling:
        return say(True, "RollingOut", f"workers move to revision {seen.plan.fleet.current.hash}")
    if not seen.plan.wanted:
        return say(True, "ScaledToZero", "no workers; the next task brings the first one")
    return say(True, "Running", "workers take tasks")


def _connected(seen: Situation) -> Condition:
    link = seen.link
    if not link.down_seconds:
        return Condition(
            type="DispatcherConnected",
            status=True,
            reason="Connected",
            message=f"demand comes from {link.address}",
        )
    if not link.is_down:
        return Condition(
            type="DispatcherConnected",
            status=None,
            reason="Connecting",
            message=f"connecting to {link.address}",
        )
    return Condition(
        type="DispatcherConnected",
        status=False,
        reason="Unreachable",
        message=(
            f"no demand from the dispatcher at {link.address} ({link.problem or 'no answer'}): "
            "the fleet is "
            "held, nothing shrinks. Check that its pod runs (`kubectl get pods -l "
            "app.kubernetes.io/component=dispatcher -A`) and that the operator's token is its own"
        ),
    )


def _active(seen: Situation) -> Condition:
    def say(status: bool, reason: str, message: str) -> Condition:
        return Condition(type="ScalingActive", status=status, reason=reason, message=message)

    if seen.pool is None or seen.plan is None:
        return say(False, "InvalidSpec", "the spec cannot be used; the fleet is left as it is")
    if seen.pool.scaling.paused:
        return say(False, "Paused", "spec.scaling.paused is set")
    if seen.pool.scaling.mode is not sections.Mode.AUTO:
        return say(
            False,
            seen.pool.scaling.mode.value,
            "spec.replicas decides (spec.scaling.mode)",
        )
    if seen.link.is_down:
        return say(False, "DispatcherUnreachable", "demand is unknown; the fleet is held")
    return say(True, "ValidDemand", "demand decides the number of workers")


def _able(seen: Situation) -> Condition:
    def say(status: bool, reason: str, message: str) -> Condition:
        return Condition(type="AbleToScale", status=status, reason=reason, message=message)

    if seen.api_error:
        return say(False, "KubernetesRefused", seen.api_error)
    plan = seen.plan
    if plan is not None and plan.waiting and seen.waiting_seconds >= WAITING_SECONDS:
        return say(
            False,
            "WaitingForPods",
            "drained workers stay until it is certain that they are the ones to go: "
            f"{plan.waiting}",
        )
    if plan is not None and seen.link.is_down and plan.decision.target < plan.decision.current:
        return say(False, "DispatcherUnreachable", "a decrease waits for the dispatcher")
    return say(True, "ReadyToScale", "nothing is in the way of a change")


def _limited(seen: Situation) -> Condition:
    limit = seen.plan.decision.limit if seen.plan is not None else scaling.Limit.NONE
    words = {
        scaling.Limit.NONE: "the target is within bounds",
        scaling.Limit.MAXIMUM: (
            "more workers could be used than spec.scaling.maxReplicas allows: raise it if the "
            "queue "
            "should be shorter"
        ),
        scaling.Limit.MINIMUM: (
            "fewer workers would do than spec.scaling.minReplicas (or warmReplicas) asks for"
        ),
        scaling.Limit.RATE: "more workers would only wait for spec.rateLimit",
    }
    return Condition(
        type="ScalingLimited",
        status=limit is not scaling.Limit.NONE,
        reason=limit.value,
        message=words[limit],
    )


def _degraded(seen: Situation) -> Condition:
    if not seen.problems:
        return Condition(
            type="Degraded", status=False, reason="Healthy", message="no pod has a problem"
        )
    return Condition(
        type="Degraded",
        status=True,
        reason=seen.problems[0].cause.value,
        message=_join(health.describe(problem) for problem in seen.problems),
    )


def _failing(seen: Situation) -> Condition:
    if not seen.tasks_fail:
        return Condition(
            type="TasksFailing",
            status=False,
            reason="NoFailures",
            message="no task has failed of late",
        )
    pool = f"{seen.pool.namespace}/{seen.pool.name}" if seen.pool is not None else ""
    return Condition(
        type="TasksFailing",
        status=True,
        reason="HandlerFails",
        message=(
            "tasks fail for good or are among the dead letters: the handler raises, or its "
            "worker dies. See why with "
            f"`penstock list --pool {pool} --state DEAD_LETTERED` (or FAILED), mend the handler, "
            "retry them"
        ),
    )


def merge(
    previous: Iterable[Mapping[str, Any]],
    derived: Iterable[Condition],
    *,
    generation: int,
    now: float,
) -> list[dict[str, Any]]:
    """Conditions as the status has them: the time of the last transition is kept where nothing
    changed.
    """
    before = {each.get("type"): each for each in previous}
    merged = []
    for condition in derived:
        old = before.get(condition.type)
        if condition.status is None and old is not None:
            # "Not known yet" does not undo what was known.
            merged.append(dict(old))
            continue
        same = old is not None and old.get("status") == condition.status_text
        merged.append(
            {
                "type": condition.type,
                "status": condition.status_text,
                "observedGeneration": generation,
                "lastTransitionTime": (
                    old["lastTransitionTime"] if same and old else observed.time_text(now)
                ),
                "reason": condition.reason,
                "message": condition.message,
            }
        )
    return merged


def _join(parts: Iterable[str]) -> str:
    text = "; ".join(parts)
    if len(text) > MESSAGE_CHARACTERS_MAX:
        text = text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
    return text
