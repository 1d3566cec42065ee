"""Half of what goes through, for SOAK_MINUTES: memory, descriptors, threads, calls and the file.

A line for each sample while it runs; a table, plots and the verdicts at the end. How much a run of
this length can say is part of what it says (`rig.soak_judge`).
"""

import asyncio
import gc
import os
import time
from collections.abc import Sequence

from penstock_dispatcher.journal import compaction, sqlite
from rig import dispatchers, figures, soak_judge, soak_load

MINUTES = float(os.environ.get("SOAK_MINUTES", "20"))
PEAK_SECONDS = 15.0
SHARE_OF_PEAK = 0.5
SAMPLES = 300
SAMPLE_SECONDS_MIN, SAMPLE_SECONDS_MAX = 1.0, 5.0
SLOPE_MIB_PER_HOUR_MAX = 1.0
DESCRIPTORS_SLACK, THREADS_SLACK, CALLS_SLACK = 4, 2, 4
DRAIN_SECONDS_MAX = 120.0
UNFINISHED = ("pending", "delayed", "in_flight")

Series = dict[str, list[tuple[float, float]]]


def file_mib(process: dispatchers.DispatcherProcess) -> float:
    folder = process.folder / "data"
    names = (sqlite.FILE_NAME, sqlite.LOG_NAME)
    return sum((folder / name).stat().st_size for name in names) / figures.MIB


async def sample(process: dispatchers.DispatcherProcess) -> dict[str, float]:
    assert process.process is not None
    found = await asyncio.to_thread(figures.of, process.process.pid, process.http_address)
    metrics = await asyncio.to_thread(figures.metrics, process.http_address)
    return {
        "memory MiB": found.memory_bytes / figures.MIB,
        "file MiB": file_mib(process),
        "descriptors": found.descriptors,
        "threads": found.threads,
        "open calls": found.open_calls,
        "unfinished": sum(metrics[f"penstock_pool_{name}"] for name in UNFINISHED),
        "lag ms": metrics["penstock_dispatcher_loop_lag_seconds"] * 1000,
    }


async def peak(load: soak_load.Load) -> float:
    """Tasks a second that end when nobody holds back."""
    await asyncio.sleep(PEAK_SECONDS / 3)
    before = load.counts["ended"]
    await asyncio.sleep(PEAK_SECONDS)
    return (load.counts["ended"] - before) / PEAK_SECONDS


async def run(load: soak_load.Load, process: dispatchers.DispatcherProcess) -> Series:
    series: Series = {}
    began, ended = time.monotonic(), load.counts["ended"]
    every = min(max(SAMPLE_SECONDS_MIN, MINUTES * 60 / SAMPLES), SAMPLE_SECONDS_MAX)
    while (at := time.monotonic() - began) < MINUTES * 60:
        load.check()
        found = await sample(process)
        for name, value in found.items():
            series.setdefault(name, []).append((at, value))
        rate = (load.counts["ended"] - ended) / max(at, 1.0)
        told = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
        print(f"{at:7.0f} s  {rate:6.0f} tasks/s  {told}", flush=True)
        await asyncio.sleep(every - (time.monotonic() - began - at))
    return series


async def drained(
    load: soak_load.Load, process: dispatchers.DispatcherProcess, before: dict[str, float]
) -> dict[str, float]:
    """What is left when everything has ended and its retention is over."""
    await load.stop_clients()
    async with asyncio.timeout(DRAIN_SECONDS_MAX):
        while (await sample(process))["unfinished"]:
            await asyncio.sleep(1.0)
    await load.stop()
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    floor = compaction.FLOOR_BYTES / figures.MIB
    while True:
        gc.collect()  # our own ends of the connections
        found = await sample(process)
        settled = (
            found["open calls"] == 0
            and found["descriptors"] <= before["descriptors"] + DESCRIPTORS_SLACK
            and found["file MiB"] <= floor
        )
        if settled or time.monotonic() > deadline:
            return found
        await asyncio.sleep(1.0)


def verdicts(
    series: Series, before: dict[str, float], left: dict[str, float]
) -> Sequence[soak_judge.Verdict]:
    floor = compaction.FLOOR_BYTES / figures.MIB
    bounded = soak_judge.judge_bounded
    after = soak_judge.Verdict
    return (
        soak_judge.judge_memory(series["memory MiB"], slope_max=SLOPE_MIB_PER_HOUR_MAX),
        bounded("file MiB", series["file MiB"], factor=1.5, slack=floor),
        bounded("descriptors", series["descriptors"], factor=1.0, slack=DESCRIPTORS_SLACK),
        bounded("threads", series["threads"], factor=1.0, slack=THREADS_SLACK),
        bounded("open calls", series["open calls"], factor=1.0, slack=CALLS_SLACK),
        after(left["open calls"] > 0, f"open calls at the end: {left['open calls']:.0f}"),
        after(
            left["descriptors"] > before["descriptors"] + DESCRIPTORS_SLACK,
            f"descriptors: {before['descriptors']:.0f}, at the end {left['descriptors']:.0f}",
        ),
        after(
            left["file MiB"] > floor,
            f"file and log at the end: {left['file MiB']:.1f} MiB, of {floor:.0f} at most",
        ),
    )


async def test_nothing_grows_at_half_of_peak(
    dispatcher_process: dispatchers.DispatcherProcess,
) -> None:
    dispatcher_process.configure(soak_load.CONFIG)
    before = await sample(dispatcher_process)
    load = soak_load.Load(dispatcher_process.address)
    await load.start()
    try:
        most = await peak(load)
        load.check()
        load.per_second = most * SHARE_OF_PEAK
        print(f"peak {most:.0f} tasks/s; {MINUTES:g} minutes at {load.per_second:.0f}", flush=True)
        series = await run(load, dispatcher_process)
        left = await drained(load, dispatcher_process, before)
    finally:
        await load.stop()
    print("\n" + ", ".join(f"{name} {count}" for name, count in sorted(load.counts.items())))
    print("answers that were expected: " + (str(dict(load.faults)) or "none"))
    for name, values in series.items():
        print(soak_judge.plot(name, values))
    found = verdicts(series, before, left)
    for verdict in found:
        print(("FAILED  " if verdict.failed else "ok      ") + verdict.text)
    assert [verdict.text for verdict in found if verdict.failed] == []
