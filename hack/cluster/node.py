"""The node without Docker: one machine's worth of Kubernetes in its own namespaces.

Start: write certificates and configuration, start the supervisor in fresh
namespaces, join its network to this machine's, wait until the node is Ready.
Stop: kill the supervisor. Between the two this program need not run.

A record whose processes are gone is what a crash leaves; starting begins by
clearing up after it, with the same few steps that stop a living node.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import builds
import cgroups
import components
import configuration
import layout
import locks
import network
import nodeimages
import packages
import paths
import pki
import processes
import record
from api import Api, ApiError
from report import ClusterError, say

READY_SECONDS_MAX = 120.0
GIVE_UP_STARTS = 4
STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "standard",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "kubernetes.io/host-path",
    "reclaimPolicy": "Delete",
}


def problem() -> str:
    """Why the node cannot be had on this machine; empty when it can."""
    if sys.platform != "linux":
        return "the node without Docker needs Linux"
    if os.geteuid() != 0:
        return "the node without Docker needs root"
    if builds.missing(builds.NODE_TOOLS) and builds.go_problem():
        return builds.go_problem()
    lacking = packages.missing(packages.NODE)
    if lacking and not packages.can_install():
        return f"Debian packages are missing: {' '.join(lacking)}"
    return ""


def up() -> Path:
    """Have a ready node; its kubeconfig."""
    packages.ensure(packages.NODE)
    tools = builds.ensure(builds.NODE_TOOLS)
    with locks.exclusive("cluster"):
        if healthy():
            say("the node runs already")
            return layout.kubeconfig_file()
        _clear()
        started = time.monotonic()
        try:
            _start(tools)
            _wait_ready()
        except BaseException:
            say("not started; stopping what was")
            _clear()
            raise
        say(f"the node is ready after {time.monotonic() - started:.1f} s")
    return layout.kubeconfig_file()


def down() -> None:
    """Stop the node and remove all it made, but for certificates, tools and logs."""
    with locks.exclusive("cluster"):
        _clear()


def healthy() -> bool:
    """Whether the recorded node lives and is Ready."""
    if record.supervisor() is None or not layout.kubeconfig_file().exists():
        return False
    api = Api.from_kubeconfig(layout.kubeconfig_file())
    # A moment of grace: a busy machine may keep one answer waiting.
    for _ in range(3):
        if api.ready() and not _unready(api):
            return True
        time.sleep(0.3)
    return False


def component_status() -> dict[str, dict[str, Any]]:
    """What the supervisor last wrote of its components."""
    file = layout.work_folder() / "status.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _start(tools: Path) -> None:
    other = network.owner()
    if other is not None:
        raise ClusterError(
            f"another node runs on this machine ({other})",
            remedy=f"stop it: PENSTOCK_CACHE={other} python3 hack/cluster down",
        )
    _write_files(tools)
    cgroups.create()
    with (layout.logs_folder() / "supervisor.log").open("w") as log:
        # The new session makes it outlive our terminal; `unshare` outlives nothing:
        # with --kill-child the supervisor dies with it, and the node with the supervisor.
        process = subprocess.Popen(
            [
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                sys.executable,
                "-B",
                str(Path(__file__).parent),
                "supervise",
            ],
            env={**_plain_environment(), "PENSTOCK_CACHE": str(paths.cache())},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: cgroups.join(os.getpid()),  # noqa: PLW1509 - no threads here
        )
    _record(process)
    network.connect(process.pid, owner=str(paths.cache())[:200])


def _record(process: subprocess.Popen[bytes]) -> None:
    """Write down who runs. Killed before this line, the node ends by itself: it gets no link."""
    outer = processes.identify(process.pid)
    deadline = time.monotonic() + 10.0
    while outer is not None and time.monotonic() < deadline and process.poll() is None:
        inner = [processes.identify(pid) for pid in processes.children(process.pid)]
        if inner and inner[0] is not None:
            record.write(unshare=outer, supervisor=inner[0])
            return
        time.sleep(0.01)
    process.kill()
    process.wait()
    raise _broken("the node's namespaces could not be made")


def _write_files(tools: Path) -> None:
    layout.work_folder().mkdir()
    shutil.rmtree(layout.logs_folder(), ignore_errors=True)
    layout.logs_folder().mkdir()
    config = layout.work_folder() / "config"
    pki.ensure(
        layout.pki_folder(),
        pki.holders(
            node=layout.NODE_NAME,
            node_address=layout.NODE_ADDRESS,
            service_address=layout.SERVICE_ADDRESS,
        ),
    )
    plan = components.plan(tools=str(tools.relative_to(paths.cache())))
    files = {
        "plan.json": json.dumps(plan, indent=2),
        **configuration.files(runc=packages.find("runc") or "runc", snapshotter=_snapshotter()),
    }
    for name, holder in configuration.kubeconfigs().items():
        files[name] = pki.kubeconfig(
            layout.pki_folder(), holder, server=layout.API_SERVER, shown_folder=layout.INSIDE_PKI
        )
    for name, text in files.items():
        paths.write_atomically(config / name, text, mode=0o600)
    admin = pki.kubeconfig(layout.pki_folder(), "admin", server=layout.API_SERVER)
    paths.write_atomically(layout.kubeconfig_file(), admin, mode=0o600)


def _snapshotter() -> str:
    # An overlay cannot keep its changes on an overlay, which is what a container's own
    # file system mostly is; there, layers are copied instead.
    kind = processes.run(["stat", "--file-system", "--format=%T", layout.node_folder()]).strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def _plain_environment() -> dict[str, str]:
    # The node talks to itself only: a proxy meant for the world would be in its way.
    return {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}


def _wait_ready() -> None:
    api = Api.from_kubeconfig(layout.kubeconfig_file())
    deadline = time.monotonic() + READY_SECONDS_MAX
    pause_loaded = False
    waiting = "the supervisor"
    while waiting:
        if record.supervisor() is None:
            raise _broken("the node's supervisor has ended")
        for name, state in component_status().items():
            if state["starts"] >= GIVE_UP_STARTS:
                raise _broken(f"{name} ends again and again", component=name)
        if time.monotonic() > deadline:
            raise _broken(f"the node is not ready: waited for {waiting}")
        if not pause_loaded and nodeimages.reachable():
            nodeimages.load_pause()
            pause_loaded = True
        waiting = "containerd" if not pause_loaded else ""
        waiting = waiting or ("the API server" if not api.ready() else _unready(api))
        time.sleep(0.05)
    api.create("/apis/storage.k8s.io/v1/storageclasses", STORAGE_CLASS)


def _unready(api: Api) -> str:
    """What is not ready yet, for a pod to start and find its way; empty when all is."""
    try:
        node = api.call("GET", f"/api/v1/nodes/{layout.NODE_NAME}")
        conditions = {one["type"]: one["status"] for one in node["status"].get("conditions", [])}
        if conditions.get("Ready") != "True" or node["spec"].get("taints"):
            return "the node to become Ready"
        api.call("GET", "/api/v1/namespaces/default/serviceaccounts/default")
    except ApiError as error:
        return str(error)
    try:
        socket.create_connection((layout.NODE_ADDRESS, 53), timeout=1.0).close()
    except OSError:
        return "the cluster's DNS"
    return ""


def _broken(what: str, *, component: str = "supervisor") -> ClusterError:
    file = layout.logs_folder() / f"{component}.log"
    lines = file.read_text(errors="replace").splitlines()[-8:] if file.exists() else []
    return ClusterError(
        "\n".join([what, *(f"    {line}" for line in lines)]),
        remedy=f"all logs are in {layout.logs_folder()}",
    )


def _clear() -> None:
    """Leave nothing of a node: the one that runs, or what a crash left of one."""
    recorded = record.read()
    if network.owner() == str(paths.cache())[:200]:
        network.remove()
    for identity in recorded.values():
        processes.kill(identity)
    for mounted in _mounts_below(layout.node_folder()):
        processes.run(["umount", "--lazy", mounted])
    if recorded or network.owner() is None:
        # Killed before it was recorded, a node leaves its empty groups; another's are not ours.
        cgroups.remove()
    shutil.rmtree(layout.work_folder(), ignore_errors=True)
    record.remove()


def _mounts_below(folder: Path) -> list[str]:
    """Mount points below a folder, the deepest first. There should be none, ever."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4].encode().decode("unicode_escape")
        if place.startswith(f"{folder}/"):
            found.append(place)
    return sorted(found, key=len, reverse=True)
