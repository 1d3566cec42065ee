"""Which cluster: the one that is given, kind, the node, or none at all."""

from __future__ import annotations

import enum
import functools
import os
from pathlib import Path

import engine
import node
from report import EXIT_IMPOSSIBLE, EXIT_USAGE, ClusterError

GIVEN = "PENSTOCK_E2E_KUBECONFIG"
FORCED = "PENSTOCK_CLUSTER"


class Mode(enum.Enum):
    """The three sorts of cluster."""

    GIVEN = "given"
    KIND = "kind"
    NODE = "node"


def given_kubeconfig() -> Path | None:
    """The kubeconfig that the user gave, if any."""
    named = os.environ.get(GIVEN)
    if not named:
        return None
    path = Path(named).expanduser().absolute()
    if not path.is_file():
        raise ClusterError(f"{GIVEN} names {path}, which is not a file", exit_code=EXIT_USAGE)
    return path


@functools.cache
def decide() -> Mode:
    """Choose; the reasons why nothing is possible go into one line."""
    if given_kubeconfig() is not None:
        return Mode.GIVEN
    forced = os.environ.get(FORCED, "")
    if forced not in {"", "kind", "node"}:
        raise ClusterError(f"{FORCED} is {forced!r}; it may be kind or node", exit_code=EXIT_USAGE)
    problems = []
    if forced != "node":
        if engine.answers():
            return Mode.KIND
        problems.append("no Docker engine answers")
    if forced != "kind":
        why = node.problem()
        if not why:
            return Mode.NODE
        problems.append(why)
    raise ClusterError(
        # One line, because callers show it as the reason for what they skip.
        f"no cluster can be had here: {'; '.join(problems)} (start a Docker engine, "
        f"or set {GIVEN}, or be root on Debian with Go 1.26)",
        exit_code=EXIT_IMPOSSIBLE,
    )
