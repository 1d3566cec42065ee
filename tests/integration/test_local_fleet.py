"""`penstock up` with real processes: it grows, shrinks, survives, and stops as it says."""

import os
import pathlib
import signal
from collections.abc import Callable, Iterator

import pytest

import penstock
from penstock_operator.local import state
from rig import local_fleet

HERE = pathlib.Path(__file__).resolve().parent
MANIFEST = """\
apiVersion: penstock.dev/v1alpha1
kind: WorkerPool
metadata: {{name: here}}
spec:
  scaling: {{minReplicas: {least}, maxReplicas: {most}, scaleDown: {{idleTimeoutSeconds: 1}}}}
  drain: {{timeoutSeconds: {drain}}}
  template:
    spec:
      containers:
      - name: worker
        image: example/worker
        args: ["worker_handlers:worker"]
"""
Make = Callable[..., local_fleet.LocalFleet]
eventually = local_fleet.eventually


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Iterator[Make]:
    """`fleet(least=1, most=4)`: a running fleet; ended with the test."""
    made: list[local_fleet.LocalFleet] = []

    def make(*, least: int = 1, most: int = 4, drain: int = 20) -> local_fleet.LocalFleet:
        manifest = tmp_path / "pool.yaml"
        manifest.write_text(MANIFEST.format(least=least, most=most, drain=drain))
        one = local_fleet.LocalFleet(tmp_path, manifest, app_dir=HERE)
        made.append(one)
        one.start()
        return one

    yield make
    for one in made:
        one.end()


def lives(pid: int) -> bool:
    return state.start_time(pid) is not None


def test_it_grows_and_shrinks_and_no_busy_worker_is_told_to_stop(fleet: Make) -> None:
    one = fleet(least=1, most=4)
    with one.client() as client:
        sizes = []
        tasks = [client.submit("patient", b"1") for _ in range(12)]

        def look() -> penstock.PoolInfo:
            pool = client.pool()
            sizes.append(pool.slots_total)
            return pool

        eventually(lambda: look().slots_total == 4, what="4 workers")
        eventually(lambda: look().succeeded_total == 12, what="12 tasks done")
        eventually(lambda: look().slots_total == 1, what="1 worker")
        assert {client.get(task).state.value for task in tasks} == {"SUCCEEDED"}
        assert max(sizes) == 4
        eventually(lambda: len(one.terminated()) == 3, what="three workers told to stop")
        # The fleet is 1 again, and stays so.
        assert len(one.workers()) == 4
        assert one.terminated() == [0, 0, 0]
        # A line may come after what it tells of.
        idle = "(Idle): idle for 1 s and drained"
        eventually(lambda: idle in one.output.read_text(), what="a line for the scale-down")
        assert "→ 4 workers (Demand)" in one.output.read_text()


def test_a_killed_worker_is_replaced_and_its_task_runs_elsewhere(fleet: Make) -> None:
    one = fleet(least=2, most=2)
    with one.client() as client:
        task = client.submit("patient", b"2")
        worker = eventually(
            lambda: next((each for each in client.workers() if each.tasks), None), what="a start"
        )
        os.kill(one.workers()[worker.id], signal.SIGKILL)
        done = client.wait(task, timeout=20)
        assert done.succeeded
        assert done.worker_losses == 1
        assert done.worker != worker.id
        eventually(lambda: client.pool().slots_total == 2, what="a successor")
        assert len(one.workers()) == 3
    assert "killed by SIGKILL" in (one.state / "logs" / "fleet.log").read_text()


def test_an_interrupt_drains_and_the_queue_goes_on_next_time(fleet: Make) -> None:
    one = fleet(least=1, most=1)
    with one.client() as client:
        running = client.submit("patient", b"2")
        waiting = [client.submit("echo", str(number).encode()) for number in range(5)]
        eventually(lambda: one.runs(running))
        one.send(signal.SIGINT)

        def refused() -> str:
            try:
                client.submit("echo", b"late")
            except penstock.PenstockError as error:
                return str(error.reason)
            return ""

        assert eventually(refused) == "POOL_CLOSED"
        assert one.wait() == 0
    pids = one.workers().values()
    assert not [pid for pid in pids if lives(pid)]
    assert one.record() == {}
    assert "drained; tasks that wait are kept" in one.output.read_text()
    one.start()
    with one.client() as client:
        assert client.get(running).succeeded
        assert [client.result(task, timeout=20) for task in waiting] == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
        ]


def test_a_second_interrupt_stops_at_once_and_nothing_is_lost(fleet: Make) -> None:
    one = fleet(least=1, most=1)
    with one.client() as client:
        task = client.submit("patient", b"5")
        eventually(lambda: one.runs(task))
    one.send(signal.SIGINT)
    eventually(lambda: "draining" in one.output.read_text())
    one.send(signal.SIGINT)
    assert one.wait(seconds=4) == 130
    assert not [pid for pid in one.workers().values() if lives(pid)]
    one.start()
    with one.client() as client:
        eventually(lambda: client.get(task).state.value == "RUNNING", seconds=10)


def test_what_does_not_end_in_time_is_handed_back(fleet: Make) -> None:
    one = fleet(least=1, most=1, drain=1)
    with one.client() as client:
        task = client.submit("patient", b"50")
        eventually(lambda: one.runs(task))
        one.send(signal.SIGTERM)
        assert one.wait(seconds=15) == 1
    assert "the drain time-out has passed" in one.output.read_text()


def test_workers_do_not_outlive_a_fleet_that_is_killed(fleet: Make) -> None:
    one = fleet(least=2, most=2)
    with one.client() as client:
        task = client.submit("patient", b"3")
        eventually(lambda: one.runs(task))
    one.send(signal.SIGKILL)
    one.wait()
    eventually(lambda: not [pid for pid in one.workers().values() if lives(pid)], seconds=5)
    assert one.record()["ready"], "the record is stale"
    one.start()
    with one.client() as client:
        # Not after the reconnect grace: the workers of before are reported gone.
        assert client.wait(task, timeout=15).succeeded


def test_the_dispatcher_comes_back_and_tasks_run_on(fleet: Make) -> None:
    one = fleet(least=1, most=1)
    with one.client() as client:
        task = client.submit("patient", b"3")
        eventually(lambda: one.runs(task))
        journal = str(one.state / "journal").encode()
        [dispatcher] = [
            int(path.name)
            for path in pathlib.Path("/proc").iterdir()
            if path.name.isdecimal() and journal in (path / "cmdline").read_bytes().split(b"\0")
        ]
        os.kill(dispatcher, signal.SIGKILL)
        done = client.wait(task, timeout=30)
        assert (done.succeeded, done.attempt) == (True, 1)
    assert len(one.workers()) == 1
