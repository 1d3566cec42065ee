"""The fleet follows the queue: up in one step, down when idle, and never at a busy pod's cost."""

import itertools
import os
import random
import time
from collections.abc import Sequence

from rig import kube, logs, oracles, pools, timeline

SCALE_DOWNS = int(os.environ.get("PENSTOCK_E2E_SCALEDOWNS", "6"))


def naps(count: int, *, seconds: float, first: int = 0) -> list[object]:
    """Payloads of tasks that sleep."""
    return [{"number": first + number, "seconds": seconds} for number in range(count)]


def test_no_busy_pod_gets_sigterm_in_random_scale_downs(
    make_pool: pools.Maker, rng: random.Random
) -> None:
    """Long tasks keep some workers busy while others turn idle and leave.

    Counted from the pods' own logs.
    """
    pool = make_pool(pools.manifest("shrinking", minimum=1, maximum=6, idle_seconds=1))
    names: list[str] = []
    deadline = time.monotonic() + 20.0 * SCALE_DOWNS + 30
    with pool.logs() as collector, pool.timeline() as seen:
        while under_load(seen.samples) < SCALE_DOWNS:
            assert time.monotonic() < deadline, f"{under_load(seen.samples)} scale-downs"
            wishes = [
                {"number": len(names) + number, "seconds": seconds}
                for number, seconds in enumerate(
                    [rng.uniform(0.1, 0.4) for _ in range(rng.randint(3, 8))]
                    + [rng.uniform(3.0, 5.0) for _ in range(rng.randint(1, 3))]
                )
            ]
            rng.shuffle(wishes)
            names += pool.submit("nap", wishes)
            time.sleep(rng.uniform(2.0, 4.0))
        done = pool.wait_all(names, seconds=60)
        pool.settles_at(1, seconds=60)
        gone = settled(pool, collector, tasks=len(names))

    assert {task.state.value for task in done} == {"SUCCEEDED"}
    assert len(gone) >= SCALE_DOWNS


def test_a_changed_template_rolls_without_stopping_a_task(make_pool: pools.Maker) -> None:
    """A new revision comes up beside the old one, which drains: no running task is stopped."""
    made = pools.manifest("rolling", minimum=2, maximum=3, idle_seconds=1)
    pool = make_pool(made)
    old = {deployment["metadata"]["name"] for deployment in deployments(pool)}
    assert len(old) == 1
    with pool.logs() as collector:
        names = pool.submit("nap", naps(6, seconds=4.0))
        pool.api.wait("tasks to run", lambda: pool.depth().running >= 2, seconds=30)
        changed = made | {"metadata": {"name": pool.name}}
        container = changed["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [{"name": "EDITION", "value": "two"}]
        pool.apply(changed)
        names += pool.submit("nap", naps(4, seconds=1.0, first=6))
        done = pool.wait_all(names, seconds=90)
        pool.settles_at(2, seconds=90)
        gone = settled(pool, collector, tasks=len(names))

    assert {task.state.value for task in done} == {"SUCCEEDED"}
    assert len(gone) >= 2
    in_use = {one["metadata"]["name"] for one in deployments(pool) if one["spec"]["replicas"]}
    assert len(in_use) == 1
    assert in_use.isdisjoint(old)
    for pod in pool.pods():
        environment = pod["spec"]["containers"][0]["env"]
        assert {"name": "EDITION", "value": "two"} in environment


def settled(pool: pools.Pool, collector: logs.Collector, *, tasks: int) -> set[str]:
    """Check what every quiet scene has in common; the UIDs of the pods that have gone.

    Each task was started exactly once, and each pod that went said that it ran nothing when it was
    told to.
    """
    collector.settle(seconds=30)
    lines = collector.lines()
    assert oracles.starts(lines) == dict.fromkeys(range(tasks), 1)
    gone = set(collector.pods_seen()) - {pod["metadata"]["uid"] for pod in pool.pods()}
    assert {uid: oracles.sigterms(lines).get(uid) for uid in gone} == dict.fromkeys(gone, 0)
    assert oracles.busy_at_sigterm(lines) == {}
    return gone


def deployments(pool: pools.Pool) -> list[kube.Object]:
    """The Deployments of a pool."""
    return pool.api.deployments(pool.namespace, pool.selector)


def under_load(samples: Sequence[timeline.Sample]) -> int:
    """How often `replicas` went down while at least one task ran."""
    pairs = itertools.pairwise(samples)
    return sum(now.wanted < before.wanted and now.running > 0 for before, now in pairs)
