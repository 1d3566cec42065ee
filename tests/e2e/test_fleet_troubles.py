"""What a pool says when something is wrong: a condition and an Event, each with what to do."""

import time
from collections.abc import Callable, Iterator

import pytest

import penstock as sdk
from rig import kube, pools
from rig.installation import Installation


def says(
    pool: pools.Pool, *, condition: str, status: str, seconds: float
) -> tuple[str, list[kube.Object]]:
    """Wait for a condition; its reason and message in one, and the Events that warn."""

    def turned() -> kube.Object:
        found = kube.condition(pool.resource(), condition)
        return found if found.get("status") == status else {}

    found = pool.api.wait(f"{condition}={status}", turned, seconds=seconds)

    def warned() -> list[kube.Object]:
        return [event for event in pool.events() if event["type"] == "Warning"]

    warnings = pool.api.wait("a warning", warned, seconds=20)
    return f"{found['reason']}: {found['message']}", warnings


def test_an_image_that_is_not_there(make_pool: pools.Maker) -> None:
    image = "localhost/penstock/nowhere:none"
    pool = make_pool(pools.manifest("no-image", image=image), ready=0)
    text, warnings = says(pool, condition="Degraded", status="True", seconds=60)
    assert image in text
    assert kube.condition(pool.resource(), "Ready")["status"] == "False"
    assert any(image in event["message"] for event in warnings), warnings


def test_a_worker_that_cannot_start(make_pool: pools.Maker) -> None:
    made = pools.manifest("no-handlers")
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["args"] = ["handlers:nothing_of_that_name"]
    pool = make_pool(made, ready=0)
    text, warnings = says(pool, condition="Degraded", status="True", seconds=90)
    assert "kubectl logs" in text
    assert any("kubectl logs" in event["message"] for event in warnings), warnings


def test_a_handler_that_crashes(make_pool: pools.Maker) -> None:
    backoff = {"maxAttempts": 2, "backoff": {"initialSeconds": 0, "maxSeconds": 1}}
    pool = make_pool(pools.manifest("crashing", spec={"delivery": backoff}))
    name = pool.submit("fail", [{"number": 0}])[0]
    with pytest.raises(sdk.TaskError, match="this handler always fails"):
        pool.client.result(name, timeout=30)
    task = pool.client.get(name)
    assert (task.state.value, task.attempt) == ("DEAD_LETTERED", 2)
    assert task.error is not None
    assert task.error.reason == "RuntimeError"
    text, warnings = says(pool, condition="TasksFailing", status="True", seconds=30)
    assert "penstock" in text
    assert warnings


def test_a_task_that_takes_its_worker_along(make_pool: pools.Maker) -> None:
    """The worker's loss is counted apart from attempts, is capped, and the fleet recovers."""
    delivery = {"heartbeatSeconds": 1, "leaseSeconds": 3, "maxWorkerLosses": 1}
    pool = make_pool(pools.manifest("vanishing", spec={"delivery": delivery}))
    name = pool.submit("vanish", [{"number": 0}])[0]
    task = pool.wait_all([name], seconds=60)[0]
    assert (task.state.value, task.worker_losses) == ("DEAD_LETTERED", 1)
    after = pool.submit("nap", [{"number": 1, "seconds": 0.0}])
    assert pool.wait_all(after, seconds=60)[0].succeeded


@pytest.fixture
def without_dispatcher(penstock: Installation) -> Iterator[Callable[[], None]]:
    """Takes the dispatcher away when called; it is back after the test."""

    def scale(replicas: int) -> None:
        target = f"statefulset/{penstock.release}-dispatcher"
        command = ["scale", target, "--namespace", penstock.namespace]
        penstock.api.kubectl(*command, f"--replicas={replicas}")

    def take_away() -> None:
        scale(0)
        penstock.api.wait("no dispatcher", lambda: not penstock.part("dispatcher"), seconds=60)

    yield take_away
    scale(1)
    penstock.await_ready()


def test_a_dispatcher_that_is_down(
    penstock: Installation, make_pool: pools.Maker, without_dispatcher: Callable[[], None]
) -> None:
    """The fleet is held though its workers are idle; queue and fleet go on when it is back."""
    pool = make_pool(pools.manifest("headless", minimum=1, maximum=3, idle_seconds=1))
    names = pool.submit("nap", [{"number": number, "seconds": 6.0} for number in range(5)])
    pool.api.wait("three ready workers", lambda: pool.ready() == 3, seconds=60)
    without_dispatcher()
    text, warnings = says(pool, condition="DispatcherConnected", status="False", seconds=60)
    assert "kubectl get pods" in text
    assert any(event["reason"] == "DispatcherUnreachable" for event in warnings)
    # Long after the running tasks ended and the idle time-out passed.
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        assert pool.wanted() == 3
        time.sleep(0.5)
    command = ["scale", f"statefulset/{penstock.release}-dispatcher", "--replicas=1"]
    penstock.api.kubectl(*command, "--namespace", penstock.namespace)
    done = pool.wait_all(names, seconds=90)
    assert {task.state.value for task in done} == {"SUCCEEDED"}
    pool.settles_at(1, seconds=60)
    assert kube.condition(pool.resource(), "DispatcherConnected")["status"] == "True"
