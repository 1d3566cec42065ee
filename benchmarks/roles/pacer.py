"""Submits tasks one by one at an even pace, each with the time of its submission as the payload."""

import asyncio
import time

import penstock
from roles import common


async def main() -> None:
    given = common.arguments("tasks", "rate")
    async with penstock.Client(given.address, pool=given.pool.rpartition("/")[2]) as client:
        await client.pool()  # the connection is there
        began = time.perf_counter()
        calls = []
        for number in range(given.tasks):
            await asyncio.sleep(max(0.0, began + number / given.rate - time.perf_counter()))
            calls.append(asyncio.create_task(client.submit("stamp", str(time.time_ns()).encode())))
        await asyncio.gather(*calls)
    common.say(submitted=given.tasks, cpu_seconds=common.cpu_seconds())


asyncio.run(main())
