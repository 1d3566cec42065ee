"""The node's control groups: one subtree, made before and removed after.

Both layouts of the kernel are served: one folder for each controller (v1, and
the mixed layout), or one tree (v2). Pods live in ``/penstock/kubepods``, the
node's own processes in ``/penstock/node``, so that the tree can be removed as a
whole, and so that the node does not end with the session that started it.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from layout import CGROUP
from report import ClusterError, say

ROOT = Path("/sys/fs/cgroup")
NEEDED = ("cpu", "cpuset", "memory", "pids")


def unified() -> bool:
    """Whether this machine has the one tree of version 2."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The root folder of every hierarchy."""
    if unified():
        return [ROOT]
    # "cpu" and "cpuacct" are commonly two names of one folder.
    folders = {folder.resolve() for folder in ROOT.iterdir() if (folder / "cgroup.procs").exists()}
    return sorted(folders)


def create() -> None:
    """Make the subtree, with the controllers the kubelet needs."""
    if unified():
        _enable(ROOT)
    for root in hierarchies():
        for folder in (root / CGROUP, root / CGROUP / "node"):
            folder.mkdir(exist_ok=True)
            # A version 1 cpuset is unusable until it has processors and memory nodes.
            for name in ("cpuset.cpus", "cpuset.mems"):
                source, target = folder.parent / name, folder / name
                if not unified() and source.exists() and not target.read_text().strip():
                    target.write_text(source.read_text())
    if unified():
        _enable(ROOT / CGROUP)


def join(pid: int) -> None:
    """Move a process into the node's group; its children follow when they are born."""
    for root in hierarchies():
        with contextlib.suppress(OSError):
            (root / CGROUP / "node" / "cgroup.procs").write_text(str(pid))


def remove() -> None:
    """Remove the subtree, once its processes have gone."""
    deadline = time.monotonic() + 5.0
    while remaining := [root / CGROUP for root in hierarchies() if (root / CGROUP).is_dir()]:
        for top in remaining:
            # Deepest first; a folder of a hierarchy is removable when no process is in it.
            folders = sorted(top.rglob("*/"), key=lambda path: len(path.parts), reverse=True)
            for folder in (*folders, top):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        if time.monotonic() > deadline:
            say(f"left behind: the control groups {', '.join(map(str, remaining))}")
            return
        time.sleep(0.02)


def _enable(folder: Path) -> None:
    there = (folder / "cgroup.controllers").read_text().split()
    lacking = [name for name in NEEDED if name not in there]
    if lacking:
        raise ClusterError(
            f"the control group {folder} lacks the controllers {', '.join(lacking)}",
            remedy="use a Docker engine, or a machine where these are delegated",
        )
    for name in there:
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{name}")
        except OSError as error:
            if name in NEEDED:
                raise ClusterError(
                    f"the controller {name} cannot be enabled in {folder}: {error}",
                    remedy="in a container, start it with the host's control group namespace",
                ) from error
