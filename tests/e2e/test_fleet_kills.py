"""kill -9 under load, in mid scale-up and in mid scale-down: nothing is lost, nothing is run twice.

One round kills one part twice, once while the fleet grows and once while it shrinks. What is then
true: each accepted task has one outcome, the right one; with living workers no task was started
twice; the fleet ends where it should.
"""

import json
import os
import random
import time

import pytest

from rig import chaos, kube, oracles, pools
from rig.installation import Installation

ROUNDS = int(os.environ.get("PENSTOCK_E2E_ROUNDS", "1"))
#: The longest that convergence may take after the last kill: a lease and a back-off of kubelet's.
SETTLE_SECONDS_MAX = 120.0


class Scene:
    """One pool under load, and the killing of one part of its installation."""

    def __init__(
        self, pool: pools.Pool, killer: chaos.Chaos, rng: random.Random, *, victim: str
    ) -> None:
        self.pool = pool
        self.names: list[str] = []
        self._killer = killer
        self._rng = rng
        self._victim = victim

    def submit(self, *ranges: tuple[int, float, float]) -> None:
        """Submit naps: (how many, shortest, longest) each, in random order."""
        seconds = [
            self._rng.uniform(low, high) for count, low, high in ranges for _ in range(count)
        ]
        self._rng.shuffle(seconds)
        wishes = [
            {"number": len(self.names) + index, "seconds": each}
            for index, each in enumerate(seconds)
        ]
        self.names += self.pool.submit("nap", wishes, timeout=90)

    def kill(self, *, replace: bool) -> None:
        """SIGKILL the victim; `replace`: its pod is deleted too, so another one takes over."""
        time.sleep(self._rng.uniform(0.0, 1.0))
        installation = self.pool.installation
        if self._victim == "workers":
            ready = [pod for pod in self.pool.pods() if kube.is_ready(pod)]
            victims = self._rng.sample(ready, k=max(1, len(ready) // 2))
        else:
            victims = installation.part(self._victim)
        for pod in victims:
            self._killer.kill(pod)
        if replace:
            # The process is dead already; this only keeps kubelet's back-off out of the way.
            names = [pod["metadata"]["name"] for pod in victims]
            command = ["delete", "pod", "--namespace", installation.namespace, *names]
            self.pool.api.kubectl(*command, "--grace-period=0", "--force", "--wait=false")


@pytest.mark.timeout(300 + 180 * ROUNDS, func_only=True)
@pytest.mark.parametrize("victim", ["dispatcher", "operator", "workers"])
def test_nothing_is_lost_when_a_part_is_killed(
    penstock: Installation,
    make_pool: pools.Maker,
    killer: chaos.Chaos,
    rng: random.Random,
    victim: str,
) -> None:
    # Leases of a worker that was killed end soon, so that rounds are short.
    delivery = {"heartbeatSeconds": 1, "leaseSeconds": 5, "maxWorkerLosses": 20}
    pool = make_pool(
        pools.manifest(
            f"kill-{victim}", minimum=1, maximum=6, idle_seconds=1, spec={"delivery": delivery}
        )
    )
    scene = Scene(pool, killer, rng, victim=victim)
    with pool.logs() as collector, pool.timeline() as seen:
        for number in range(ROUNDS):
            replace = number % 2 == 1
            scene.submit((30, 0.3, 1.2))
            pool.api.wait("growth", lambda: pool.wanted() > 1, seconds=60)
            scene.kill(replace=replace)
            scene.submit((20, 0.3, 1.2), (2, 8.0, 10.0))
            top = pool.api.wait("a full fleet", lambda: pool.wanted() == 6 and 6, seconds=90)
            pool.api.wait("shrinking", lambda top=top: pool.wanted() < top, seconds=90)
            scene.kill(replace=replace)
            scene.submit((5, 0.3, 1.2))
            pool.wait_all(scene.names, seconds=SETTLE_SECONDS_MAX)
            penstock.await_ready()
            pool.settles_at(1, seconds=SETTLE_SECONDS_MAX)
        collector.settle(seconds=30)

    tasks = list(pool.client.list(page_size=1000))
    assert sorted(task.name for task in tasks) == sorted(scene.names), "no task more, none less"
    assert {task.state.value for task in tasks} == {"SUCCEEDED"}
    for number, name in enumerate(scene.names):
        assert json.loads(pool.client.get(name).result)["number"] == number
    assert max(sample.wanted for sample in seen.samples) <= 6

    started = oracles.starts(collector.lines())
    assert set(started) == set(range(len(scene.names)))
    if victim != "workers":
        assert {number: count for number, count in started.items() if count > 1} == {}
        assert set(oracles.sigterms(collector.lines()).values()) <= {0}
        assert oracles.busy_at_sigterm(collector.lines()) == {}
