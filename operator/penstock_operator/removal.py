"""The second and third phase of a scale-down: who may really go.

A ReplicaSet that has to give up pods takes unscheduled and Pending ones first, then those that
are not ready, then those of the lowest deletion cost. So the pods that we mean are its choice
exactly if they are not ready, have the lowest cost, and every other pod is running and ready.
`confirm` looks at a LIST made for the purpose and says how far replicas may be lowered, or what
it waits for; it is asked twice, about what was last seen (so that no LIST is made in vain) and
about the LIST. Pods that hold nothing and will not start soon are in nobody's way: should one of
them be taken instead, no task is lost. Pure.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from penstock_operator import actions, demand, fleet, observed, scaling


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """By how many replicas may be lowered; with 0, what that waits for."""

    count: int
    waiting: str = ""


def confirm(
    *,
    replicas: int,
    pods: Iterable[observed.Pod],
    drained: frozenset[str],
    expendable: frozenset[str],
    expendable_count: int,
    workers: Mapping[str, demand.Worker],
    worker_container: str,
) -> Verdict:
    """May the `drained` pods and `expendable_count` of the `expendable` ones be removed?

    `pods` are all of one Deployment; `replicas` is what it asks for now.
    """
    active = [pod for pod in pods if pod.active]
    if len(active) != replicas:
        return Verdict(count=0, waiting=f"{len(active)} of {replicas} pods exist")
    victims = harmless = 0
    for pod in active:
        if pod.uid in drained:
            if pod.ready:
                return Verdict(count=0, waiting=f"drained pod {pod.name} is still ready")
            if pod.deletion_cost != observed.LOWEST_DELETION_COST:
                return Verdict(count=0, waiting=f"drained pod {pod.name} has no deletion cost yet")
            victims += 1
        elif (
            pod.uid in expendable
            and not pod.ready
            and fleet.holds_nothing(pod, workers.get(pod.uid), worker_container=worker_container)
        ):
            harmless += 1
        elif not (pod.phase == "Running" and pod.ready):
            return Verdict(count=0, waiting=f"pod {pod.name} is not ready yet")
    count = victims + min(expendable_count, harmless)
    return Verdict(count=count, waiting="" if count else "the pods are gone already")


def unmarked(pods: Iterable[observed.Pod], *, drained: frozenset[str]) -> tuple[str, ...]:
    """Names of drained pods that do not have the lowest deletion cost yet."""
    return tuple(
        pod.name
        for pod in pods
        if pod.uid in drained and pod.deletion_cost != observed.LOWEST_DELETION_COST
    )


def steps(
    crew: fleet.Fleet,
    decision: scaling.ScaleDecision,
    *,
    rolling: bool,
    workers: Mapping[str, demand.Worker],
    worker_container: str,
    idle_timeout_seconds: int,
) -> tuple[list[actions.Action], str]:
    """Phases two and three for every revision, and what removal waits for."""
    found: list[actions.Action] = []
    waiting = ""
    for revision in crew.revisions:
        deployment = revision.deployment
        if deployment is None or not revision.replicas:
            continue
        marks = unmarked(revision.pods, drained=revision.drained)
        if marks:
            found.append(actions.MarkPods(names=marks))
        spare = len(revision.expendable)
        if revision is crew.current:
            surplus = 0 if rolling else max(0, decision.current - decision.desired)
            spare = min(spare, surplus)
        if not (revision.drained or spare) or marks:
            continue
        verdict = confirm(
            replicas=revision.replicas,
            pods=revision.pods,
            drained=revision.drained,
            expendable=revision.expendable,
            expendable_count=spare,
            workers=workers,
            worker_container=worker_container,
        )
        waiting = waiting or verdict.waiting
        if verdict.count:
            if revision is crew.current:
                reason, message = _why_down(decision, idle_timeout_seconds=idle_timeout_seconds)
            else:
                reason, message = "Rollout", f"rollout to revision {crew.current.hash}"
            found.append(
                actions.RemovePods(
                    name=deployment.name,
                    drained=revision.drained,
                    expendable=revision.expendable,
                    expendable_count=spare,
                    pool_from=crew.replicas,
                    reason=reason,
                    message=message,
                )
            )
    return found, waiting


def _why_down(decision: scaling.ScaleDecision, *, idle_timeout_seconds: int) -> tuple[str, str]:
    """Reason and message of a removal.

    By the time workers have drained the decision that reserved them is carried out, and demand may
    have returned: it is told what it was, idleness, beside what demand is now.
    """
    if decision.reason in (
        scaling.Reason.MANUAL,
        scaling.Reason.EXTERNAL,
        scaling.Reason.ABOVE_MAXIMUM,
    ):
        return str(decision.reason.value), decision.message
    words = f"idle for {idle_timeout_seconds} s and drained; now {decision.message}"
    return str(scaling.Reason.IDLE.value), words
