"""From a submission to more pods: how long the way is, on a real cluster.

    python benchmarks/scale_up.py [--bursts 20] [--json FOLDER]

A pool of one idle worker gets a burst of tasks; three moments are taken, all on this machine's
clock: the burst is submitted (the first call is about to be made), the Deployment's new replicas
are seen by a watch, and a task starts on a pod that was not there before (as the dispatcher records
it). Then the pool is left alone until it is small again. What the cluster needs to start a pod is
in the second figure and not in the first.

The cluster is found or started as for the tests (see hack/cluster).
"""

import argparse
import http.client
import json
import pathlib
import statistics
import sys
import threading
import time
from dataclasses import asdict, dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "hack"))

import rich.console  # noqa: E402
import rich.progress  # noqa: E402
import rich.table  # noqa: E402
from json_files import JSON_HELP, write_json  # noqa: E402

from rig import environment, installation, kube, pools  # noqa: E402

NAMESPACE = "penstock-benchmark"
HANDLERS = ROOT / "tests" / "e2e" / "e2e_handlers.py"
TASKS, TASK_SECONDS, MAXIMUM = 20, 1.0, 10
BURST_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Burst:
    """Seconds since the burst was submitted."""

    patched: float
    started_on_new_pod: float


class ReplicasWatch:
    """When, on this machine's clock, a Deployment of the pool was first seen with more replicas."""

    def __init__(self, api: kube.Kube, pool: pools.Pool) -> None:
        self._api, self._pool = api, pool
        self._seen = threading.Event()
        self._closed = threading.Event()
        self.time = 0.0
        self._above = pool.wanted()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        path = f"/apis/apps/v1/namespaces/{self._pool.namespace}/deployments"
        query = {"labelSelector": self._pool.selector, "watch": "1"}
        while not self._closed.is_set():
            try:
                with self._api.response(path, query, timeout_seconds=300) as answer:
                    for raw in answer:
                        now = time.time()
                        replicas = json.loads(raw)["object"].get("spec", {}).get("replicas", 0)
                        if replicas > self._above:
                            self.time = now
                            self._seen.set()
                            return
            except (OSError, http.client.HTTPException):
                self._closed.wait(0.1)

    def wait(self) -> float:
        """The moment, in seconds since the epoch."""
        if not self._seen.wait(BURST_SECONDS_MAX):
            raise RuntimeError("the Deployment was not raised")
        return self.time

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()


def burst(api: kube.Kube, pool: pools.Pool, number: int) -> Burst:
    """One burst, from a fleet of one to a fleet of one."""
    before = {pod["metadata"]["name"] for pod in pool.pods()}
    watch = ReplicasWatch(api, pool)
    time.sleep(0.5)  # the watch is open
    began = time.time()
    wishes = [{"number": number * TASKS + each, "seconds": TASK_SECONDS} for each in range(TASKS)]
    names = pool.submit("nap", wishes)
    try:
        patched = watch.wait()
    finally:
        watch.close()
    done = pool.wait_all(names, seconds=BURST_SECONDS_MAX)
    new = [
        task.start_time.timestamp()
        for task in done
        if task.start_time is not None and task.worker not in before
    ]
    pool.settles_at(1, seconds=BURST_SECONDS_MAX)
    return Burst(patched=patched - began, started_on_new_pod=min(new) - began)


def measure(api: kube.Kube, count: int) -> list[Burst]:
    """All bursts, on an installation of its own."""
    penstock = installation.Installation(api=api, namespace=NAMESPACE)
    penstock.remove()
    found_resource = installation.has_resource(api)
    try:
        penstock.install()
        pools.put_handlers(api, namespace=NAMESPACE, source=HANDLERS)
        with penstock.forward() as forwarded:
            made = pools.manifest("bench", minimum=1, maximum=MAXIMUM, idle_seconds=1)
            with pools.Maker(penstock, address=forwarded.address) as maker:
                pool = maker(made)
                progress = rich.progress.track(
                    range(count), "bursts", console=rich.console.Console(stderr=True)
                )
                return [burst(api, pool, number) for number in progress]
    finally:
        penstock.remove()
        if not found_resource:
            api.kubectl("delete", "customresourcedefinition", installation.RESOURCE)


def summary(values: list[float]) -> dict[str, float]:
    """p50, p95 and the extremes, in milliseconds."""
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    found = {"min": min(values), "p50": cuts[9], "p95": cuts[18], "max": max(values)}
    return {name: round(value * 1000, 1) for name, value in found.items()}


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path, metavar="FOLDER", help=JSON_HELP)
    given = parser.parse_args()
    cluster = environment.ensure()
    api = kube.Kube(cluster.variables)
    try:
        bursts = measure(api, given.bursts)
    finally:
        api.close()
        cluster.down()
    figures = {
        "submit to Deployment patch": summary([each.patched for each in bursts]),
        "submit to first task on a new pod": summary([each.started_on_new_pod for each in bursts]),
    }
    if given.json:
        all_bursts = [asdict(each) for each in bursts]
        write_json(given.json, "scale_up", {"figures_ms": figures, "bursts": all_bursts})
    table = rich.table.Table(title=f"{given.bursts} bursts of {TASKS} tasks, milliseconds")
    table.add_column("")
    for name in ("min", "p50", "p95", "max"):
        table.add_column(name, justify="right")
    for name, row in figures.items():
        table.add_row(name, *(f"{value:.0f}" for value in row.values()))
    rich.console.Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
