"""The node's constants: addresses, and the paths that its processes see.

The node has a network namespace of its own, joined to this machine by one pair
of virtual interfaces, so nothing here can collide with what listens on this
machine, and all of it vanishes with the node's processes.

Inside the node's mount namespace ``/run``, ``/tmp``, ``/var/lib`` and
``/var/log`` are private, and the cache folder appears as ``/run/penstock``:
short enough for socket paths, and the same wherever the cache is.
"""

from __future__ import annotations

from pathlib import Path

import paths

NODE_NAME = "node1"
HOST_LINK = "penstock0"
NODE_LINK = "eth0"
HOST_ADDRESS = "10.99.0.1"
NODE_ADDRESS = "10.99.0.2"
LINK_PREFIX = 24
SERVICE_SUBNET = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
POD_SUBNET = "10.244.0.0/16"
NODE_POD_SUBNET = "10.244.0.0/24"
API_PORT = 6443
API_SERVER = f"https://{NODE_ADDRESS}:{API_PORT}"
CGROUP = "penstock"
PAUSE_IMAGE = "localhost/penstock/pause:1"

# As the node's processes see them.
INSIDE = Path("/run/penstock")
INSIDE_NODE = INSIDE / "node"
INSIDE_PKI = INSIDE_NODE / "pki"
INSIDE_CONFIG = INSIDE_NODE / "work" / "config"
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")


def node_folder() -> Path:
    """The node's folder in the cache."""
    return paths.under_cache("node")


def pki_folder() -> Path:
    """Certificates; they outlive the node."""
    return node_folder() / "pki"


def work_folder() -> Path:
    """What one life of the node writes; made anew at each start."""
    return node_folder() / "work"


def logs_folder() -> Path:
    """One log for each component, kept after the node has gone."""
    return node_folder() / "logs"


def record_file() -> Path:
    """Who the node's processes are."""
    return node_folder() / "node.json"


def kubeconfig_file() -> Path:
    """The administrator's kubeconfig."""
    return node_folder() / "kubeconfig"
