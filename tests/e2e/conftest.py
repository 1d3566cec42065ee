"""A cluster, Penstock on it, and pools to play with.

Everything happens on a real cluster (see `hack/rig`); where none can be had, these tests are
skipped and say why. One installation serves the whole session, in the namespace `penstock-e2e`;
each test makes pools of its own. Environment:

PENSTOCK_E2E_KUBECONFIG  the cluster to use (hack/cluster has the whole choice)
PENSTOCK_E2E_ROUNDS      how often each kill is repeated (1)
PENSTOCK_E2E_SCALEDOWNS  how many random scale-downs are watched (6)
PENSTOCK_E2E_SEED        seed of what is random (drawn, and printed)
PENSTOCK_E2E_KEEP        set: leave installation and cluster running
"""

import contextlib
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig import chaos, environment, installation, kube, pools

KEEP = bool(os.environ.get("PENSTOCK_E2E_KEEP"))
NAMESPACE = "penstock-e2e"
HANDLERS = Path(__file__).parent / "e2e_handlers.py"


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM is Ctrl-C: the fixtures then stop what they have started."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a cluster and minutes rather than seconds."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(600, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows the state of the installation it used."""
    report = yield
    release = getattr(item, "funcargs", {}).get("penstock")
    if report.failed and isinstance(release, installation.Installation):
        with contextlib.suppress(Exception):
            report.sections.append(("the installation", release.describe()))
    return report


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[environment.Environment]:
    """A running cluster with the images in it. Its progress is shown, captured or not."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    visible = capture.global_and_fixture_disabled if capture else contextlib.nullcontext
    with visible():
        print(flush=True)
        try:
            found = environment.ensure()
        except environment.ImpossibleError as error:
            pytest.skip(str(error))
    yield found
    if not KEEP:
        with visible():
            print(flush=True)
            found.down()


@pytest.fixture(scope="session")
def kubeconfig(cluster: environment.Environment) -> Path:
    """The kubeconfig of the cluster. KUBECONFIG and PATH lead to it, kubectl and helm too."""
    os.environ.update(cluster.variables)
    return cluster.kubeconfig


@pytest.fixture(scope="session")
def api(cluster: environment.Environment) -> Iterator[kube.Kube]:
    """The cluster's API."""
    one = kube.Kube(cluster.variables)
    yield one
    one.close()


@pytest.fixture(scope="session")
def penstock(api: kube.Kube) -> Iterator[installation.Installation]:
    """Penstock, installed with no values at all."""
    one = installation.Installation(api=api, namespace=NAMESPACE)
    one.remove()  # what an interrupted run may have left
    found_resource = installation.has_resource(api)
    one.install()
    pools.put_handlers(api, namespace=NAMESPACE, source=HANDLERS)
    yield one
    if not KEEP:
        one.remove()
        if not found_resource:
            api.kubectl("delete", "customresourcedefinition", installation.RESOURCE)


@pytest.fixture(scope="session")
def address(penstock: installation.Installation) -> Iterator[str]:
    """The dispatcher's address on this machine, through kubectl port-forward."""
    with penstock.forward() as forwarded:
        yield forwarded.address


@pytest.fixture
def make_pool(penstock: installation.Installation, address: str) -> Iterator[pools.Maker]:
    """A maker of pools, which are gone again after the test."""
    with pools.Maker(penstock, address=address) as made:
        yield made


@pytest.fixture(scope="session")
def killer(api: kube.Kube) -> Iterator[chaos.Chaos]:
    """kill -9."""
    with chaos.Chaos(api) as one:
        yield one


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Randomness that can be repeated: the seed is printed with a failure."""
    seed = int(os.environ.get("PENSTOCK_E2E_SEED") or random.SystemRandom().randrange(10**6))
    print(f"PENSTOCK_E2E_SEED={seed}", file=sys.stderr)
    return random.Random(seed)
