"""Uninstalling never hangs: with pools present, the operator gone first, busy workers and all."""

import time
from pathlib import Path

from rig import forward, kube, pools
from rig.installation import Installation

HANDLERS = Path(__file__).parent / "e2e_handlers.py"
SECONDS_MAX = 60.0


def test_uninstall_then_namespace_with_pools_present_and_operator_gone(api: kube.Kube) -> None:
    leaving = Installation(api=api, namespace="penstock-e2e-leaving")
    leaving.remove()
    leaving.install()
    try:
        pools.put_handlers(api, namespace=leaving.namespace, source=HANDLERS)
        with leaving.forward() as forwarded:
            pool = leave_busy(leaving, forwarded)
            operator = ["scale", f"deployment/{leaving.release}-operator", "--replicas=0"]
            api.kubectl(*operator, "--namespace", leaving.namespace)
            api.wait("no operator", lambda: not leaving.part("operator"), seconds=30)
            assert pool.pods()
        started = time.monotonic()
        leaving.uninstall()
        api.kubectl("delete", "namespace", leaving.namespace, f"--timeout={SECONDS_MAX:.0f}s")
        assert time.monotonic() - started < SECONDS_MAX
    finally:
        leaving.remove()


def leave_busy(leaving: Installation, forwarded: forward.Forward) -> pools.Pool:
    """A pool with two workers, both of which run something."""
    name = "last"
    made = pools.manifest(name, minimum=2, maximum=2)
    # Its workers may finish what they run, so they are given something short.
    made["spec"]["drain"] = {"timeoutSeconds": 10}
    leaving.api.apply(made, namespace=leaving.namespace)
    pool = pools.Pool(leaving, name=name, address=forwarded.address)
    pool.settles_at(2, seconds=60)
    leaving.api.wait("the dispatcher to know the pool", pool.known, seconds=30)
    pool.submit("nap", [{"number": number, "seconds": 20.0} for number in range(4)])
    leaving.api.wait("tasks to run", lambda: pool.depth().running == 2, seconds=30)
    pool.client.close()
    return pool
