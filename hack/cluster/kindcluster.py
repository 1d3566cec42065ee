"""A kind cluster, where a Docker engine answers.

kind keeps its own state in the engine: the cluster named ``penstock`` is there or
it is not. What is kept here is the kubeconfig. A cluster that is there but does
not become Ready (the engine was restarted, a node was lost) is made anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import builds
import locks
import paths
from processes import run, run_logged, succeeds
from report import EXIT_USAGE, ClusterError, progress, say

NAME = "penstock"
READY_SECONDS_MAX = 180
CONFIG = Path(__file__).resolve().parent / "kind.yaml"
#: Volumes for node images that come without a provisioner of their own.
STORAGE = Path(__file__).resolve().parent / "manifests" / "storage.yaml"
#: The controller-manager's own: its folders are root's, whatever the pod's fsGroup.
HOST_PATH = "kubernetes.io/host-path"


def program(name: str) -> Path:
    """``kind`` or ``kubectl``, built when it is not there."""
    builds.ensure([name])
    found = builds.program(name)
    assert found is not None, "what was ensured is there"
    return found


def kubeconfig_file() -> Path:
    """The cluster's kubeconfig."""
    return paths.under_cache("kind") / "kubeconfig"


def exists() -> bool:
    """Whether the engine has the cluster."""
    return NAME in run([program("kind"), "get", "clusters"]).split()


def ready(*, wait_seconds: int) -> bool:
    """Whether all nodes are Ready, now or within some seconds."""
    command: list[str | Path] = [
        program("kubectl"),
        f"--kubeconfig={kubeconfig_file()}",
        "wait",
        "nodes",
        "--all",
    ]
    command += ["--for=condition=Ready", f"--timeout={wait_seconds}s"]
    return succeeds(command, timeout_seconds=wait_seconds + 15)


def up() -> Path:
    """Have a ready cluster; its kubeconfig."""
    builds.ensure(["kind", "kubectl"])
    with locks.exclusive("cluster"):
        if exists():
            kind = program("kind")
            run([kind, "export", "kubeconfig", "--name", NAME, "--kubeconfig", kubeconfig_file()])
            if ready(wait_seconds=30):
                say(f"the kind cluster {NAME} runs already")
                return kubeconfig_file()
            say(f"the kind cluster {NAME} is there and not ready; making it anew")
            _delete()
        started = time.monotonic()
        try:
            _create()
        except BaseException:
            say("not started; stopping what was")
            _delete()
            raise
        say(f"the kind cluster is ready after {time.monotonic() - started:.1f} s")
    return kubeconfig_file()


def down() -> None:
    """Delete the cluster."""
    with locks.exclusive("cluster"):
        _delete()


def load(images: Iterable[str]) -> None:
    """Load images of the engine onto all nodes; kind skips a node that has the same content."""
    names = list(images)
    log = paths.under_cache("logs") / "kind-load.log"
    with progress(f"loading {', '.join(names)}", expected_seconds=10) as tick:
        run_logged(
            [program("kind"), "load", "docker-image", "--name", NAME, *names],
            log=log,
            tick=tick,
            remedy=f"the whole output is in {log}",
        )


def export_logs(folder: Path) -> None:
    """Collect the nodes' logs."""
    run([program("kind"), "export", "logs", "--name", NAME, folder])


def _create() -> None:
    command: list[str | Path] = [program("kind"), "create", "cluster", "--name", NAME]
    command += ["--config", _config(), "--kubeconfig", kubeconfig_file()]
    command += ["--wait", f"{READY_SECONDS_MAX}s"]
    image = os.environ.get("KIND_NODE_IMAGE")
    if image:
        command += ["--image", image]
    log = paths.under_cache("logs") / "kind-create.log"
    with progress("creating the kind cluster", expected_seconds=60) as tick:
        run_logged(
            command,
            log=log,
            tick=tick,
            remedy=f"the whole output is in {log}; KIND_NODE_IMAGE names another node image",
        )
    # `kind create --wait` waits for the control plane only.
    if not ready(wait_seconds=READY_SECONDS_MAX):
        raise ClusterError("the kind cluster's nodes do not become Ready")
    _ensure_storage()


def _ensure_storage() -> None:
    """Have volumes that a pod that is not root can write."""
    kubectl: list[str | Path] = [program("kubectl"), f"--kubeconfig={kubeconfig_file()}"]
    listed = run([*kubectl, "get", "storageclasses", "--output=jsonpath={.items[*].provisioner}"])
    if not set(listed.split()) - {HOST_PATH}:
        say("the node image brings no volume provisioner; adding one")
        run([*kubectl, "apply", f"--filename={STORAGE}"])


def _config() -> Path:
    named = os.environ.get("PENSTOCK_KIND_CONFIG")
    if not named:
        return CONFIG
    path = Path(named).expanduser().absolute()
    if not path.is_file():
        raise ClusterError(
            f"PENSTOCK_KIND_CONFIG names {path}, which is not a file", exit_code=EXIT_USAGE
        )
    return path


def _delete() -> None:
    run([program("kind"), "delete", "cluster", "--name", NAME, "--kubeconfig", kubeconfig_file()])
    kubeconfig_file().unlink(missing_ok=True)
