"""Penstock on a cluster: the chart in a namespace of its own, as a user installs it."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from rig import forward, kube
from rig.environment import ROOT

CHART = ROOT / "charts" / "penstock"
RESOURCE = "workerpools.penstock.dev"
GRPC_PORT = 50051
READY_SECONDS_MAX = 120.0
GONE_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Installation:
    """One release. The release is called `penstock`, so all names start with that."""

    api: kube.Kube
    namespace: str
    release: str = "penstock"

    def install(self, *arguments: str) -> None:
        """Create the namespace, `helm install`, and wait until both parts are ready."""
        self.api.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        )
        self.api.helm(
            "install", self.release, str(CHART), "--namespace", self.namespace, *arguments
        )
        self.await_ready()

    def await_ready(self) -> None:
        """Wait until dispatcher and operator are ready."""

        def ready() -> bool:
            parts = [self.part("dispatcher"), self.part("operator")]
            return all(pods and all(map(kube.is_ready, pods)) for pods in parts)

        try:
            self.api.wait("dispatcher and operator", ready, seconds=READY_SECONDS_MAX)
        except kube.NotYetError as error:
            raise kube.NotYetError(f"{error}\n{self.describe()}") from None

    def uninstall(self) -> None:
        """`helm uninstall`."""
        self.api.helm("uninstall", self.release, "--namespace", self.namespace)

    def remove(self) -> None:
        """Uninstall whatever there is and delete the namespace with all its pools."""
        with contextlib.suppress(kube.CommandError):
            self.uninstall()
        self.api.kubectl(
            "delete",
            "namespace",
            self.namespace,
            "--ignore-not-found",
            f"--timeout={GONE_SECONDS_MAX:.0f}s",
        )

    def part(self, component: str) -> list[kube.Object]:
        """The pods of `dispatcher` or `operator`, without those on their way out."""
        selector = (
            f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component={component}"
        )
        pods = self.api.pods(self.namespace, selector)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def forward(self) -> forward.Forward:
        """A port of this machine that leads to the dispatcher."""
        return forward.Forward(
            self.api.variables,
            namespace=self.namespace,
            target=f"service/{self.release}-dispatcher",
            port=GRPC_PORT,
        )

    def describe(self) -> str:
        """What somebody wants to see when something went wrong."""
        told = []
        for arguments in (
            ("get", "pods,deployments,statefulsets,workerpools", "--output=wide"),
            ("get", "workerpools", "--output=yaml"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", f"deployment/{self.release}-operator", "--tail=60"),
            ("logs", f"statefulset/{self.release}-dispatcher", "--tail=60"),
            ("logs", "--selector", kube.WORKERS, "--tail=15", "--prefix"),
        ):
            with contextlib.suppress(kube.CommandError):
                said = self.api.kubectl(*arguments, "--namespace", self.namespace)
                told.append(f"$ kubectl {' '.join(arguments)}\n{said}")
        return "\n".join(told)


def has_resource(api: kube.Kube) -> bool:
    """Whether the cluster knows WorkerPools."""
    try:
        api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{RESOURCE}")
    except kube.NotFoundError:
        return False
    return True


def manifest(name: str) -> Path:
    """The WorkerPool manifest of an example."""
    return ROOT / "examples" / name / "workerpool.yaml"
