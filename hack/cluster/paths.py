"""Where things are: the checkout that is used, and the cache outside of it.

Nothing is ever written into the checkout. All state (binaries, the node's
files, image archives, records of what runs) lives in one cache folder that
several checkouts may share:

``bin/<tool>-<key>``  built tools; the key is a hash of what they are built from
``path/<key>/``       the same tools under their plain names, to go on ``PATH``
``node/``             the node: its certificates, records, logs and file systems
``kind/``             the kubeconfig of the kind cluster
``images/``           image layouts, wheels, build contexts, the base file system
``locks/``            advisory locks
"""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TOOL_MODULES = REPOSITORY / "hack" / "tools"


def cache() -> Path:
    """The cache folder (created), from ``PENSTOCK_CACHE`` or the XDG convention."""
    named = os.environ.get("PENSTOCK_CACHE")
    if named:
        folder = Path(named).expanduser()
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def under_cache(*parts: str) -> Path:
    """A folder below the cache, created."""
    folder = cache().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace ``path`` in one step, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    scratch.chmod(mode)
    scratch.replace(path)
