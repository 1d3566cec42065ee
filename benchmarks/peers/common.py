"""What the peers' programs have in common; they run in an environment of their own.

Producers and workers learn from variables what to do, since the peers' own command lines start the
workers:

BENCH_URL      the server
BENCH_REPORT   a folder: `warm` appears there when the worker has run the warm-up's tasks, and
               `done` (JSON) when it has run all
BENCH_WARM_UP  tasks that come first and are not measured
BENCH_TASKS    tasks that are measured
BENCH_SECONDS  how long the submissions one by one go on
BENCH_RATE     submissions a second where a pace is kept
BENCH_THREADS  threads that submit in bulk, for producers that block
"""

import asyncio
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

URL = os.environ["BENCH_URL"]
REPORT = pathlib.Path(os.environ["BENCH_REPORT"])
WARM_UP = int(os.environ["BENCH_WARM_UP"])
TASKS = int(os.environ["BENCH_TASKS"])
SECONDS = float(os.environ["BENCH_SECONDS"])
RATE = float(os.environ["BENCH_RATE"])
THREADS = int(os.environ["BENCH_THREADS"])
PAYLOAD = "x" * 100
WARM_SECONDS_MAX = 60.0
#: Submissions of an asyncio producer that wait for their answers at the same time.
IN_FLIGHT = 64


def wall() -> float:
    """Seconds that other processes of this machine agree on."""
    return time.time_ns() / 1e9


def stamp() -> str:
    """What `Handlers.stamp` understands."""
    return str(time.time_ns())


class Handlers:
    """What the tasks do: next to nothing. Threads may share it: the counter's step is atomic."""

    def __init__(self) -> None:
        self._ran = itertools.count(1)
        self._seconds: list[float] = []

    def noop(self) -> None:
        """Count the task."""
        ran = next(self._ran)
        if ran == WARM_UP:
            _leave("warm")
        elif ran == WARM_UP + TASKS:
            _leave("done", ended=wall())

    def stamp(self, sent: str) -> None:
        """Note how long the task was on its way."""
        self._seconds.append((time.time_ns() - int(sent)) / 1e9)
        ran = next(self._ran)
        if ran == WARM_UP:
            _leave("warm")
        elif ran == WARM_UP + TASKS:
            _leave("done", seconds=self._seconds[WARM_UP:])


def _leave(name: str, **values: Any) -> None:
    part = REPORT / f".{name}"
    part.write_text(json.dumps(values))
    part.rename(REPORT / name)


def _warm() -> bool:
    return (REPORT / "warm").exists()


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def in_threads(count: int, submit: Callable[[int], object]) -> None:
    """`submit(some)` in each of the threads, `count` in all."""
    shares = [count // THREADS + (number < count % THREADS) for number in range(THREADS)]
    if THREADS == 1:
        submit(count)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(submit, shares))


def produce(one: Callable[[str, str], object], many: Callable[[str, int], object]) -> None:
    """A producer that blocks: `one(task, payload)` submits, `many(task, count)` submits many."""
    mode = sys.argv[1]
    if mode == "one":
        for _ in range(WARM_UP):
            one("noop", PAYLOAD)
        submitted, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < SECONDS:
            one("noop", PAYLOAD)
            submitted += 1
        _say(per_second=submitted / spent)
        return
    if mode == "paced":
        began = time.perf_counter()
        for number in range(WARM_UP + TASKS):
            time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            one("stamp", stamp())
        _say(submitted=WARM_UP + TASKS)
        return
    many("noop", WARM_UP)
    deadline = time.monotonic() + WARM_SECONDS_MAX
    while mode == "with-worker" and not _warm():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker ran no tasks")
        time.sleep(0.01)
    began = wall()
    many("noop", TASKS)
    _say(began=began, per_second=TASKS / (wall() - began))


async def produce_async(
    one: Callable[[str, str], Coroutine[Any, Any, object]],
    many: Callable[[str, int], Awaitable[object]],
) -> None:
    """The same on an event loop."""
    mode = sys.argv[1]
    if mode == "one":
        for _ in range(WARM_UP):
            await one("noop", PAYLOAD)
        submitted, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < SECONDS:
            await one("noop", PAYLOAD)
            submitted += 1
        _say(per_second=submitted / spent)
        return
    if mode == "paced":
        began, calls = time.perf_counter(), []
        for number in range(WARM_UP + TASKS):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            calls.append(asyncio.create_task(one("stamp", stamp())))
        await asyncio.gather(*calls)
        _say(submitted=WARM_UP + TASKS)
        return
    await many("noop", WARM_UP)
    deadline = time.monotonic() + WARM_SECONDS_MAX
    while mode == "with-worker" and not _warm():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker ran no tasks")
        await asyncio.sleep(0.01)
    began = wall()
    await many("noop", TASKS)
    _say(began=began, per_second=TASKS / (wall() - began))
