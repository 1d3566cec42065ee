"""What the chart does on an API server: tokens that last, pod templates that are refused.

No pod has to start for these, so the images need not be there.
"""

import base64
import json
import pathlib
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.e2e

CHART = pathlib.Path(__file__).resolve().parents[2] / "charts" / "penstock"
POOL: dict[str, Any] = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "WorkerPool",
    "metadata": {"name": "pool"},
    "spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "example/worker"}]}}},
}
POLICY_SECONDS_MAX = 30.0


class Release:
    """One release in a namespace of its own."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = f"chart-{uuid.uuid4().hex[:8]}"

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        program, *arguments = command
        return subprocess.run(
            [
                *(program, f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"),
                *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def helm(self, *arguments: str) -> str:
        done = self.run("helm", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def secret(self, name: str) -> dict[str, str]:
        done = self.run("kubectl", "get", "secret", name, "-o=json")
        assert done.returncode == 0, done.stderr
        data: dict[str, str] = json.loads(done.stdout)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def check(self, **pod: Any) -> subprocess.CompletedProcess[str]:
        """`kubectl apply` of a pool with these fields in its pod template; nothing is made."""
        manifest = json.loads(json.dumps(POOL))
        manifest["spec"]["template"]["spec"].update(pod)
        return self.run(
            "kubectl", "apply", "--dry-run=server", "-f=-", stdin=yaml.safe_dump(manifest)
        )


@pytest.fixture(scope="module")
def release(kubeconfig: str) -> Iterator[Release]:
    made = Release(str(kubeconfig))
    made.helm("install", "penstock", str(CHART), "--create-namespace")
    yield made
    made.run("helm", "uninstall", "penstock", "--wait=false")
    made.run("kubectl", "delete", "namespace", made.namespace, "--wait=false")


def test_tokens_are_drawn_once_and_kept_over_upgrades(release: Release) -> None:
    before = release.secret("penstock-auth")
    worker = release.secret("penstock-worker")
    assert before[f"worker-{release.namespace}"] == worker["token"]
    release.helm("upgrade", "penstock", str(CHART), "--set", "auth.clients=token")
    after = release.secret("penstock-auth")
    assert json.loads(after["auth.json"])["clients"] == "token"
    assert release.secret("penstock-worker") == worker
    for table in (before, after):
        del table["auth.json"]
    assert after == before


def test_a_harmless_template_is_accepted(release: Release) -> None:
    done = release.check()
    assert done.returncode == 0, done.stderr


CONTAINER = {"name": "worker", "image": "example/worker"}
BEYOND_THE_BOX: dict[str, dict[str, Any]] = {
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": True},
    "hostPath": {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
    "nodeName": {"nodeName": "node1"},
    "privileged": {"containers": [{**CONTAINER, "securityContext": {"privileged": True}}]},
    "capabilities.add": {
        "containers": [{**CONTAINER, "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]
    },
    "hostPort": {"containers": [{**CONTAINER, "ports": [{"containerPort": 1, "hostPort": 1}]}]},
    "serviceAccountName": {"serviceAccountName": "penstock-operator"},
    "automountServiceAccountToken": {"automountServiceAccountToken": True},
    "serviceAccountToken": {
        "volumes": [
            {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
        ]
    },
}


@pytest.mark.parametrize(("named", "pod"), BEYOND_THE_BOX.items(), ids=BEYOND_THE_BOX)
def test_a_template_that_reaches_beyond_its_box_is_refused(
    release: Release, named: str, pod: dict[str, Any]
) -> None:
    # An API server puts a new policy to work within moments of its creation, not at once.
    end = time.monotonic() + POLICY_SECONDS_MAX
    done = release.check(**pod)
    while done.returncode == 0 and time.monotonic() < end:
        time.sleep(0.5)
        done = release.check(**pod)
    assert done.returncode != 0, "accepted"
    assert named in done.stderr
    assert "chart value podTemplates" in done.stderr


def test_what_the_values_allow_is_accepted(release: Release) -> None:
    release.helm(
        *("upgrade", "penstock", str(CHART), "--set", "podTemplates.allow={hostPath}"),
        *("--set", "podTemplates.serviceAccounts={builder}"),
    )
    end = time.monotonic() + POLICY_SECONDS_MAX
    pod = {"serviceAccountName": "builder", **BEYOND_THE_BOX["hostPath"]}
    done = release.check(**pod)
    while done.returncode and time.monotonic() < end:
        time.sleep(0.5)
        done = release.check(**pod)
    assert done.returncode == 0, done.stderr
    assert release.check(hostNetwork=True).returncode != 0
