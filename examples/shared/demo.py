"""What drivers do: read where the dispatcher is, run, judge, and turn an error into one line."""

import argparse
import asyncio
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import penstock

PATIENCE_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.05
RESOLUTION_SECONDS: Final = 2e-6
"""Times are cut to whole microseconds: a window may look shorter by one at each end."""

Run = Callable[[penstock.Client, argparse.Namespace], Awaitable[int]]


def main(
    run: Run,
    *,
    pool: str,
    description: str | None,
    arguments: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> int:
    """Run with a client of the pool; returns the exit status."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    arguments(parser)
    parser.add_argument("--address", help="the dispatcher (default $PENSTOCK_ADDRESS)")
    parser.add_argument(
        "--pool",
        default=os.environ.get("PENSTOCK_POOL") or pool,
        help=f"default $PENSTOCK_POOL, then {pool}",
    )
    options = parser.parse_args()

    async def connected() -> int:
        async with penstock.Client(options.address, pool=options.pool) as client:
            return await run(client, options)

    try:
        return asyncio.run(connected())
    except (penstock.PenstockError, TimeoutError, ValueError) as error:
        print(f"driver: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def until(
    client: penstock.Client, what: str, wanted: Callable[[penstock.PoolInfo], bool]
) -> penstock.PoolInfo:
    """Look at the pool until it is as wanted. Raises TimeoutError after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not wanted(pool := await client.pool()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {PATIENCE_SECONDS:g} s: the pool is {pool}")
        await asyncio.sleep(LOOK_SECONDS)
    return pool


async def submitted(
    client: penstock.Client, submissions: list[penstock.Submission]
) -> list[penstock.Task]:
    """Submit over one stream, in this order; the accepted tasks. Raises what refused one."""
    return [outcome.task async for outcome in client.submit_many(submissions)]


async def finished(client: penstock.Client, tasks: list[penstock.Task]) -> list[penstock.Task]:
    """The tasks when all are over, in the same order."""
    return list(
        await asyncio.gather(*(client.wait(task, timeout=PATIENCE_SECONDS) for task in tasks))
    )


async def paused(
    client: penstock.Client, submissions: list[penstock.Submission]
) -> list[penstock.Task]:
    """Submit while the pool is paused, resume, and wait until all are over."""
    await client.pause(reason="the demo submits")
    try:
        tasks = await submitted(client, submissions)
    finally:
        await client.resume()
    return await finished(client, tasks)


def too_many(
    starts: list[float], *, burst: int, rate_per_second: float
) -> Iterator[tuple[int, float]]:
    """Each window with more starts than a rate allows: how many, and its seconds. `starts` is
    sorted.
    """
    for (i, begin), (j, end) in itertools.combinations(enumerate(starts), 2):
        seconds = end - begin + RESOLUTION_SECONDS
        if j - i + 1 > burst + rate_per_second * seconds:
            yield j - i + 1, seconds


def verdict(mistakes: list[str], good: str) -> int:
    """Print what is wrong, or that all is good; returns the exit status."""
    for mistake in mistakes:
        print(f"WRONG: {mistake}", file=sys.stderr)
    if not mistakes:
        print(good)
    return 1 if mistakes else 0
