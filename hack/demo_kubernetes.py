"""`make demo-kubernetes`: the whole of Penstock on a real cluster, from nothing to a tidy end.

A cluster (found, or started here), the images, `helm install`, `kubectl apply` of example 01, then
the example's own driver from outside the cluster: two bursts, and every file of Python's standard
library, each result compared with a computation here. Meanwhile the queue and the fleet are drawn;
at the end they are plotted, and everything that was made is removed again.

What a user would type is printed before it is done. Exit status 0 means: every result was right.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rich.console

from rig import environment, installation, kube, pools, processes, screen, timeline

NAMESPACE = "penstock-demo"
EXAMPLE = environment.ROOT / "examples" / "01-dynamic-scaling"
POOL = "dynamic-scaling"
FLEET_SHRINKS_SECONDS_MAX = 60.0

console = rich.console.Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of the driver."""

    exit_code: int
    #: What it said, without the samples that we draw ourselves.
    summary: Sequence[str]
    samples: Sequence[timeline.Sample]


def say(text: str) -> None:
    """A heading."""
    console.print(f"[bold]==> {text}[/bold]")


def typed(command: str) -> None:
    """What a user would type here."""
    console.print(f"    [dim]$ {command}[/dim]")


@contextlib.contextmanager
def installed(api: kube.Kube) -> Iterator[installation.Installation]:
    """Penstock, installed with no values; removed again at the end."""
    one = installation.Installation(api=api, namespace=NAMESPACE)
    one.remove()
    found_resource = installation.has_resource(api)
    try:
        say("Penstock")
        typed(f"helm install penstock charts/penstock --namespace {NAMESPACE} --create-namespace")
        started = time.monotonic()
        one.install()
        console.print(
            f"    dispatcher and operator are ready after {time.monotonic() - started:.1f} s"
        )
        yield one
    finally:
        say("Tidy up")
        typed(f"helm uninstall penstock --namespace {NAMESPACE}")
        typed(f"kubectl delete namespace {NAMESPACE}")
        started = time.monotonic()
        one.remove()
        if not found_resource:
            # The chart keeps it, for the sake of pools that others may have.
            api.kubectl("delete", "customresourcedefinition", installation.RESOURCE)
        console.print(f"    gone after {time.monotonic() - started:.1f} s")


def make_pool(penstock: installation.Installation, *, address: str) -> pools.Pool:
    """Example 01's pool, with its two workers ready."""
    say("A WorkerPool of 2 to 10 workers")
    manifest = EXAMPLE / "workerpool.yaml"
    shown = manifest.relative_to(environment.ROOT)
    typed(f"kubectl apply --namespace {NAMESPACE} --filename {shown}")
    penstock.api.kubectl("apply", "--namespace", NAMESPACE, "--filename", str(manifest))
    pool = pools.Pool(penstock, name=POOL, address=address)
    pool.settles_at(2, seconds=60)
    console.print(penstock.api.kubectl("get", "wpool", "--namespace", NAMESPACE).rstrip())
    return pool


def drive(pool: pools.Pool, *, address: str, run: str) -> Outcome:
    """One run of the example's driver, with the timeline drawn while it runs."""
    arguments = [run, "--address", address, "--pool", f"{NAMESPACE}/{POOL}"]
    driver = EXAMPLE / "driver.py"
    typed(f"python {driver.relative_to(environment.ROOT)} {' '.join(arguments)}")
    with screen.Screen(run, console) as shown, pool.timeline(shown.show) as seen:
        process = processes.start([sys.executable, str(driver), *arguments], dict(os.environ))
        said, _ = process.communicate()
        processes.stop(process)
        if run == "stdlib":
            pool.settles_at(2, seconds=FLEET_SHRINKS_SECONDS_MAX)
    summary = [line for line in said.splitlines() if line.strip() and not line.startswith(" ")]
    return Outcome(process.returncode, summary, seen.samples)


def demonstrate(api: kube.Kube) -> int:
    """Everything on a cluster that is there."""
    failed = []
    with installed(api) as penstock, penstock.forward() as forwarded:
        pool = make_pool(penstock, address=forwarded.address)
        for title, run in (
            ("A burst of 20 one-second tasks, then one of 10", "burst"),
            ("Every file of Python's standard library: hashed, compressed, compared", "stdlib"),
        ):
            say(title)
            outcome = drive(pool, address=forwarded.address, run=run)
            console.print(timeline.plot(outcome.samples), markup=False)
            for line in outcome.summary:
                console.print(f"    {line}", markup=False)
            if outcome.exit_code != 0:
                failed.append(run)
        say("What the operator says of it")
        for event in pool.events():
            if event["reason"].startswith("Scaled"):
                console.print(f"    {event['message']}", markup=False)
        pool.client.close()
    if failed:
        console.print(f"[bold red]failed: {', '.join(failed)}[/bold red]")
        return 1
    return 0


def main() -> int:
    """Return 0 when every result was right, 3 where no cluster is possible."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    say("A cluster, and the images in it")
    try:
        cluster = environment.ensure()
    except environment.ImpossibleError as error:
        console.print(f"There can be no cluster here: {error}", markup=False)
        return environment.IMPOSSIBLE
    api = kube.Kube(cluster.variables)
    try:
        code = demonstrate(api)
    except (kube.CommandError, kube.NotYetError) as error:
        console.print(str(error), markup=False, style="red")
        code = 1
    finally:
        api.close()
        cluster.down()
    if code == 0:
        say(f"Done in {time.monotonic() - started:.0f} s: every result was right")
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
