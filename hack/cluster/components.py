"""What runs in the node: the command lines.

This is a table, with the reasons beside the values that are not obvious. The
supervisor knows nothing of Kubernetes: it gets a plan (``Component``) and keeps
it running.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from layout import (
    API_PORT,
    API_SERVER,
    CONTAINERD_SOCKET,
    INSIDE,
    INSIDE_CONFIG,
    INSIDE_NODE,
    INSIDE_PKI,
    NODE_ADDRESS,
    NODE_NAME,
    POD_SUBNET,
    SERVICE_SUBNET,
)

#: Gates: a component is started when its gate is open.
GATE_NONE = ""
GATE_API = "api"
GATE_CONTAINERD = "containerd"


@dataclass(frozen=True, slots=True)
class Component:
    """One process of the node: its program and arguments, and what must be there first."""

    name: str
    arguments: list[str]
    gate: str = GATE_NONE

    def as_json(self) -> dict[str, Any]:
        """For the plan file."""
        return asdict(self)


def components() -> list[Component]:
    """The node's processes, in the order of their start."""
    config, pki = INSIDE_CONFIG, INSIDE_PKI
    return [
        Component(
            "etcd",
            [
                "etcd",
                "--data-dir=/var/lib/etcd",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",  # a test cluster does not survive its machine anyway
                "--log-level=warn",
            ],
        ),
        Component("containerd", ["containerd", f"--config={config}/containerd.toml"]),
        Component(
            "kube-apiserver",
            [
                "kube-apiserver",
                "--etcd-servers=http://127.0.0.1:2379",
                f"--advertise-address={NODE_ADDRESS}",
                f"--secure-port={API_PORT}",
                f"--service-cluster-ip-range={SERVICE_SUBNET}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                f"--client-ca-file={pki}/ca.crt",
                f"--tls-cert-file={pki}/apiserver.crt",
                f"--tls-private-key-file={pki}/apiserver.key",
                f"--kubelet-client-certificate={pki}/admin.crt",
                f"--kubelet-client-key={pki}/admin.key",
                f"--kubelet-certificate-authority={pki}/ca.crt",
                # Without this, logs and exec try to resolve the node's name.
                "--kubelet-preferred-address-types=InternalIP",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={pki}/service-accounts.pub",
                f"--service-account-signing-key-file={pki}/service-accounts.key",
            ],
        ),
        Component(
            "kube-controller-manager",
            [
                "kube-controller-manager",
                f"--kubeconfig={config}/controller-manager.kubeconfig",
                f"--authentication-kubeconfig={config}/controller-manager.kubeconfig",
                f"--authorization-kubeconfig={config}/controller-manager.kubeconfig",
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={pki}/service-accounts.key",
                f"--root-ca-file={pki}/ca.crt",
                f"--cluster-signing-cert-file={pki}/ca.crt",
                f"--cluster-signing-key-file={pki}/ca.key",
                "--allocate-node-cidrs",
                f"--cluster-cidr={POD_SUBNET}",
                f"--service-cluster-ip-range={SERVICE_SUBNET}",
                # Volumes for claims: folders below /tmp, which is the node's own.
                "--enable-hostpath-provisioner",
                # The defaults (20, 30) hold back a fleet that grows by a hundred pods.
                "--kube-api-qps=100",
                "--kube-api-burst=200",
            ],
            GATE_API,
        ),
        Component(
            "kube-scheduler",
            [
                "kube-scheduler",
                f"--kubeconfig={config}/scheduler.kubeconfig",
                f"--authentication-kubeconfig={config}/scheduler.kubeconfig",
                f"--authorization-kubeconfig={config}/scheduler.kubeconfig",
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
            ],
            GATE_API,
        ),
        Component("kube-proxy", ["kube-proxy", f"--config={config}/kube-proxy.json"], GATE_API),
        Component(
            "kubelet",
            [
                "kubelet",
                f"--config={config}/kubelet.json",
                f"--kubeconfig={config}/kubelet.kubeconfig",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={NODE_ADDRESS}",
            ],
            f"{GATE_API},{GATE_CONTAINERD}",
        ),
        # A plain process beside the kubelet: one pod, one image and one start less.
        Component("coredns", ["coredns", "-conf", f"{config}/Corefile"], GATE_API),
    ]


def plan(*, tools: str) -> dict[str, Any]:
    """The supervisor's orders, as JSON."""
    return {
        "tools": f"{INSIDE}/{tools}",
        "logs": f"{INSIDE_NODE}/logs",
        "api": API_SERVER,
        "containerd": str(CONTAINERD_SOCKET),
        "components": [component.as_json() for component in components()],
    }
