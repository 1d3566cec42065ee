"""One pool's reconcile: observe, plan, act, until the plan asks for nothing; then report.

A `Controller` is one task with one flag. Whatever happens (a watch event, demand, a timer) sets
the flag; however often it was set, one turn follows, which looks at everything. A turn plans anew
after each action, with what that action taught (see `reconcile`), for at most `PASSES_MAX`
passes; a conflict refreshes the object and is one pass.

Nothing is read before a scale-up: the Deployment's last observed version is the precondition of
the write, and a conflict says that it was too old. A scale-down is in no hurry and reads
everything first.

What Kubernetes or the dispatcher refuses is tried again, later each time (see `backoff`). Until
then whatever wakes the pool only makes it look and report: demand comes ten times a second, and
must not become ten refused writes a second. Another generation of the spec, or another stream to a
dispatcher that had failed, is a reason to try at once.
"""

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from penstock_operator import (
    backoff,
    cluster,
    conditions,
    demand,
    departures,
    dispatcher_link,
    executor,
    fields,
    health,
    metrics,
    observed,
    reconcile,
    report,
    settings,
    spec,
    store,
)

PASSES_MAX: Final = 16
RETRY_SECONDS: Final = 1.0
RECHECK_SECONDS_MIN: Final = 0.05

logger = logging.getLogger(__name__)


class Controller:
    """Of one WorkerPool object. `wall` is the time of day in seconds."""

    def __init__(
        self,
        *,
        key: store.Key,
        uid: str,
        api: cluster.Cluster,
        objects: store.Store,
        link: dispatcher_link.DispatcherLink,
        gone: departures.Departures,
        config: settings.Settings,
        numbers: metrics.Metrics,
        wall: Callable[[], float],
    ) -> None:
        self._key = key
        self._uid = uid
        self._objects = objects
        self._link = link
        self._config = config
        self._numbers = numbers
        self._wall = wall
        self._dirty = asyncio.Event()
        self._reporter = report.Reporter(
            api=api, objects=objects, key=key, instance=config.operator_id
        )
        self._hands = executor.Executor(
            key=key,
            uid=uid,
            api=api,
            objects=objects,
            link=link,
            gone=gone,
            workers=config.workers,
            numbers=numbers,
            scaled=self._reporter.scaled,
            wall=wall,
        )
        self._parsed: tuple[int, spec.WorkerPoolSpec | None, tuple[fields.Violation, ...]] = (
            -1,
            None,
            (),
        )
        self._api_error = ""
        self._acting = backoff.Backoff()
        self._telling = backoff.Backoff()
        self._link_failed = False
        self._waiting_since: float | None = None

    def wake(self) -> None:
        """Something changed: look at everything once more."""
        self._dirty.set()

    def link_changed(self) -> None:
        """The dispatcher came or went."""
        if self._link_failed:
            self._acting.reset()
        self.wake()

    async def run(self) -> None:
        """Reconcile for ever; ends by cancellation only."""
        self._dirty.set()
        recheck: float | None = None
        while True:
            try:
                async with asyncio.timeout(recheck):
                    await self._dirty.wait()
            except TimeoutError:
                logger.debug("%s/%s: time for another look", *self._key)
            self._dirty.clear()
            recheck = await self._guarded_turn()

    async def _guarded_turn(self) -> float | None:
        try:
            with self._numbers.turn_seconds.time():
                outcome, recheck = await self._turn()
        except Exception:
            # Of whatever kind, it must not end the pool's task: it is told, and tried again.
            logger.warning("%s/%s: the reconcile failed", *self._key, exc_info=True)
            self._acting.failed(self._wall(), draw=random.random())
            outcome, recheck = "failed", self._acting.left(self._wall())
        self._numbers.turns.labels(*self._key, outcome).inc()
        return recheck

    # ------------------------------------------------------------ one turn

    async def _turn(self) -> tuple[str, float | None]:
        """Answers with the outcome, and the seconds after which to come back."""
        body = self._objects.pools.get(self._key)
        if body is None or body["metadata"].get("uid") != self._uid:
            return "done", None
        pool, violations = self._parse(body)
        outcome, plan = "done", None
        if pool is not None and not violations:
            outcome, plan = await self._act(pool)
        now = self._wall()
        come_back = None
        if not self._telling.left(now):
            try:
                come_back = await self._report(body, pool, violations, plan, now=now)
            except cluster.ApiError as error:
                logger.warning("%s/%s: the status was not written: %s", *self._key, error)
                self._telling.failed(now, draw=random.random())
                outcome = "failed"
            else:
                self._telling.reset()
        due = [
            come_back,
            self._acting.left(now) or None,
            self._telling.left(now) or None,
            plan.recheck_after_seconds if plan is not None else None,
        ]
        return outcome, min(
            (max(RECHECK_SECONDS_MIN, each) for each in due if each is not None), default=None
        )

    async def _act(self, pool: spec.WorkerPoolSpec) -> tuple[str, reconcile.Plan]:
        """Carry the plan out, or only make one while the last failure is fresh."""
        if self._acting.left(self._wall()):
            return "held", reconcile.plan(self._look(pool))
        try:
            plan = await self._carry_out(pool)
        except (cluster.ApiError, dispatcher_link.LinkDown) as failed:
            logger.warning("%s/%s: %s", *self._key, failed)
            self._link_failed = isinstance(failed, dispatcher_link.LinkDown)
            self._api_error = "" if self._link_failed else str(failed)
            self._acting.failed(self._wall(), draw=random.random())
            return "failed", reconcile.plan(self._look(pool))
        self._link_failed, self._api_error = False, ""
        self._acting.reset()
        return "done", plan

    def _parse(
        self, body: Mapping[str, Any]
    ) -> tuple[spec.WorkerPoolSpec | None, tuple[fields.Violation, ...]]:
        generation = int((body.get("metadata") or {}).get("generation") or 0)
        if body and self._parsed[0] != generation:
            examined = spec.examine(body, policy=self._config.security)
            self._parsed = (generation, examined.pool, examined.violations)
            self._acting.reset()
        return self._parsed[1], self._parsed[2]

    def _look(self, pool: spec.WorkerPoolSpec) -> reconcile.Observation:
        now = self._wall()
        load = self._link.demand(pool.full_name, uid=self._uid)
        pods = self._objects.pods_of(self._key, uid=self._uid)
        if load is None:
            # A new stream brings the whole table: what an earlier one owed us is void.
            self._hands.memory = dataclasses.replace(
                self._hands.memory, reserved={}, released={}, shut_out=frozenset()
            )
        self._hands.memory = self._hands.memory.settle(
            pods=pods, workers=load.workers if load is not None else {}, now=now
        )
        return reconcile.Observation(
            pool=pool,
            deployments=self._objects.deployments_of(self._key, uid=self._uid),
            pods=pods,
            demand=load,
            known_seconds=self._link.known_for(pool.full_name),
            memory=self._hands.memory,
            address=self._config.workers.address,
            now=now,
        )

    async def _carry_out(self, pool: spec.WorkerPoolSpec) -> reconcile.Plan:
        if self._hands.memory.held is None:
            published = (self._objects.pools[self._key].get("status") or {}).get("desiredReplicas")
            self._hands.memory = dataclasses.replace(self._hands.memory, held=published)
        for _ in range(PASSES_MAX):
            # An action may have changed the spec (the first spec.replicas).
            pool = self._parse(self._objects.pools.get(self._key, {}))[0] or pool
            plan = reconcile.plan(self._look(pool))
            self._hands.memory = dataclasses.replace(self._hands.memory, held=plan.wanted)
            if not plan.actions:
                return plan
            for action in plan.actions:
                logger.debug("%s/%s: %s", *self._key, action)
                if not await self._hands.act(pool, action):
                    break  # what it was planned on has changed
        logger.warning("%s/%s: no end of actions, last %s", *self._key, plan.actions)
        return dataclasses.replace(plan, recheck_after_seconds=RETRY_SECONDS)

    # ------------------------------------------------------------ report

    async def _report(
        self,
        body: Mapping[str, Any],
        pool: spec.WorkerPoolSpec | None,
        violations: tuple[fields.Violation, ...],
        plan: reconcile.Plan | None,
        *,
        now: float,
    ) -> float | None:
        load: demand.Demand | None = None
        problems: tuple[health.Problem, ...] = ()
        pods = self._objects.pods_of(self._key, uid=self._uid)
        if pool is not None and plan is not None:
            load = self._link.demand(pool.full_name, uid=self._uid)
            settled = self._link.synced_for() >= health.CONNECT_SECONDS
            problems = health.problems(
                pool,
                deployments=self._deployments(),
                pods=pods,
                workers=load.workers if load is not None and settled else None,
                now=now,
            )
            self._numbers.desired.labels(*self._key).set(plan.wanted)
            self._numbers.ready.labels(*self._key).set(
                sum(revision.ready for revision in plan.fleet.revisions)
            )
        if plan is None or not plan.waiting:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        if load is not None:
            self._reporter.restorable(load)
        situation = conditions.Situation(
            pool=pool,
            violations=violations,
            plan=plan,
            load=load,
            problems=problems,
            link=self._link.status(),
            api_error=self._api_error,
            waiting_seconds=now - self._waiting_since if self._waiting_since is not None else 0.0,
            tasks_fail=load is not None
            and self._reporter.tasks_fail(
                failed_total=load.failed_total, dead_lettered=load.dead_lettered, now=now
            ),
        )
        come_back = await self._reporter.report(body, situation, pods=pods, now=now)
        down = situation.link.down_seconds
        if 0 < down < conditions.DOWN_SECONDS:
            later = conditions.DOWN_SECONDS - down
            come_back = later if come_back is None else min(come_back, later)
        return come_back

    def _deployments(self) -> tuple[observed.Deployment, ...]:
        return self._objects.deployments_of(self._key, uid=self._uid)
