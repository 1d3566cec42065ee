"""Kill -9, on any sort of cluster.

Deleting a pod, even by force, sends SIGTERM first, and a container's first process cannot be killed
from inside. So a privileged pod on each node sees all processes of the node and kills the ones of a
pod by its UID, which their cgroup names.
"""

from typing import Self

from rig import kube

NAMESPACE = "penstock-chaos"
IMAGE = "localhost/penstock/worker:dev"

# Kills the processes of one pod but its pause process; prints how many. Runs in the chaos pod.
_KILL = """
import os, pathlib, signal, sys
uid, killed = sys.argv[1], []
for proc in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        cgroup, command = (proc / "cgroup").read_text(), (proc / "cmdline").read_bytes()
    except OSError:
        continue
    if (uid in cgroup or uid.replace("-", "_") in cgroup) and command.strip(b"\\0") != b"/pause":
        os.kill(int(proc.name), signal.SIGKILL)
        killed.append(proc.name)
print(len(killed))
"""

# Ends at once when told to: the first process of a container ignores SIGTERM by default.
_SLEEP = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"


class Chaos:
    """One killer on each node. Use as a context manager."""

    def __init__(self, api: kube.Kube) -> None:
        self._api = api

    def __enter__(self) -> Self:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self._api.apply(namespace)
        self._api.apply(_daemon_set(), namespace=NAMESPACE)
        self._api.wait("a killer on each node", self._all_ready, seconds=60)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._api.kubectl("delete", "namespace", NAMESPACE, "--wait=false")

    def kill(self, pod: kube.Object) -> None:
        """SIGKILL to every process of a pod's containers; kubelet then starts them again."""
        node, uid = pod["spec"]["nodeName"], pod["metadata"]["uid"]
        killer = next(
            one["metadata"]["name"]
            for one in self._api.pods(NAMESPACE)
            if one["spec"]["nodeName"] == node
        )
        command = ["exec", "--namespace", NAMESPACE, killer, "--", "python3", "-c", _KILL, uid]
        if int(self._api.kubectl(*command)) == 0:
            raise RuntimeError(f"no process of pod {pod['metadata']['name']} was found")

    def _all_ready(self) -> bool:
        status = self._api.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/killer")["status"]
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(wanted) and status.get("numberReady", 0) == wanted


def _daemon_set() -> kube.Object:
    labels = {"app": "killer"}
    container = {
        "name": "killer",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _SLEEP],
        "securityContext": {"privileged": True, "runAsUser": 0, "runAsGroup": 0},
    }
    spec = {"hostPID": True, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "killer"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
