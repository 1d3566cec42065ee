"""`penstock --kube` and `kubectl penstock` on a real cluster: no address is named anywhere."""

import base64
import json
import os
import subprocess

import pytest

from rig import installation, pools, programs

SPEC = {"queue": {"maxPending": 5}}


@pytest.fixture
def run(penstock: installation.Installation) -> programs.Penstock:
    """Run a program with this machine's kubectl, and the kubeconfig of the cluster."""
    api = penstock.api
    clean = {key: value for key, value in api.variables.items() if not key.startswith("PENSTOCK_")}
    path = f"{programs.BIN}{os.pathsep}{clean['PATH']}"

    def to_the_end(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            env={**clean, "PATH": path, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return to_the_end


def test_the_dispatcher_of_the_context_is_found(
    run: programs.Penstock, make_pool: pools.Maker
) -> None:
    pool = make_pool(pools.manifest("found", minimum=1, maximum=1, spec=SPEC))
    name = f"{pool.namespace}/{pool.name}"
    where = ("--kube-namespace", pool.namespace)
    listed = run("penstock", "pools", "--kube", *where, "-o", "json")
    assert listed.returncode == 0, listed.stderr
    assert pool.name in [
        json.loads(line)["name"].split("/")[3] for line in listed.stdout.splitlines()
    ]
    plugin = run("kubectl", "penstock", "list", "--namespace", pool.namespace, "--pool", name)
    assert plugin.returncode == 0, plugin.stderr
    assert plugin.stdout.split()[0] == "TASK"
    programs.failed(
        run("penstock", "pools", "--kube", "--kube-namespace", "nothing-here"),
        3,
        "no dispatcher in namespace nothing-here",
    )


def test_pausing_takes_the_admin_token(run: programs.Penstock, make_pool: pools.Maker) -> None:
    pool = make_pool(pools.manifest("latched", minimum=1, maximum=1, spec=SPEC))
    name = f"{pool.namespace}/{pool.name}"
    command = ("kubectl", "penstock", "pause", name, "--namespace", pool.namespace, "-o", "json")
    programs.failed(run(*command), 6, "role admin")
    secret = pool.api.get(f"/api/v1/namespaces/{pool.namespace}/secrets/penstock-auth")
    token = base64.b64decode(secret["data"]["admin"]).decode()
    paused = run(*command, PENSTOCK_TOKEN=token)
    assert paused.returncode == 0, paused.stderr
    assert json.loads(paused.stdout)["state"] == "PAUSED"
