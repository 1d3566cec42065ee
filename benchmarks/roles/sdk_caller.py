"""Submits tasks as people do, one after the other: `Client.submit`, each awaited."""

import asyncio
import time

import penstock
from roles import common


async def main() -> None:
    given = common.arguments("seconds", "bytes")
    payload = bytes(given.bytes)
    async with penstock.Client(given.address, pool=given.pool.rpartition("/")[2]) as client:
        for _ in range(100):
            await client.submit("noop", payload)
        accepted, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < given.seconds:
            await client.submit("noop", payload)
            accepted += 1
    common.say(accepted_per_second=accepted / spent, cpu_seconds=common.cpu_seconds())


asyncio.run(main())
