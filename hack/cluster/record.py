"""Who the node's processes are, written down so that a later run knows them again.

Two matter: ``unshare``, which waits in this machine's process namespace, and
the supervisor, which is process 1 of the node's. Either one's death ends the
node. A record whose processes are gone is what a crash leaves.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import layout
import paths
import processes


def write(*, unshare: processes.Identity, supervisor: processes.Identity) -> None:
    """Record a node that has just been started."""
    text = json.dumps({"unshare": asdict(unshare), "supervisor": asdict(supervisor)})
    paths.write_atomically(layout.record_file(), text)


def read() -> dict[str, processes.Identity]:
    """The recorded processes, dead or alive; empty when nothing is recorded."""
    file = layout.record_file()
    if not file.exists():
        return {}
    return {name: processes.Identity(**one) for name, one in json.loads(file.read_text()).items()}


def remove() -> None:
    """Forget the node."""
    layout.record_file().unlink(missing_ok=True)


def supervisor() -> processes.Identity | None:
    """The supervisor, while it lives."""
    one = read().get("supervisor")
    return one if one is not None and processes.alive(one) else None
