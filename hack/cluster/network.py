"""The pair of virtual interfaces between this machine and the node.

The node's network namespace has no name and no file: it lives as long as the
node's processes, and the kernel then removes it, both interfaces and the routes
over them. So there is nothing to clean up, however the node ended.

Routes through the node make Services and pods reachable from this machine. No
packet is forwarded beyond: pods reach this machine's end of the pair at most.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from layout import (
    HOST_ADDRESS,
    HOST_LINK,
    LINK_PREFIX,
    NODE_ADDRESS,
    NODE_LINK,
    POD_SUBNET,
    SERVICE_SUBNET,
)
from processes import run
from report import ClusterError


def connect(pid: int, *, owner: str) -> None:
    """Join the network namespace of ``pid`` to this machine."""
    remove()
    run(
        [
            "ip",
            "link",
            "add",
            HOST_LINK,
            "type",
            "veth",
            "peer",
            "name",
            NODE_LINK,
            "netns",
            str(pid),
        ]
    )
    run(["ip", "link", "set", HOST_LINK, "alias", owner])
    run(["ip", "address", "add", f"{HOST_ADDRESS}/{LINK_PREFIX}", "dev", HOST_LINK])
    run(["ip", "link", "set", HOST_LINK, "up"])
    for subnet in (SERVICE_SUBNET, POD_SUBNET):
        run(
            ["ip", "route", "add", subnet, "via", NODE_ADDRESS],
            remedy=f"something else on this machine routes {subnet}: see `ip route`",
        )


def owner() -> str | None:
    """Whom the interface on this machine belongs to; None when there is none."""
    if not Path(f"/sys/class/net/{HOST_LINK}").exists():
        return None
    found = json.loads(run(["ip", "-json", "link", "show", "dev", HOST_LINK]))
    return str(found[0].get("ifalias", ""))


def remove() -> None:
    """Remove the pair now, instead of when the kernel comes round to it."""
    deadline = time.monotonic() + 10.0
    while owner() is not None:
        try:
            run(["ip", "link", "delete", HOST_LINK])
        except ClusterError:
            # The kernel may be removing it at this very moment.
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def configure_inside() -> None:
    """Give the node its address; runs inside its network namespace."""
    run(["ip", "link", "set", "lo", "up"])
    run(["ip", "address", "add", f"{NODE_ADDRESS}/{LINK_PREFIX}", "dev", NODE_LINK])
    run(["ip", "link", "set", NODE_LINK, "up"])
    run(["ip", "route", "add", "default", "via", HOST_ADDRESS])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
