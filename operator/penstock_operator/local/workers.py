"""The worker processes of one pool, as the reconcile sees them; and when one may be started.

A process stands for a pod, with a name and a UID of its own: the successor of one that has ended is
another worker. `replicas` is what the pool asks for, as a Deployment would. Pure; times are float
seconds since the epoch.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from penstock_operator import backoff, demand, observed, resources, spec

HEALTHY_SECONDS: Final = 10.0
"""A worker that has lived for this long did not die of its start: it is replaced at once."""
PROBLEM_CHARACTERS_MAX: Final = 300


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One worker process that runs. `connected`: the dispatcher has heard of it; `leaving`: it was
    told to stop.
    """

    name: str
    uid: str
    started: float
    connected: bool = False
    leaving: bool = False


def pods(
    processes: Iterable[Process],
    *,
    pool: spec.WorkerPoolSpec,
    revision: str,
    workers: Mapping[str, demand.Worker],
) -> tuple[observed.Pod, ...]:
    """The processes as pods. One is ready from its first connection until it is drained."""
    return tuple(
        observed.Pod(
            name=each.name,
            uid=each.uid,
            revision=revision,
            created=each.started,
            phase="Running",
            ready=each.connected and not is_drained(workers.get(each.uid)),
            terminating=each.leaving,
            containers=(
                observed.Container(
                    name=pool.worker_container,
                    running=True,
                    started=each.started,
                    ready=each.connected,
                ),
            ),
        )
        for each in processes
    )


def is_drained(worker: demand.Worker | None) -> bool:
    """It has confirmed that it runs nothing, and gets no work any more."""
    return worker is not None and worker.state is demand.WorkerState.DRAINED


def deployment(
    pool: spec.WorkerPoolSpec, *, revision: str, replicas: int, problem: str
) -> observed.Deployment:
    """What the pool asks for, as a Deployment. `problem`: why processes do not stay alive."""
    return observed.Deployment(
        name=resources.deployment_name(pool, revision=revision),
        uid=pool.uid,
        resource_version="1",
        revision=revision,
        replicas=replicas,
        create_failure=problem,
    )


class Starts:
    """When missing workers are started: at once, until some die young; then one at a time, later
    each time, until one has connected.
    """

    def __init__(self) -> None:
        self._backoff = backoff.Backoff()
        self.deaths = 0
        """In a row, without one that connected."""
        self.problem = ""
        """Why workers do not stay alive, in the words of the last one; empty = they do."""

    def connected(self) -> None:
        """A worker has come as far as that."""
        self._backoff.reset()
        self.deaths, self.problem = 0, ""

    def died(self, *, lived_seconds: float, words: str, now: float, draw: float) -> None:
        """A worker has ended that nobody had told to."""
        if lived_seconds >= HEALTHY_SECONDS:
            return
        self._backoff.failed(now, draw=draw)
        self.deaths += 1
        self.problem = words[:PROBLEM_CHARACTERS_MAX]

    def left(self, now: float) -> float:
        """Seconds until the next one may be started."""
        return self._backoff.left(now)

    def allowed(self, missing: int, *, unproven: int, now: float) -> int:
        """How many of the missing workers to start now. `unproven`: started and not yet
        connected.
        """
        if not self.problem:
            return missing
        return 0 if self.left(now) or unproven else min(1, missing)
