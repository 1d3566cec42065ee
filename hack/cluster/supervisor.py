"""The first process of the node: it makes the node's world, then keeps the plan running.

It is started as process 1 of a process namespace, in network and mount
namespaces of the node's own. When it dies, however it dies, the kernel ends
every process of the node, and with the last of them the namespaces, their
mounts and their interfaces. That is the whole clean-up.

Being process 1 it reaps whatever is orphaned. A component that ends is started
again after a moment, the moment doubling up to ten seconds. It knows nothing of
Kubernetes beyond "the API server says it is ready".
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import components
import layout
import network
import paths
from api import Api
from processes import run

LINK_WAIT_SECONDS = 30.0
RESTART_SECONDS_MIN = 0.5
RESTART_SECONDS_MAX = 10.0
STABLE_SECONDS = 30.0
TICK_SECONDS_STARTING = 0.05
TICK_SECONDS = 0.2

#: Settings of the whole machine that the kubelet insists on. The node is shown files
#: with these values in their place, so that it is content and the machine unchanged.
SHOWN_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
#: Folders of the machine that the node replaces by its own → the folder in its state.
PRIVATE_FOLDERS = {"/var/lib": "var-lib", "/var/log": "var-log", "/tmp": "tmp"}  # noqa: S108
VOLUMES = Path("/tmp/hostpath_pv")  # noqa: S108 - the path is the provisioner's


def log(text: str) -> None:
    """One line in the supervisor's log."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@dataclass(slots=True)
class Running:
    """What is known of one component."""

    name: str
    arguments: list[str]
    gates: list[str]
    pid: int = 0
    starts: int = 0
    started: float = 0.0
    not_before: float = 0.0
    pause_seconds: float = RESTART_SECONDS_MIN
    last_exit: int | None = None


def main() -> int:
    """Be the node, until killed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    private_mounts()
    if not wait_for_link():
        log("no link to the machine: whoever started this node has gone")
        return 1
    network.configure_inside()
    log("the node's namespaces are ready")
    supervise(json.loads((layout.INSIDE_CONFIG / "plan.json").read_text()))
    return 0


def private_mounts() -> None:
    """Replace the folders the node writes to; the machine's own stay untouched.

    The cache folder may itself lie below one of those, so the new ``/run`` is
    furnished first, with the cache folder in it, and moved into place.
    """
    cache, work = paths.cache(), layout.work_folder()
    new_run = work / "run"
    new_run.mkdir()
    mount("-t", "tmpfs", "-o", "mode=755", "penstock", new_run)
    (new_run / layout.INSIDE.name).mkdir()
    mount("--bind", cache, new_run / layout.INSIDE.name)
    mount("--move", new_run, "/run")
    inside_work = layout.INSIDE_NODE / "work"
    for place, name in PRIVATE_FOLDERS.items():
        folder = inside_work / name
        folder.mkdir()
        if place == "/tmp":  # noqa: S108
            folder.chmod(0o1777)
        mount("--bind", folder, place)
    for number, (name, value) in enumerate(SHOWN_SETTINGS.items()):
        shown, real = inside_work / f"setting-{number}", Path("/proc/sys", name)
        shown.write_text(f"{value}\n")
        if real.exists():
            mount("--bind", shown, real)
    # Containers that share mounts with their pod need shared propagation; the
    # namespace was made private to us before, so nothing reaches the machine.
    mount("--make-rshared", "/")


def mount(*arguments: str | Path) -> None:
    """Mount, without a note in the tables that ``mount`` keeps in the machine's ``/run``."""
    run(["mount", "--no-mtab", *arguments])


def wait_for_link() -> bool:
    """Wait until the starter has put its interface into our network namespace."""
    deadline = time.monotonic() + LINK_WAIT_SECONDS
    while time.monotonic() < deadline:
        if layout.NODE_LINK in {name for _, name in socket.if_nameindex()}:
            return True
        time.sleep(0.01)
    return False


def supervise(plan: dict[str, Any]) -> None:
    """Start what may start, start again what ended, reap; for ever."""
    environment = {
        "PATH": f"{plan['tools']}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/var/lib",
    }
    table = [
        Running(item["name"], item["arguments"], [gate for gate in item["gate"].split(",") if gate])
        for item in plan["components"]
    ]
    open_gates: set[str] = set()
    while True:
        open_gates.update(newly_open(plan, closed={g for c in table for g in c.gates} - open_gates))
        changed = False
        for pid, code in ended():
            changed |= note_end(table, pid, code)
        now = time.monotonic()
        for component in table:
            due = not component.pid and now >= component.not_before
            if due and open_gates.issuperset(component.gates):
                start(component, environment, Path(plan["logs"]))
                changed = True
        if changed:
            write_status(table)
        open_volumes()
        time.sleep(TICK_SECONDS if all(c.pid for c in table) else TICK_SECONDS_STARTING)


def newly_open(plan: dict[str, Any], *, closed: set[str]) -> Iterator[str]:
    """Which of the closed gates have opened."""
    if components.GATE_CONTAINERD in closed and Path(plan["containerd"]).exists():
        yield components.GATE_CONTAINERD
    if components.GATE_API in closed:
        pki = layout.INSIDE_PKI
        api = Api(
            plan["api"],
            authority=pki / "ca.crt",
            certificate=pki / "admin.crt",
            key=pki / "admin.key",
        )
        if api.ready():
            yield components.GATE_API


def ended() -> Iterator[tuple[int, int]]:
    """Reap: every child that has ended, ours or an orphan."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def note_end(table: list[Running], pid: int, code: int) -> bool:
    """Remember that a component has ended; False when it was only an orphan."""
    now = time.monotonic()
    for component in table:
        if component.pid == pid:
            if now - component.started > STABLE_SECONDS:
                component.pause_seconds = RESTART_SECONDS_MIN
            log(f"{component.name} ended with {code}; again in {component.pause_seconds:g} s")
            component.pid, component.last_exit = 0, code
            component.not_before = now + component.pause_seconds
            component.pause_seconds = min(component.pause_seconds * 2, RESTART_SECONDS_MAX)
            return True
    return False


def start(component: Running, environment: dict[str, str], logs: Path) -> None:
    """Start a component with its output in its log."""
    with (logs / f"{component.name}.log").open("ab") as output:
        process = subprocess.Popen(
            component.arguments,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    component.pid, component.started = process.pid, time.monotonic()
    component.starts += 1
    # Reaping is done for all processes alike; the object must not do it by itself.
    process.returncode = 0
    log(f"{component.name} started as process {component.pid}")


def write_status(table: list[Running]) -> None:
    """For `status`, and for the starter, who waits."""
    text = json.dumps(
        {
            c.name: {"running": bool(c.pid), "starts": c.starts, "last_exit": c.last_exit}
            for c in table
        }
    )
    paths.write_atomically(layout.INSIDE_NODE / "work" / "status.json", text)


def open_volumes() -> None:
    """Let any user write into new volumes, as storage classes elsewhere do.

    The controller-manager's provisioner makes folders that only root may enter,
    and the kubelet never changes the owner of a host path.
    """
    with contextlib.suppress(FileNotFoundError):
        for folder in os.scandir(VOLUMES):
            if folder.stat().st_mode & 0o777 != 0o777:
                Path(folder.path).chmod(0o777)
