"""Submits tasks as people do: `Client.submit_many`."""

import asyncio

import penstock
from roles import common


async def main() -> None:
    given = common.arguments("tasks", "bytes")
    payload = bytes(given.bytes)
    wanted = (penstock.Submission("noop", payload) for _ in range(given.tasks))
    async with penstock.Client(given.address, pool=given.pool.rpartition("/")[2]) as client:
        began, accepted = common.wall(), 0
        async for outcome in client.submit_many(wanted):
            accepted += outcome.ok
        common.say(
            accepted=accepted, began=began, ended=common.wall(), cpu_seconds=common.cpu_seconds()
        )


asyncio.run(main())
