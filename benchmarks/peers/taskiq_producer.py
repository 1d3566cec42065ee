"""Submits to Taskiq: `kiq`, and some of them at a time."""

import asyncio

import common
import taskiq_tasks
import uvloop

TASKS = {"noop": taskiq_tasks.noop, "stamp": taskiq_tasks.stamp}


async def one(task: str, payload: str) -> None:
    await TASKS[task].kiq(payload)


async def many(task: str, count: int) -> None:
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await TASKS[task].kiq(common.PAYLOAD)

    await asyncio.gather(*(some() for _ in range(common.IN_FLIGHT)))


async def main() -> None:
    await taskiq_tasks.broker.startup()
    await common.produce_async(one, many)
    await taskiq_tasks.broker.shutdown()


uvloop.run(main())
