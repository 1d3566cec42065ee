"""A gRPC client that is not ours and knows none of our files: grpcurl, by reflection."""

import base64
import json
import os
import shutil
import subprocess
import time

import pytest

from rig import environment, pools


class Grpcurl:
    """grpcurl against the dispatcher."""

    def __init__(self, program: str, address: str) -> None:
        self._program = program
        self._address = address

    def run(
        self, *arguments: str, data: object = None, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        sent = [] if data is None else ["-d", json.dumps(data)]
        command = [self._program, "-plaintext", *options, *sent, self._address, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def call(self, method: str, data: object) -> dict[str, object]:
        """The answer of a call that must succeed."""
        done = self.run(f"penstock.v1.{method}", data=data)
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def grpcurl(cluster: environment.Environment, address: str) -> Grpcurl:
    done = subprocess.run(
        [*environment.CLUSTER, "tools", "grpcurl"], stdout=subprocess.PIPE, text=True, check=True
    )
    folders = [done.stdout.strip(), cluster.variables["PATH"]]
    found = shutil.which("grpcurl", path=os.pathsep.join(folders))
    assert found is not None
    return Grpcurl(found, address)


def test_services_are_listed_by_reflection(grpcurl: Grpcurl) -> None:
    listed = grpcurl.run("list").stdout.split()
    services = {f"penstock.v1.{kind}Service" for kind in ("Task", "Pool", "Worker", "Fleet")}
    assert services | {"grpc.health.v1.Health"} <= set(listed)
    described = grpcurl.run("describe", "penstock.v1.TaskService").stdout
    assert "rpc SubmitTask" in described


def test_submit_wait_and_list(grpcurl: Grpcurl, make_pool: pools.Maker) -> None:
    pool = make_pool(pools.manifest("foreign"))
    parent = f"namespaces/{pool.namespace}/pools/{pool.name}"
    payload = base64.b64encode(b'{"number": 7, "seconds": 0.1}').decode()
    submission = {"parent": parent, "task": {"type": "nap", "payload": payload}}
    name = grpcurl.call("TaskService/SubmitTask", submission)["task"]["name"]
    done = grpcurl.call("TaskService/WaitTask", {"name": name, "timeout": "30s"})
    assert done["state"] == "SUCCEEDED"
    assert json.loads(base64.b64decode(done["result"])) == {"number": 7, "seconds": 0.1}
    listed = grpcurl.call("TaskService/ListTasks", {"parent": parent})
    assert [task["name"] for task in listed["tasks"]] == [name]


def test_a_full_pool_refuses_at_once_and_says_when_to_come_back(
    grpcurl: Grpcurl, make_pool: pools.Maker
) -> None:
    made = pools.manifest("full", minimum=0, spec={"suspend": True, "queue": {"maxPending": 5}})
    pool = make_pool(made)
    parent = f"namespaces/{pool.namespace}/pools/{pool.name}"
    submission = {"parent": parent, "task": {"type": "nap"}}
    for _ in range(5):
        grpcurl.call("TaskService/SubmitTask", submission)
    started = time.monotonic()
    refused = grpcurl.run(
        "penstock.v1.TaskService/SubmitTask", data=submission, options=("-format-error",)
    )
    seconds = time.monotonic() - started
    assert refused.returncode != 0
    told = refused.stderr
    assert "QUEUE_FULL" in told, told
    assert "RetryInfo" in told
    assert "retry_delay" in told
    assert seconds < 2, "a refusal is an answer, not a time-out"
