"""One pool on this machine: look, plan, act; and its worker processes.

The turn is the operator's: `reconcile.plan` is asked again after each action until it asks for
nothing. Before it, workers that have confirmed that they are drained get SIGTERM, and the number of
replicas goes down with them; after it, missing processes are started as `workers.Starts` allows.
The end of a process is told to the dispatcher at once, so that what it ran runs elsewhere.
"""

import asyncio
import collections
import dataclasses
import logging
import pathlib
import random
import signal
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from penstock_operator import (
    actions,
    demand,
    dispatcher_link,
    memory,
    reconcile,
    removal,
    reservations,
    spec,
    status,
)
from penstock_operator.local import children, launch, picture, workers

PASSES_MAX: Final = 16
RECHECK_SECONDS_MIN: Final = 0.05
RETRY_SECONDS: Final = 1.0
SUFFIX_CHARACTERS: Final = 8
SCALES_MAX: Final = 16
"""Changes of the number of workers that are remembered, to be shown."""
KILLED: Final = children.SIGNAL_BASE + signal.SIGKILL

logger = logging.getLogger(__name__)


class LocalPool:
    """`wall` is the time of day in seconds; `changed` is called when a process has come or gone."""

    def __init__(
        self,
        how: launch.Launch,
        *,
        link: dispatcher_link.DispatcherLink,
        address: str,
        folder: pathlib.Path,
        logs: pathlib.Path,
        wall: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.spec: spec.WorkerPoolSpec = how.pool
        self._how = how
        self._link = link
        self._address = address
        self._folder = folder
        self._logs = logs
        self._wall = wall
        self._changed = changed
        self._dirty = asyncio.Event()
        self._memory = memory.Memory()
        self._replicas: int | None = None
        """None = nothing has been decided yet."""
        self._table: dict[str, tuple[workers.Process, children.Child]] = {}
        self._starts = workers.Starts()
        self._plan: reconcile.Plan | None = None
        self._scales: collections.deque[status.LastScale] = collections.deque(maxlen=SCALES_MAX)
        self._seen = demand.Demand()
        self._stopping = False
        self.had_minimum = False
        """Its minimum of workers has been connected."""

    # ------------------------------------------------------------ what others see and say

    def wake(self) -> None:
        """Something changed: look at everything once more."""
        self._dirty.set()

    @property
    def processes(self) -> int:
        """That run."""
        return len(self._table)

    @property
    def problem(self) -> str:
        """Why workers do not stay alive; empty = they do."""
        if not self._starts.problem:
            return ""
        wait = self._starts.left(self._wall())
        when = f"the next one starts in {wait:.0f} s" if wait else "the next one is being tried"
        return f"workers do not stay alive ({self._starts.problem}); {when}; logs in {self._logs}"

    def picture(self) -> picture.PoolPicture:
        """As it is now."""
        load = self._demand()
        self._seen = load or self._seen
        return picture.of_pool(
            name=self.spec.full_name,
            load=self._seen,
            known=load is not None,
            processes=[process for process, _ in self._table.values()],
            plan=self._plan,
            scales=self._scales,
            problem=self.problem,
        )

    def names(self) -> dict[str, str]:
        """Of all workers that run, by UID."""
        return {uid: process.name for uid, (process, _) in self._table.items()}

    def report_earlier(self, names: Mapping[str, str]) -> None:
        """Workers of a fleet that was killed, by UID: the dispatcher need not wait for them."""
        for uid, name in names.items():
            self._report_gone(name, uid, exit_code=KILLED)

    def stop(self) -> None:
        """Start nobody any more; every worker finishes what it runs and leaves."""
        self._stopping = True
        for uid in list(self._table):
            self._tell_to_leave(uid)

    def kill(self) -> None:
        """End every process now."""
        self._stopping = True
        for _, child in self._table.values():
            child.kill()

    # ------------------------------------------------------------ turns

    async def run(self) -> None:
        """Reconcile for ever; ends by cancellation only."""
        self._dirty.set()
        recheck: float | None = None
        while True:
            try:
                async with asyncio.timeout(recheck):
                    await self._dirty.wait()
            except TimeoutError:
                logger.debug("%s: time for another look", self.spec.full_name)
            self._dirty.clear()
            try:
                recheck = await self._turn()
            except dispatcher_link.LinkDown as error:
                logger.warning("%s: %s", self.spec.full_name, error)
                recheck = RETRY_SECONDS

    async def _turn(self) -> float | None:
        self._note_connected()
        self._dismiss_drained()
        for _ in range(PASSES_MAX):
            self._plan = reconcile.plan(self._look())
            self._memory = dataclasses.replace(self._memory, held=self._plan.wanted)
            if not [each for each in self._plan.actions if await self._act(each)]:
                break
        now = self._wall()
        self._start_missing(now)
        due = (self._plan.recheck_after_seconds if self._plan else None, self._starts.left(now))
        return min((max(RECHECK_SECONDS_MIN, each) for each in due if each), default=None)

    def _demand(self) -> demand.Demand | None:
        return self._link.demand(self.spec.full_name, uid=self.spec.uid)

    def _look(self) -> reconcile.Observation:
        now, load = self._wall(), self._demand()
        known = load.workers if load is not None else {}
        pods = workers.pods(
            (process for process, _ in self._table.values()),
            pool=self.spec,
            revision=self._how.revision,
            workers=known,
        )
        if load is None:
            # A new stream brings the whole table: what an earlier one owed us is void.
            self._memory = dataclasses.replace(self._memory, reserved={}, released={})
        self._memory = self._memory.settle(pods=pods, workers=known, now=now)
        deployment = workers.deployment(
            self.spec,
            revision=self._how.revision,
            replicas=self._replicas or 0,
            problem=self._starts.problem,
        )
        return reconcile.Observation(
            pool=self.spec,
            deployments=() if self._replicas is None else (deployment,),
            pods=pods,
            demand=load,
            known_seconds=self._link.known_for(self.spec.full_name),
            memory=self._memory,
            now=now,
        )

    def _note_connected(self) -> None:
        load = self._demand()
        if load is None:
            return
        for uid, (process, child) in self._table.items():
            worker = load.workers.get(uid)
            if not process.connected and worker is not None and worker.connected:
                self._table[uid] = (dataclasses.replace(process, connected=True), child)
                self._starts.connected()
        connected = sum(process.connected for process, _ in self._table.values())
        if self._replicas is not None and connected >= self.spec.scaling.min_replicas:
            self.had_minimum = True

    # ------------------------------------------------------------ actions

    async def _act(self, action: actions.Action) -> bool:
        """Do it; False = it has no part here, or nothing was left to do."""
        match action:
            case actions.CreateDeployment():
                self._scaled(0, action.replicas, reason=action.reason, message=action.message)
                self._replicas = action.replicas
            case actions.ScaleDeployment():
                before, after = action.pool_from, action.pool_to
                self._scaled(before, after, reason=action.reason, message=action.message)
                self._replicas = action.replicas
            case actions.ReserveWorkers():
                self._memory = await reservations.reserve(
                    self._link, self.spec, action, remembered=self._memory, wall=self._wall
                )
            case actions.ReleaseWorkers():
                self._memory = await reservations.release(
                    self._link, self.spec, action, remembered=self._memory, wall=self._wall
                )
            case actions.ReportGone():
                # Not one of ours: all those are in our table.
                self._report_gone(action.pod_name, action.pod_uid, exit_code=action.exit_code)
                self._memory = self._memory.after_report(action.pod_uid, restarts=action.restarts)
            case actions.WriteReplicas():
                self.spec = dataclasses.replace(self.spec, replicas=action.replicas)
            case _:
                return False
        return True

    def _dismiss_drained(self) -> None:
        load = self._demand()
        if load is None or self._replicas is None:
            return
        gone = [
            uid
            for uid, (process, _) in self._table.items()
            if not process.leaving and workers.is_drained(load.workers.get(uid))
        ]
        for uid in gone:
            self._tell_to_leave(uid)
        if gone:
            before, self._replicas = self._replicas, max(0, self._replicas - len(gone))
            reason, message = "Drained", "drained"
            if self._plan is not None:
                reason, message = removal.why_down(
                    self._plan.decision,
                    idle_timeout_seconds=self.spec.scaling.idle_timeout_seconds,
                )
            self._scaled(before, self._replicas, reason=reason, message=message)

    def _tell_to_leave(self, uid: str) -> None:
        process, child = self._table[uid]
        self._table[uid] = (dataclasses.replace(process, leaving=True), child)
        child.terminate()

    def _scaled(self, before: int, after: int, *, reason: str, message: str) -> None:
        logger.info("%s: scaled %d to %d: %s", self.spec.full_name, before, after, message)
        self._scales.append(
            status.LastScale(
                time=self._wall(), before=before, after=after, reason=reason, message=message
            )
        )

    # ------------------------------------------------------------ processes

    def _start_missing(self, now: float) -> None:
        staying = [process for process, _ in self._table.values() if not process.leaving]
        count = self._starts.allowed(
            max(0, (self._replicas or 0) - len(staying)),
            unproven=sum(not process.connected for process in staying),
            now=now,
        )
        for _ in range(0 if self._stopping else count):
            self._start(now)

    def _start(self, now: float) -> None:
        uid = str(uuid.uuid4())
        name = f"{self.spec.name}-{self._how.revision}-{uid[:SUFFIX_CHARACTERS]}"
        environment = self._how.environment(address=self._address, pod_name=name, pod_uid=uid)
        try:
            child = children.Child(
                self._how.arguments(environment),
                environment=environment,
                folder=self._folder,
                log=self._logs / f"{name}.log",
                ended=lambda child: self._ended(uid, child),
            )
        except OSError as error:
            words = f"cannot be started: {error}"
            self._starts.died(lived_seconds=0, words=words, now=now, draw=random.random())
            return
        logger.info("%s: started %s, process %d", self.spec.full_name, name, child.pid)
        self._table[uid] = (workers.Process(name=name, uid=uid, started=now), child)
        self._changed()

    def _ended(self, uid: str, child: children.Child) -> None:
        process, _ = self._table.pop(uid)
        self._changed()
        code, now = child.exit_code or 0, self._wall()
        self._report_gone(process.name, uid, exit_code=code)
        if not process.leaving:
            words = f"{process.name}: {child.end_words()}"
            logger.warning("%s: %s", self.spec.full_name, words)
            self._starts.died(
                lived_seconds=now - process.started, words=words, now=now, draw=random.random()
            )
        self.wake()

    def _report_gone(self, name: str, uid: str, *, exit_code: int) -> None:
        self._link.worker_gone(
            pool=self.spec.full_name,
            pod_name=name,
            pod_uid=uid,
            reason="Error" if exit_code else "Completed",
            exit_code=exit_code,
        )
