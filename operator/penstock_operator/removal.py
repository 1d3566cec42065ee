"""The second and third phase of a scale-down: who may really go.

A ReplicaSet that has to give up pods takes unscheduled and Pending ones first, then those that
are not ready, then those of the lowest deletion cost. So the pods that we mean are its choice
exactly if they are not ready, have the lowest cost, and every other pod is running and ready.
`confirm` looks at a LIST made for the purpose and says how far replicas may be lowered, or what
it waits for; it is asked twice, about what was last seen (so that no LIST is made in vain) and
about the LIST. Pods that hold nothing and will not start soon are in nobody's way: should one of
them be taken instead, no task is lost.

An old revision has to go even if its pods never become ready, and even if they never connect:

* other pods that run but are not ready do not hold up drained ones whose own container has been
  not ready for a while. Of pods that are not ready the controller takes those of the lowest cost,
  and a drained worker becomes ready only by a restart of its container, which takes longer than
  the controller's choice;
* strangers (see `fleet`) may be ready. The dispatcher gives them no work any more; marked with
  the lowest cost they are the controller's choice if every other pod is running and ready, and no
  other one is marked.

Pure.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from penstock_operator import actions, demand, fleet, observed, scaling

UNREADY_SECONDS: Final = 10.0
"""A container that has run for this long and is not ready will not be within the next moment."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """By how many replicas may be lowered; with 0, what that waits for."""

    count: int
    waiting: str = ""


def confirm(
    wanted: actions.RemovePods,
    *,
    replicas: int,
    pods: Iterable[observed.Pod],
    workers: Mapping[str, demand.Worker],
    worker_container: str,
    now: float,
) -> Verdict:
    """May these pods be removed? `pods` are all of the Deployment; `replicas` is what it asks for
    now.
    """
    active = [pod for pod in pods if pod.active]
    if len(active) != replicas:
        return Verdict(count=0, waiting=f"{len(active)} of {replicas} pods exist")
    drained = harmless = strangers = 0
    steady, unready, marked = wanted.old, "", ""
    for pod in active:
        worker = workers.get(pod.uid)
        lowest = pod.deletion_cost == observed.LOWEST_DELETION_COST
        if pod.uid in wanted.drained:
            if pod.ready:
                return Verdict(count=0, waiting=f"drained pod {pod.name} is still ready")
            if not lowest:
                return Verdict(count=0, waiting=f"drained pod {pod.name} has no deletion cost yet")
            drained += 1
            steady = steady and _stays_unready(pod, worker_container=worker_container, now=now)
        elif (
            pod.uid in wanted.expendable
            and not pod.ready
            and fleet.holds_nothing(pod, worker, worker_container=worker_container)
        ):
            harmless += 1
        elif pod.uid in wanted.strangers and worker is None:
            if not lowest:
                return Verdict(count=0, waiting=f"unknown pod {pod.name} has no deletion cost yet")
            strangers += 1
        elif pod.phase != "Running" or (lowest and not pod.ready):
            return Verdict(count=0, waiting=f"pod {pod.name} is not ready yet")
        elif not pod.ready:
            unready = pod.name
        elif lowest:
            marked = pod.name
    if unready:
        # Of all that are not ready, only those of the lowest cost are certain to go first.
        count, waiting = (drained if steady else 0), f"pod {unready} is not ready yet"
    else:
        count = drained + min(wanted.expendable_count, harmless) + (0 if marked else strangers)
        waiting = "the pods are gone already"
        if marked and strangers:
            waiting = f"pod {marked} has the lowest deletion cost, too"
    return Verdict(count=count, waiting="" if count else waiting)


def _stays_unready(pod: observed.Pod, *, worker_container: str, now: float) -> bool:
    container = pod.container(worker_container)
    return (
        container is not None
        and container.running
        and not container.ready
        and container.started + UNREADY_SECONDS <= now
    )


def unmarked(pods: Iterable[observed.Pod], *, going: frozenset[str]) -> tuple[str, ...]:
    """Names of pods that are to go and do not have the lowest deletion cost yet."""
    return tuple(
        pod.name
        for pod in pods
        if pod.uid in going and pod.deletion_cost != observed.LOWEST_DELETION_COST
    )


def steps(
    crew: fleet.Fleet,
    decision: scaling.ScaleDecision,
    *,
    rolling: bool,
    shut_out: frozenset[str],
    workers: Mapping[str, demand.Worker],
    worker_container: str,
    idle_timeout_seconds: int,
    now: float,
) -> tuple[list[actions.Action], str]:
    """Phases two and three for every revision, and what removal waits for."""
    found: list[actions.Action] = []
    waiting = ""
    for revision in crew.revisions:
        deployment = revision.deployment
        if deployment is None or not revision.replicas:
            continue
        strangers = revision.strangers & shut_out
        marks = unmarked(revision.pods, going=revision.drained | strangers)
        if marks:
            found.append(actions.MarkPods(names=marks))
        spare = len(revision.expendable)
        if revision is crew.current:
            surplus = 0 if rolling else max(0, decision.current - decision.desired)
            spare = min(spare, surplus)
        if not (revision.drained or spare or strangers) or marks:
            continue
        if revision is crew.current:
            reason, message = why_down(decision, idle_timeout_seconds=idle_timeout_seconds)
        else:
            reason, message = "Rollout", f"rollout to revision {crew.current.hash}"
        removal = actions.RemovePods(
            name=deployment.name,
            drained=revision.drained,
            expendable=revision.expendable,
            expendable_count=spare,
            strangers=strangers,
            old=revision is not crew.current,
            pool_from=crew.replicas,
            reason=reason,
            message=message,
        )
        verdict = confirm(
            removal,
            replicas=revision.replicas,
            pods=revision.pods,
            workers=workers,
            worker_container=worker_container,
            now=now,
        )
        waiting = waiting or verdict.waiting
        if verdict.count:
            found.append(removal)
    return found, waiting


def why_down(decision: scaling.ScaleDecision, *, idle_timeout_seconds: int) -> tuple[str, str]:
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
