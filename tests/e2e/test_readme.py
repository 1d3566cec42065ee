"""The README's five minutes, as somebody types them: install, a pool, one task, thirty tasks."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import documents, environment, installation, kube, processes

README = environment.ROOT / "README.md"
POOL = "dynamic-scaling"
ADDRESS = "127.0.0.1:50051"
SECONDS_MAX = 180.0


@pytest.fixture
def in_default(api: kube.Kube) -> Iterator[installation.Installation]:
    """What the README installs, where it installs it; gone again after the test."""
    found_resource = installation.has_resource(api)
    release = installation.Installation(api=api, namespace="default")
    yield release
    if installation.has_resource(api):
        api.kubectl("delete", "wpool", POOL, "--namespace=default", "--ignore-not-found")
    release.uninstall()
    api.wait("its pods to go", lambda: not api.pods("default", kube.WORKERS), seconds=60)
    if not found_resource:
        api.kubectl("delete", "customresourcedefinition", installation.RESOURCE)


def test_five_minutes(
    cluster: environment.Environment,
    api: kube.Kube,
    in_default: installation.Installation,
    tmp_path: Path,
) -> None:
    client = tmp_path / "client.py"
    # The README's port may be taken here, by a fleet of this machine for example.
    address = f"127.0.0.1:{processes.free_port()}"
    client.write_text(documents.block(README, "python", "SyncClient").replace(ADDRESS, address))
    burst = documents.block(README, "sh", "driver.py burst").splitlines()[0].removesuffix(" &")
    forwarded = documents.block(README, "sh", "helm install").replace(
        "50051:50051", f"{address.rpartition(':')[2]}:50051"
    )
    script = f"{forwarded}\npython {client}\n{burst}\n"
    variables = {**cluster.variables, "PENSTOCK_ADDRESS": address}
    said = documents.run(f"cd {environment.ROOT}\n{script}", variables, seconds_max=SECONDS_MAX)
    assert hashlib.sha256(b"hello").hexdigest() in said, said
    assert "30 tasks done; workers: 2 at first, 10 at most, 2 at last" in said, said

    def small_again() -> bool:
        last = api.pool("default", POOL)["status"]["lastScale"]
        return (last["to"], last["reason"]) == (2, "Idle")

    # The dispatcher counts a drained worker out before its pod has gone.
    api.wait("the last scale-down", small_again, seconds=30)
