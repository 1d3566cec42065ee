"""`make demo`: the whole of Penstock on this machine, without Kubernetes, in about a minute.

A local fleet of 1 to 8 workers from example 01's manifest and handlers; every file of Python's
standard library through it in three bursts, each result compared with a computation here. The fleet
grows with each burst and is 1 worker again before the next. Exit status 0 means: every result was
right, the fleet grew to 8 and shrank to 1 each time, and no worker was told to stop that ran
something.
"""

import argparse
import asyncio
import collections
import contextlib
import datetime as dt
import importlib
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from importlib import metadata
from typing import Any

import rich.console
import yaml

import penstock
from penstock_operator.local import state
from rig import local_fleet, recording, screen, timeline

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "01-dynamic-scaling"
WORKERS_MIN, WORKERS_MAX = 1, 8
IDLE_SECONDS = 2
BURSTS = 3
SHRINKS_SECONDS_MAX = 40.0
RATE_SECONDS = 2.0
REST_SECONDS = 1.0
SCALED = re.compile(r"^ *([0-9.]+ s)  local-demo: (.* workers \(.*)$", re.MULTILINE)

console = rich.console.Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A heading."""
    console.print(f"[bold]==> {text}[/bold]")


def manifest_in(folder: pathlib.Path) -> pathlib.Path:
    """Example 01's pool with our numbers."""
    document: Any = yaml.safe_load((EXAMPLE / "workerpool.yaml").read_text())
    document["metadata"]["name"] = "local-demo"
    document["spec"]["scaling"] = {
        "minReplicas": WORKERS_MIN,
        "maxReplicas": WORKERS_MAX,
        "scaleDown": {"idleTimeoutSeconds": IDLE_SECONDS},
    }
    path = folder / "workerpool.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


class Watch:
    """Samples the queue and the fleet, and shows them."""

    def __init__(self, client: penstock.Client, folder: state.Folder, shown: screen.Screen) -> None:
        self._client = client
        self._folder = folder
        self._shown = shown
        self._started = time.monotonic()
        self._done: collections.deque[tuple[float, int]] = collections.deque()
        self._sampled = asyncio.Event()
        self.samples: list[timeline.Sample] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            pool = await self._client.pool()
            sample = timeline.Sample(
                seconds=time.monotonic() - self._started,
                pending=pool.pending,
                running=pool.in_flight,
                wanted=sum(len(names) for names in self._folder.remembered().values()),
                ready=pool.slots_total,
                terminating=0,
                done=pool.succeeded_total,
            )
            self.samples.append(sample)
            self._sampled.set()
            self._shown.show(sample, rate=self._rate(sample.seconds, sample.done))
            await asyncio.sleep(timeline.SAMPLE_SECONDS)

    def _rate(self, now: float, done: int) -> float:
        self._done.append((now, done))
        while self._done[0][0] < now - RATE_SECONDS:
            self._done.popleft()
        since, before = self._done[0]
        return (done - before) / (now - since) if now > since else 0.0

    async def shrunk(self) -> None:
        """Return when the fleet is as small as it may be. Raises TimeoutError."""
        async with asyncio.timeout(SHRINKS_SECONDS_MAX):
            while (last := self.samples[-1]).ready > WORKERS_MIN or last.wanted > WORKERS_MIN:
                self._sampled.clear()
                await self._sampled.wait()


@contextlib.asynccontextmanager
async def watching(
    client: penstock.Client, folder: state.Folder, shown: screen.Screen
) -> AsyncIterator[Watch]:
    """A watch for the length of a block."""
    watch = Watch(client, folder, shown)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def keep(samples: Sequence[timeline.Sample], path: pathlib.Path, *, files: int) -> None:
    """Keep what `make picture` draws."""
    sizes = f"{WORKERS_MIN} to {WORKERS_MAX} workers"
    title = f"make demo: {files:,} files in {BURSTS} bursts through {sizes}"
    circumstances = (
        f"recorded {dt.datetime.now(dt.UTC):%Y-%m-%d} on {len(os.sched_getaffinity(0))} cores, "
        f"penstock {metadata.version('penstock')}"
    )
    kept = recording.Recording(title, circumstances, tuple(samples))
    path.write_text(recording.dump(kept), encoding="utf-8")


async def bursts(fleet: local_fleet.LocalFleet, kept: pathlib.Path | None) -> list[str]:
    """The three bursts; returns what was not as it should be. `kept` gets the timeline."""
    sys.path.insert(0, str(EXAMPLE))
    driver: Any = importlib.import_module("driver")
    pieces: Any = importlib.import_module("pieces")
    root = pieces.standard_library()
    paths = pieces.files(root)
    tally, busy, wrong = driver.Tally(), 0.0, list[str]()
    record, folder = fleet.record(), state.Folder(fleet.state)
    shown = screen.Screen("penstock up", console, workers="workers")
    async with penstock.Client(record["address"], pool=record["pools"][0]) as client:
        with shown:
            async with watching(client, folder, shown) as watch:
                for number in range(BURSTS):
                    part = paths[number::BURSTS]
                    say(f"Burst {number + 1} of {BURSTS}: {len(part)} files")
                    begun, seen = time.monotonic(), len(watch.samples)
                    await driver.send(client, part, root=root, tally=tally)
                    busy += time.monotonic() - begun
                    await watch.shrunk()
                    most = max(sample.ready for sample in watch.samples[seen:])
                    if most != WORKERS_MAX:
                        wrong.append(f"burst {number + 1} grew the fleet to {most}")
                # The timeline ends with a fleet that is small, not with its last step.
                await asyncio.sleep(REST_SECONDS)
        say("Queue and workers")
        console.print(timeline.plot(watch.samples), markup=False)
        if kept is not None:
            keep(watch.samples, kept, files=len(paths))
        for line in tally.lines(seconds=busy):
            console.print(f"    {line}", markup=False)
    return [*wrong, *tally.failures[: driver.FAILURES_SHOWN_MAX]]


def demonstrate(folder: pathlib.Path, kept: pathlib.Path | None) -> list[str]:
    """Everything; returns what was not as it should be."""
    fleet = local_fleet.LocalFleet(folder, manifest_in(folder), app_dir=EXAMPLE)
    say(f"A local fleet of {WORKERS_MIN} to {WORKERS_MAX} workers")
    shown = (EXAMPLE / "workerpool.yaml").relative_to(ROOT)
    console.print(f"    [dim]$ penstock up -f {shown}[/dim]   (with 1 to 8 workers)")
    begun = time.monotonic()
    try:
        fleet.start()
        console.print(f"    ready after {time.monotonic() - begun:.1f} s")
        wrong = asyncio.run(bursts(fleet, kept))
        told = fleet.terminated()
        fleet.send(signal.SIGINT)
        if (status := fleet.wait()) != 0:
            wrong.append(f"penstock up has ended with {status}")
    finally:
        fleet.end()
    say("What the fleet says of it")
    for when, what in SCALED.findall(fleet.output.read_text()):
        console.print(f"    {when:>7}  {what}", markup=False)
    if any(told):
        wrong.append("a worker was told to stop while it ran something")
    console.print(f"    {len(told)} workers were told to stop, each of them idle and drained")
    return wrong


def main() -> int:
    """Return 0 when everything was as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--record", type=pathlib.Path, metavar="FILE", help="keep the timeline")
    kept = parser.parse_args().record
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun = time.monotonic()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="penstock-demo-"))
    try:
        wrong = demonstrate(folder, kept)
    except (local_fleet.NotYetError, TimeoutError, penstock.PenstockError) as error:
        wrong = [f"{type(error).__name__}: {error}"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for line in wrong:
        console.print(line, markup=False, style="red")
    if wrong:
        return 1
    say(f"Done in {time.monotonic() - begun:.0f} s: every result was right")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
