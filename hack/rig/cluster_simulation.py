"""The simulated world's cluster: a model of what Kubernetes documents about Deployments and pods.

A ReplicaSet controller creates and deletes pods to match replicas, and chooses its victims by
phase, readiness and deletion cost, and between equals at random. A kubelet starts one worker
process a pod, shows a probe's answer late, and sometimes a starved probe of a busy pod as not
ready. Some revisions are bad: the pods of one never become ready, though their workers work; the
workers of another are ready and never connect. Who decides about replicas is not known here.
"""

import dataclasses

from penstock_dispatcher.core import units
from penstock_operator import observed
from rig import simulated_worker, simulation

STARVED_SHARE = 0.1
"""Of a pod's readiness probes."""


class ClusterWorld(simulation.World):
    """A world whose workers are processes in pods; see the module's docstring."""

    def _begin(self) -> None:
        self.deployments: dict[str, observed.Deployment] = {}
        self.pods: dict[str, observed.Pod] = {}
        self.processes: dict[str, simulated_worker.WorkerProcess] = {}
        """By pod UID: those that live."""
        self.versions = 0
        self.unready: set[str] = set()
        """Revisions whose pods never become ready."""
        self.mute: set[str] = set()
        """Revisions whose workers never connect."""
        self.orphaned: dict[str, set[str]] = {}
        """Pods that were shut out, and what they ran then."""
        self.removed = 0

    def _connect_worker(self, worker: simulated_worker.WorkerProcess) -> None:
        if worker.session.identity.revision not in self.mute:
            super()._connect_worker(worker)

    def _version(self) -> str:
        self.versions += 1
        return str(self.versions)

    def _replica_sets(self) -> None:
        """Make the number of pods what each Deployment asks for."""
        for deployment in list(self.deployments.values()):
            mine = [pod for pod in self.pods.values() if pod.revision == deployment.revision]
            active = [pod for pod in mine if pod.active]
            for _ in range(deployment.replicas - len(active)):
                self.names += 1
                name = f"{deployment.name}-{self.names}"
                self.pods[name] = observed.Pod(
                    name=name,
                    uid=name,  # what a worker of the simulation says as its name, too
                    resource_version=self._version(),
                    revision=deployment.revision,
                    created=self.now / units.SECOND,
                )
            excess = len(active) - deployment.replicas
            if excess > 0:
                self.rng.shuffle(active)
                for pod in sorted(active, key=_victim_rank)[:excess]:
                    self._stop_pod(pod)
            counted = sum(
                pod.revision == deployment.revision for pod in self.pods.values() if pod.active
            )
            self.deployments[deployment.name] = dataclasses.replace(deployment, pods=counted)

    def _stop_pod(self, pod: observed.Pod) -> None:
        """SIGTERM."""
        process = self.processes.get(pod.uid)
        if process is not None:
            lost = self.orphaned.get(pod.uid, set())
            assert process.running.keys() <= lost, f"{pod.name} is stopped while it runs something"
            assert set(process.session.leases) <= lost, f"{pod.name} is stopped with a lease"
            process.session.stop("SIGTERM", 60)
        self.removed += 1
        self.pods[pod.name] = dataclasses.replace(
            pod, terminating=True, resource_version=self._version()
        )

    def _kubelet(self) -> None:
        """One pod moves on: it starts, its probe is read, or it has ended."""
        if self.pods:
            self._kubelet_on(self.rng.choice(list(self.pods.values())))

    def _kubelet_on(self, pod: observed.Pod) -> None:
        process = self.processes.get(pod.uid)
        if pod.terminating:
            if process is None or process.session.finished or self.rng.random() < 0.2:
                self._end_pod(pod, process)
            return
        if process is None:
            self._new_worker(pod.uid, slots=1, revision=pod.revision)
            process = self.processes[pod.uid] = self.workers[-1]
        starved = self.faults and self.rng.random() < STARVED_SHARE
        alive = not (process.session.drained or starved)
        ready = alive and pod.revision not in self.unready
        worker = pod.container("worker")
        if worker is None or (pod.ready, worker.ready) != (ready, alive):
            started = self.now / units.SECOND if worker is None else worker.started
            running = observed.Container(name="worker", running=True, ready=alive, started=started)
            self.pods[pod.name] = dataclasses.replace(
                pod,
                phase="Running",
                ready=ready,
                containers=(running,),
                resource_version=self._version(),
            )

    def _end_pod(self, pod: observed.Pod, process: simulated_worker.WorkerProcess | None) -> None:
        if process is not None:
            if process.running or process.session.unacknowledged:
                return  # it finishes what it runs
            self._end_process(process)
            del self.processes[pod.uid]
        del self.pods[pod.name]
        if self.server is not None:
            self.server.pool.fleet.gone(pod.uid, "Completed", self.now)
            self.server.turn()

    def _heal(self) -> None:
        """The network, or a sidecar, is mended: what was bad may be good from one moment on."""
        self.mute.clear()
        self.unready.clear()


def _victim_rank(pod: observed.Pod) -> tuple[int, bool, int]:
    """Kubernetes takes the lowest first: Pending before Running, not ready before ready, then the
    deletion cost. What follows in its list (age, restarts) is chance here.
    """
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    return phases.get(pod.phase, 1), pod.ready, int(pod.deletion_cost or 0)
