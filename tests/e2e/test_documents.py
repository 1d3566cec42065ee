"""The commands of the tutorial and of the how-to for installing, as they are shown."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock_dispatcher import memory_limit
from rig import documents, environment, installation, kube, processes

ROOT = environment.ROOT
FIRST_POOL = ROOT / "docs" / "tutorial" / "first-pool.md"
UNDO = ROOT / "docs" / "how-to" / "undo-a-delete.md"
INSTALL = ROOT / "docs" / "how-to" / "install.md"
CHART = ROOT / "charts" / "penstock" / "README.md"
PORT = "50051"
SECONDS_MAX = 300.0
# It takes tasks and starts none, so that they wait.
THUMBNAILS = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {name: thumbnails}
spec:
  suspend: true
  scaling: {minReplicas: 0, maxReplicas: 1}
  template: {spec: {containers: [{name: worker, image: "localhost/penstock/worker:dev"}]}}
"""


@pytest.fixture
def in_default(api: kube.Kube) -> Iterator[None]:
    """Whatever the tutorial leaves in the namespace `default` is gone after the test."""
    found_resource = installation.has_resource(api)
    yield
    run = ["--namespace=default", "--ignore-not-found"]
    if installation.has_resource(api):
        api.kubectl("delete", "wpool", "hashing", "thumbnails", *run)
    api.kubectl("delete", "configmap", "tasks", *run)
    api.helm("uninstall", "penstock", "--namespace", "default", "--ignore-not-found")
    api.wait("its pods to go", lambda: not api.pods("default", kube.WORKERS), seconds=60)
    if not found_resource and installation.has_resource(api):
        api.kubectl("delete", "customresourcedefinition", installation.RESOURCE)


@pytest.fixture
def in_penstock(api: kube.Kube) -> Iterator[installation.Installation]:
    """The how-to's namespaces, gone after the test."""
    found_resource = installation.has_resource(api)
    release = installation.Installation(api=api, namespace="penstock")
    release.remove()
    yield release
    release.remove()
    for name in ("team-a", "team-b"):
        api.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=60s")
    if not found_resource and installation.has_resource(api):
        api.kubectl("delete", "customresourcedefinition", installation.RESOURCE)


def bash(script: str, cluster: environment.Environment, **variables: str) -> str:
    """Run commands against the cluster; what they said. They must succeed."""
    return documents.run(script, {**cluster.variables, **variables}, seconds_max=SECONDS_MAX)


def test_the_first_pool(
    cluster: environment.Environment, api: kube.Kube, in_default: None, tmp_path: Path
) -> None:
    (tmp_path / "tasks.py").write_text(documents.block(FIRST_POOL, "python", "Worker()"))
    (tmp_path / "pool.yaml").write_text(documents.block(FIRST_POOL, "yaml", "kind: WorkerPool"))
    # This machine's port may be taken, by a local fleet for example.
    port = str(processes.free_port())
    submit = documents.block(FIRST_POOL, "sh", "penstock submit hash --payload")
    parts = [
        f"cd {ROOT}",
        documents.block(FIRST_POOL, "sh", "helm install"),
        f"cd {tmp_path}",
        documents.block(FIRST_POOL, "sh", "create configmap"),
        documents.block(FIRST_POOL, "sh", "kubectl apply -f pool.yaml"),
        submit.replace(f"{PORT}:{PORT}", f"{port}:{PORT}"),
        documents.block(FIRST_POOL, "sh", "tasks.jsonl"),
        documents.block(FIRST_POOL, "sh", "helm uninstall"),
    ]
    said = bash("\n".join(parts), cluster, PENSTOCK_ADDRESS=f"127.0.0.1:{port}")
    assert "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" in said
    assert "1000 succeeded, 0 did not" in said


def test_a_delete_is_undone(
    cluster: environment.Environment, api: kube.Kube, in_default: None, tmp_path: Path
) -> None:
    # Without a volume, which would bring what an earlier run has left there.
    release = installation.Installation(api=api, namespace="default")
    release.install("--set", "dispatcher.persistence.enabled=false")
    (tmp_path / "workerpool.yaml").write_text(THUMBNAILS)
    apply = documents.block(UNDO, "console", "kubectl apply")
    look = documents.block(UNDO, "console", "--dry-run")
    restore = documents.block(UNDO, "console", "penstock restore thumbnails\n")

    def run(*parts: str) -> str:
        # No fleet of this machine is found, only the cluster's dispatcher.
        nothing = str(tmp_path / "state")
        script = "\n".join([f"cd {tmp_path}", *parts])
        return bash(script, cluster, XDG_STATE_HOME=nothing, PENSTOCK_KUBE="1")

    submit = "penstock submit resize --pool thumbnails --payload cat.jpg -o name"
    run(apply, f"until {submit} --request-id first; do sleep 1; done", submit, submit)
    deleted = api.pool("default", "thumbnails")["metadata"]["uid"]
    listing = "penstock list --pool thumbnails --state PENDING -o name"
    names = [line for line in run(listing).splitlines() if line.startswith("namespaces/")]
    assert len(names) == 3, names
    told = "until penstock pools 2>&1 | grep keeps; do sleep 1; done"
    said = run("kubectl delete wpool thumbnails", apply, told, listing, look)
    promised = [
        line.replace("4210", "3").replace("6e1c…", deleted)
        for line in documents.block(UNDO, "text", "keeps").splitlines()
        if "4210" in line
    ]
    assert len(promised) == 2
    for line in promised:
        assert line in said
    # Before its restoring nothing waits in the new pool; the dry run shows what would.
    assert [line for line in said.splitlines() if line in names] == names
    restored = run(look.partition("penstock pools")[0], restore, listing)
    assert f"3 tasks of the deleted pool {deleted} restored" in restored
    assert [line for line in restored.splitlines() if line in names] == [*names, *names]

    def event() -> bool:
        events = api.events("default", "WorkerPool", "thumbnails")
        return any(each.get("reason") == "TasksRestorable" for each in events)

    api.wait("an Event TasksRestorable", event, seconds=60)


def test_install_serve_other_namespaces_ask_for_tokens_upgrade_uninstall(
    cluster: environment.Environment, api: kube.Kube, in_penstock: installation.Installation
) -> None:
    port = str(processes.free_port())
    for name in ("team-a", "team-b"):
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    bash(
        f"cd {ROOT}\n" + documents.block(INSTALL, "console", "rollout status statefulset"), cluster
    )
    bash(f"cd {ROOT}\n" + documents.block(INSTALL, "console", "team-b"), cluster)
    for name in ("team-a", "team-b"):
        assert api.get(f"/api/v1/namespaces/{name}/secrets/penstock-worker")["data"]["token"]
    asked = documents.block(INSTALL, "console", "auth.clients=token")
    forward = documents.block(INSTALL, "console", "port-forward").strip()
    forward = forward.replace(f"{PORT}:{PORT}", f"{port}:{PORT}")
    rollout = "kubectl -n penstock rollout status statefulset/penstock-dispatcher"
    looked = "penstock pools --request-timeout 30"
    # The kubelet takes its time with a Secret that has changed.
    refused = f"until ! PENSTOCK_TOKEN= {looked}; do sleep 2; done"
    script = f"cd {ROOT}\n{asked}\n{rollout}\n{forward} &\n{refused}\n{looked}\n"
    said = bash(script, cluster, PENSTOCK_ADDRESS=f"127.0.0.1:{port}")
    assert "NAMESPACE" in said
    assert "--token-file" in said
    bash(f"cd {ROOT}\n" + documents.block(INSTALL, "console", "--reuse-values\n"), cluster)
    in_penstock.await_ready()
    more = documents.block(INSTALL, "console", "limits.memory")
    bash(f"cd {ROOT}\n{more}\n{rollout}\n", cluster)
    pod = "/api/v1/namespaces/penstock/pods/penstock-dispatcher-0:8080/proxy/metrics"
    bound = "penstock_dispatcher_task_memory_bound_bytes "
    lines = api.kubectl("get", "--raw", pod).splitlines()
    found = [float(line.removeprefix(bound)) for line in lines if line.startswith(bound)]
    assert found == [memory_limit.for_tasks(4 * 2**30)], "the container's limit is known in it"
    bash(documents.block(INSTALL, "console", "helm uninstall"), cluster)
    listed = subprocess.run(
        ["kubectl", "get", "namespace", "penstock", "--ignore-not-found", "-o", "name"],
        env=cluster.variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert listed.stdout == ""


def test_the_chart_s_own_page(
    cluster: environment.Environment, api: kube.Kube, in_penstock: installation.Installation
) -> None:
    bash(f"cd {ROOT}\n" + documents.block(CHART, "console", "helm install"), cluster)
    in_penstock.await_ready()
