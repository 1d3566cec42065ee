"""The simulated world with a cluster in it: the operator's real decisions against a ReplicaSet
controller that may take any pod its rules allow.

The pool, the sessions and `reconcile` are real; the cluster is `rig.cluster_simulation`. The
operator works on old pictures of pods and of demand, loses its memory, and is restarted. Only this
is granted: between the operator's LIST and the controller's choice, milliseconds later, no probe
fails. A pod that is told to stop while its worker runs something, or holds a lease, is a broken
promise (but for what ran in a pod when it was shut out: that was taken from it long before); so is
a report that a process has ended which lives; and so is a fleet that does not settle.
"""

import dataclasses
from collections.abc import Callable

from penstock_dispatcher.convert import pool_view
from penstock_dispatcher.core import units
from penstock_operator import (
    actions,
    demand,
    memory,
    observed,
    reconcile,
    removal,
    resources,
    sections,
    spec,
)
from rig import cluster_simulation, simulated_worker

MAXIMUM = 5
IDLE_SECONDS = 3
OPERATOR_TURNS_MAX = 20
SETTLE_TURNS_MAX = 400
STARTUP_SECONDS = 20
LEASE_SECONDS, HEARTBEAT_SECONDS, GRACE_SECONDS = 6, 2, 10
"""Of the pool, as `simulation.World` configures the dispatcher."""
BAD_SHARE = 0.3
"""Of the revisions that come while there are faults; half of them each way."""


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """The operator's picture of the cluster: objects as they were a while ago."""

    deployments: tuple[observed.Deployment, ...] = ()
    pods: tuple[observed.Pod, ...] = ()


class FleetWorld(cluster_simulation.ClusterWorld):
    """One history of a pool whose workers are pods; see the module's docstring."""

    def _begin(self) -> None:
        super()._begin()
        self.revision = 1
        self.seen = Seen()
        self.demand: demand.Demand | None = None
        self.heard_epoch, self.heard_since = 0, 0
        self.memory = memory.Memory()

    @property
    def pool(self) -> spec.WorkerPoolSpec:
        """The WorkerPool as its manifest is now."""
        return spec.WorkerPoolSpec(
            namespace="default",
            name="sim",
            uid=simulated_worker.UID,
            generation=self.revision,
            template={"metadata": {"labels": {"edition": str(self.revision)}}},
            slots_per_worker=1,
            scaling=sections.Scaling(
                min_replicas=1,
                max_replicas=MAXIMUM,
                idle_timeout_seconds=IDLE_SECONDS,
                startup_timeout_seconds=STARTUP_SECONDS,
            ),
            delivery=sections.Delivery(
                lease_seconds=LEASE_SECONDS,
                heartbeat_seconds=HEARTBEAT_SECONDS,
                reconnect_grace_seconds=GRACE_SECONDS,
            ),
        )

    def _events(self) -> tuple[list[Callable[[], None]], list[int]]:
        events, weights = super()._events()
        table = dict(zip(events, weights, strict=True))
        # What the operator and the cluster do is theirs here.
        for mine in (self._kill_worker, self._reserve, self._release, self._remove_drained):
            table.pop(mine, None)
        # Faults are rare enough for a fleet to grow and shrink between them.
        table = {event: weight * 10 for event, weight in table.items()}
        table |= {
            self._crash: 2,
            self._jump: 5,
            self._break_link: 5,
            self._cancel: 1,
            self._talk: 300,
            self._operate: 300,
            self._look: 150,
            self._hear: 200,
            self._lose_memory: 5,
            self._replica_sets: 200,
            self._kubelet: 400,
            self._change_template: 2,
            self._heal: 3,
        }
        return list(table), list(table.values())

    def _talk(self) -> None:
        """Most streams move; what is said on them goes all the way."""
        if self.server is None:
            return
        for worker in self.workers:
            if self.rng.random() < 0.3:
                continue
            self._connect_worker(worker)
            while worker.write(self.now):
                pass
            while worker.link is not None and self._deliver_on(worker.link):
                pass
            self.server.commit(len(self.server.unsynced))
            while worker.read(self.now):
                pass

    def _change_template(self) -> None:
        self.revision += 1
        if self.faults and self.rng.random() < BAD_SHARE:
            bad = self.rng.choice([self.unready, self.mute])
            bad.add(resources.revision_hash(self.pool))

    # ------------------------------------------------------------ the operator

    def _look(self) -> None:
        """Watch events arrive: the picture is as of now, until the next time."""
        self.seen = Seen(tuple(self.deployments.values()), tuple(self.pods.values()))

    def _hear(self) -> None:
        """A demand message arrives; or the dispatcher cannot be reached."""
        if self.server is None:
            self.demand = None
            return
        if self.demand is None or self.heard_epoch != self.server.epoch:
            self.heard_epoch, self.heard_since = self.server.epoch, self.now
        snapshot = self.server.pool.demand(self.now, complete=True)
        message = pool_view.demand_view(self.server.pool, snapshot, self.server.epoch)
        self.demand = demand.merge(None, message, first=True)

    def _lose_memory(self) -> None:
        """Another operator leads."""
        self.memory = memory.Memory()

    def _operate(self) -> None:
        """Reconcile until nothing is left to do for now."""
        for _ in range(OPERATOR_TURNS_MAX):
            now = self.now / units.SECOND
            workers = self.demand.workers if self.demand is not None else {}
            self.memory = self.memory.settle(pods=self.seen.pods, workers=workers, now=now)
            plan = reconcile.plan(
                reconcile.Observation(
                    pool=self.pool,
                    deployments=self.seen.deployments,
                    pods=self.seen.pods,
                    demand=self.demand,
                    known_seconds=(self.now - self.heard_since) / units.SECOND,
                    memory=self.memory,
                    now=now,
                )
            )
            if not plan.actions or not all(self._act(action) for action in plan.actions):
                return

    def _act(self, action: actions.Action) -> bool:
        """Carry it out as the executor does; False = the picture was old, or nothing came of it."""
        match action:
            case actions.CreateDeployment():
                return self._create(action)
            case actions.ScaleDeployment():
                return self._write_replicas(action.name, action.replicas, action.resource_version)
            case actions.MarkPods():
                return self._mark(action)
            case actions.RemovePods():
                return self._remove(action)
            case actions.ReserveWorkers():
                return self._reserve_for(action)
            case actions.ShutOut():
                return self._shut_out_for(action)
            case actions.ReleaseWorkers():
                return self._release_for(action)
            case actions.DeleteDeployment():
                there = self.deployments.get(action.name)
                if there is not None and there.resource_version == action.resource_version:
                    del self.deployments[action.name]
                self._look()
                return False
            case actions.ReportGone():
                return self._report_gone(action)
        raise AssertionError(f"not expected here: {action}")

    def _report_gone(self, action: actions.ReportGone) -> bool:
        there = any(pod.uid == action.pod_uid for pod in self.pods.values())
        if action.absent and there:
            self._look()
            self.memory = self.memory.after_found(action.pod_uid, now=self.now / units.SECOND)
            return False
        assert action.pod_uid not in self.processes, f"{action.pod_name} lives and is given up"
        if self.server is not None:
            self.server.pool.fleet.gone(action.pod_uid, action.reason, self.now)
            self.server.turn()
        self.memory = self.memory.after_report(action.pod_uid, restarts=action.restarts)
        return True

    def _create(self, action: actions.CreateDeployment) -> bool:
        if action.name not in self.deployments:
            self.deployments[action.name] = observed.Deployment(
                name=action.name,
                uid=f"uid-{action.name}",
                resource_version=self._version(),
                revision=resources.revision_hash(self.pool),
                replicas=action.replicas,
                created=self.now / units.SECOND,
            )
        self._look()
        return True

    def _write_replicas(self, name: str, replicas: int, version: str) -> bool:
        there = self.deployments.get(name)
        if there is None or there.resource_version != version:
            self._look()
            return False
        assert replicas <= MAXIMUM, "never more than the maximum"
        self.deployments[name] = dataclasses.replace(
            there, replicas=replicas, resource_version=self._version()
        )
        # What was written is known at once; everything else stays as it was seen.
        self.seen = dataclasses.replace(self.seen, deployments=tuple(self.deployments.values()))
        if replicas < there.replicas:
            self._replica_sets()
        return True

    def _mark(self, action: actions.MarkPods) -> bool:
        for name in action.names:
            if name in self.pods:
                self.pods[name] = dataclasses.replace(
                    self.pods[name],
                    deletion_cost=observed.LOWEST_DELETION_COST,
                    resource_version=self._version(),
                )
        self._look()
        return True

    def _remove(self, action: actions.RemovePods) -> bool:
        self._look()
        deployment = self.deployments.get(action.name)
        if deployment is None or self.demand is None:
            return False
        verdict = removal.confirm(
            action,
            replicas=deployment.replicas,
            pods=[pod for pod in self.seen.pods if pod.revision == deployment.revision],
            workers=self.demand.workers,
            worker_container="worker",
            now=self.now / units.SECOND,
        )
        if not verdict.count:
            return False
        return self._write_replicas(
            action.name, deployment.replicas - verdict.count, deployment.resource_version
        )

    def _reserve_for(self, action: actions.ReserveWorkers) -> bool:
        if self.server is None:
            return False
        self.names += 1
        idle_ns = action.idle_for_seconds * units.SECOND if action.idle_only else None
        reservation_id = f"r-{self.names}"
        chosen = self.server.pool.reservations.reserve(
            count=action.count,
            idle_for_ns=idle_ns,
            revision=action.revision,
            reservation_id=reservation_id,
            now=self.now,
        )
        self.server.turn()
        self.memory = self.memory.after_reserve(
            [worker.pod_uid for worker in chosen],
            reservation_id=reservation_id,
            asked=action.count,
            now=self.now / units.SECOND,
        )
        return True

    def _shut_out_for(self, action: actions.ShutOut) -> bool:
        if self.server is None:
            return False
        pool = self.server.pool
        taken = pool.reservations.shut_out(
            action.pod_uids, expected=frozenset(pool.fleet.expected.values())
        )
        self.server.when_durable(lambda: self.promises.saw_drained(taken))
        for uid in taken:
            process = self.processes.get(uid)
            runs = set(process.running) | set(process.session.leases) if process else set()
            self.orphaned.setdefault(uid, runs)
        self.memory = self.memory.after_shut_out(
            taken, asked=len(action.pod_uids), now=self.now / units.SECOND
        )
        return True

    def _release_for(self, action: actions.ReleaseWorkers) -> bool:
        if self.server is None:
            return False
        self.server.pool.reservations.release(action.reservation_id, frozenset(action.pod_uids))
        self.server.turn()
        self.memory = self.memory.after_release(
            action.pod_uids,
            reservation_id=action.reservation_id,
            now=self.now / units.SECOND,
        )
        return True

    # ------------------------------------------------------------ the end

    def _remove_drained(self) -> None:
        """In a quiet turn, the cluster and the operator do all they can do."""
        if resources.revision_hash(self.pool) in self.unready | self.mute:
            self._change_template()  # somebody mends it
        self._replica_sets()
        for pod in list(self.pods.values()):
            self._kubelet_on(pod)
        self._look()
        self._hear()
        self._operate()

    def _check_end(self) -> None:
        for _ in range(SETTLE_TURNS_MAX):
            if self._settled():
                break
            self._quiet_turn()
            self.check()
        assert self._settled(), (
            f"the fleet does not settle: {self.deployments} {self.pods} {self.demand}"
        )
        super()._check_end()

    def _settled(self) -> bool:
        wanted = resources.deployment_name(self.pool)
        return (
            list(self.deployments) == [wanted]
            and self.deployments[wanted].replicas == 1
            and [pod.ready and not pod.terminating for pod in self.pods.values()] == [True]
        )
