"""Pools to play with: made with kubectl, used through the public client, watched, then removed.

The handlers of such a pool are one Python file in a ConfigMap, mounted into the plain worker image,
so that no test needs an image of its own.
"""

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

import yaml

import penstock
from penstock import errors
from rig import kube, logs, timeline
from rig.installation import GONE_SECONDS_MAX, Installation

IMAGE = "localhost/penstock/worker:dev"
HANDLERS = "handlers"
_numbers = itertools.count(1)


def put_handlers(api: kube.Kube, *, namespace: str, source: Path) -> None:
    """Make a file of handlers available to pools of a namespace."""
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": HANDLERS},
            "data": {"handlers.py": source.read_text()},
        },
        namespace=namespace,
    )


def manifest(
    name: str,
    *,
    minimum: int = 1,
    maximum: int = 4,
    idle_seconds: int = 2,
    slots: int = 1,
    image: str = IMAGE,
    spec: kube.Object | None = None,
) -> kube.Object:
    """A WorkerPool whose pods run the handlers of `put_handlers`; `spec` adds to it or replaces."""
    worker = {
        "name": "worker",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["handlers:worker"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "volumeMounts": [{"name": "app", "mountPath": "/app", "readOnly": True}],
    }
    volumes = [{"name": "app", "configMap": {"name": HANDLERS}}]
    return {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": name},
        "spec": {
            "slotsPerWorker": slots,
            "scaling": {
                "minReplicas": minimum,
                "maxReplicas": maximum,
                "scaleDown": {"idleTimeoutSeconds": idle_seconds},
            },
            "drain": {"timeoutSeconds": 60},
            "template": {"spec": {"containers": [worker], "volumes": volumes}},
            **copy.deepcopy(spec or {}),
        },
    }


class Pool:
    """One WorkerPool on an installation, with a client of its own."""

    def __init__(self, installation: Installation, *, name: str, address: str) -> None:
        self.installation = installation
        self.name = name
        self.namespace = installation.namespace
        self.api = installation.api
        self.client = penstock.SyncClient(address, pool=f"{self.namespace}/{name}", timeout=60)

    # ---- the cluster's side

    @property
    def selector(self) -> str:
        """Selects the pool's pods and Deployments."""
        return f"penstock.dev/pool={self.name}"

    def resource(self) -> kube.Object:
        """The WorkerPool as it is now."""
        return self.api.pool(self.namespace, self.name)

    def apply(self, manifest: kube.Object) -> None:
        """`kubectl apply` a changed manifest of this pool."""
        self.api.apply(manifest, namespace=self.namespace)

    def pods(self) -> list[kube.Object]:
        """Its pods, those on their way out included."""
        return self.api.pods(self.namespace, self.selector)

    def ready(self) -> int:
        """How many pods are Ready and not on their way out."""
        return sum(map(kube.is_ready, self.pods()))

    def wanted(self) -> int:
        """`replicas` of its Deployments, together."""
        found = self.api.deployments(self.namespace, self.selector)
        return sum(deployment["spec"]["replicas"] for deployment in found)

    def events(self) -> list[kube.Object]:
        """Events about it, oldest first."""
        return self.api.events(self.namespace, "WorkerPool", self.name)

    def settles_at(self, count: int, *, seconds: float) -> None:
        """Wait until exactly `count` workers are wanted, Ready, and there at all."""

        def settled() -> bool:
            pods = self.pods()
            return self.wanted() == len(pods) == sum(map(kube.is_ready, pods)) == count

        try:
            self.api.wait(f"{self.name} to settle at {count} workers", settled, seconds=seconds)
        except kube.NotYetError as error:
            pods = self.pods()
            raise kube.NotYetError(
                f"{error}; {self.wanted()} wanted, {len(pods)} pods, "
                f"{sum(map(kube.is_ready, pods))} ready; {self.resource().get('status')}"
            ) from None

    # ---- the queue's side

    def submit(
        self, task_type: str, payloads: Iterable[object], *, timeout: float = 60
    ) -> list[str]:
        """Submit tasks with JSON payloads; the names of all, each accepted for certain."""
        submissions = [
            penstock.Submission(task_type, penstock.json_payload(payload)) for payload in payloads
        ]
        names = []
        for outcome in self.client.submit_many(submissions, timeout=timeout):
            if outcome.error is not None:
                raise outcome.error
            names.append(outcome.name)
        return names

    def wait_all(self, names: Sequence[str], *, seconds: float) -> list[penstock.Task]:
        """Wait until all tasks are over; as they are then, in the order of the names."""
        self.api.wait(f"{len(names)} tasks to end", lambda: self._all_over(names), seconds=seconds)
        return [self.client.get(name) for name in names]

    def depth(self) -> timeline.Depth:
        """Pending and running tasks; raises ConnectionError while the dispatcher is away."""
        try:
            info = self.client.pool(timeout=0.5)
        except errors.PenstockError as error:
            raise ConnectionError(str(error)) from error
        return timeline.Depth(pending=info.pending + info.delayed, running=info.in_flight)

    def known(self) -> bool:
        """The dispatcher has its configuration."""
        try:
            return bool(self.client.pool(timeout=1).name)
        except errors.PenstockError:
            return False

    def _all_over(self, names: Sequence[str]) -> bool:
        states = {task.name: task.terminal for task in self.client.list(page_size=1000)}
        return all(states.get(name, False) for name in names)

    # ---- watching

    def logs(self) -> logs.Collector:
        """Everything its workers say from now on, and have said if they still live."""
        return logs.Collector(
            self.api, namespace=self.namespace, selector=self.selector, container="worker"
        )

    def timeline(
        self, on_sample: Callable[[timeline.Sample], None] | None = None
    ) -> timeline.Timeline:
        """Queue and fleet from now on."""
        return timeline.Timeline(
            self.api,
            namespace=self.namespace,
            pool=self.name,
            depth=self.depth,
            on_sample=on_sample,
        )


class Maker:
    """Makes pools and removes them at the end. Use as a context manager."""

    def __init__(self, installation: Installation, *, address: str) -> None:
        self._installation = installation
        self._address = address
        self._made: list[Pool] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for pool in self._made:
            pool.client.close()
        names = [pool.name for pool in self._made]
        if not names:
            return
        api, namespace = self._installation.api, self._installation.namespace
        api.kubectl("delete", "workerpool", "--namespace", namespace, "--ignore-not-found", *names)
        selector = f"penstock.dev/pool in ({','.join(names)})"
        api.wait(
            f"the pods of {', '.join(names)} to go",
            lambda: not api.pods(namespace, selector),
            seconds=GONE_SECONDS_MAX,
        )

    def __call__(self, made: kube.Object, *, ready: int | None = None) -> Pool:
        """`kubectl apply` a WorkerPool under a name of its own; wait for its first workers.

        `ready` None = its minimum.
        """
        made = copy.deepcopy(made)
        made["metadata"]["name"] += f"-{next(_numbers)}"
        self._installation.api.apply(made, namespace=self._installation.namespace)
        return self._taken(made, ready=ready)

    def from_file(self, path: Path) -> Pool:
        """`kubectl apply -f` a manifest as it is; wait for its first workers."""
        api, namespace = self._installation.api, self._installation.namespace
        api.kubectl("apply", "--namespace", namespace, "--filename", str(path))
        return self._taken(yaml.safe_load(path.read_text()), ready=None)

    def _taken(self, made: kube.Object, *, ready: int | None) -> Pool:
        pool = Pool(self._installation, name=made["metadata"]["name"], address=self._address)
        self._made.append(pool)
        count = made["spec"]["scaling"]["minReplicas"] if ready is None else ready
        if count:
            pool.settles_at(count, seconds=60)
        self._installation.api.wait(f"the dispatcher to know {pool.name}", pool.known, seconds=30)
        return pool
