"""The configuration files of what runs in the node, with the reasons beside the values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from layout import (
    CGROUP,
    CONTAINERD_SOCKET,
    INSIDE_CONFIG,
    INSIDE_PKI,
    NODE_ADDRESS,
    NODE_NAME,
    NODE_POD_SUBNET,
    PAUSE_IMAGE,
    POD_SUBNET,
)

CAP_SYS_RESOURCE = 24
MAX_PODS = 200


def kubeconfigs() -> dict[str, str]:
    """File name → the holder of the certificate, for the components above."""
    names = ("controller-manager", "scheduler", "proxy", "kubelet", "admin")
    return {f"{name}.kubeconfig": name for name in names}


def files(*, runc: str, snapshotter: str) -> dict[str, str]:
    """File name → text, of every configuration file in the node."""
    return {
        "containerd.toml": _containerd(runc=runc, snapshotter=snapshotter),
        "cni/10-penstock.conflist": _json(_network()),
        "kubelet.json": _json(_kubelet()),
        "kube-proxy.json": _json(_proxy()),
        "Corefile": _dns(),
        # Pods resolve cluster names only: there is nothing else they can reach.
        "resolv.conf": f"nameserver {NODE_ADDRESS}\n",
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def _containerd(*, runc: str, snapshotter: str) -> str:
    # A process without CAP_SYS_RESOURCE cannot lower its out-of-memory score. Unless
    # containerd is told to leave it alone, every sandbox then fails to start.
    restrict = "true" if not _has_capability(CAP_SYS_RESOURCE) else "false"
    runtime = "plugins.'io.containerd.cri.v1.runtime'"
    images = "plugins.'io.containerd.cri.v1.images'"
    return f"""version = 3
root = '/var/lib/containerd'
state = '/run/containerd'
[grpc]
  address = '{CONTAINERD_SOCKET}'
[{images}]
  snapshotter = '{snapshotter}'
[{images}.pinned_images]
  sandbox = '{PAUSE_IMAGE}'
[{runtime}]
  restrict_oom_score_adj = {restrict}
[{runtime}.containerd]
  default_runtime_name = 'runc'
[{runtime}.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[{runtime}.containerd.runtimes.runc.options]
  BinaryName = '{runc}'
  SystemdCgroup = false
[{runtime}.cni]
  bin_dirs = ['/usr/lib/cni', '/opt/cni/bin']
  conf_dir = '{INSIDE_CONFIG}/cni'
"""


def _network() -> dict[str, Any]:
    # Point-to-point links and not a bridge: on a bridge two pods answer each other
    # directly, past the address translation of a Service, unless the kernel passes
    # bridged packets to iptables, which is a setting of the whole machine.
    return {
        "cniVersion": "1.0.0",
        "name": "penstock",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "mtu": 1500,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni",
                    "ranges": [[{"subnet": NODE_POD_SUBNET}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _kubelet() -> dict[str, Any]:
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{INSIDE_PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{INSIDE_PKI}/kubelet.crt",
        "tlsPrivateKeyFile": f"{INSIDE_PKI}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # Settings of the whole machine are shown to the kubelet as it wants them
        # (see the supervisor); it must not write them.
        "protectKernelDefaults": True,
        "oomScoreAdj": 0,
        "clusterDomain": "cluster.local",
        "clusterDNS": [NODE_ADDRESS],
        "resolvConf": f"{INSIDE_CONFIG}/resolv.conf",
        "maxPods": MAX_PODS,
        "nodeStatusUpdateFrequency": "4s",
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        # A developer's full disk is no reason to evict; images are loaded by hand, so
        # collecting them would only break the next pod.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
    }


def _proxy() -> dict[str, Any]:
    return {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "mode": "iptables",
        "clusterCIDR": POD_SUBNET,
        "hostnameOverride": NODE_NAME,
        "clientConnection": {"kubeconfig": f"{INSIDE_CONFIG}/proxy.kubeconfig"},
        # Zero means: leave the machine's connection tracking as it is.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def _dns() -> str:
    # Names outside the cluster are answered "no such name" at once, instead of the
    # time-out of an upstream that the node cannot reach. That takes a block of its own:
    # inside one block the template would come before the cluster's names.
    return f"""cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {NODE_ADDRESS}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {INSIDE_CONFIG}/admin.kubeconfig
        pods insecure
        ttl 5
    }}
}}
.:53 {{
    bind {NODE_ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
