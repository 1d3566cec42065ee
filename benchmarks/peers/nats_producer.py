"""Submits to JetStream: `publish`, and `publish_async` for many."""

import asyncio

import common
import nats_stream
import uvloop


async def main() -> None:
    connection, stream = await nats_stream.open_stream()

    async def one(task: str, payload: str) -> None:
        await stream.publish(f"{nats_stream.STREAM}.{task}", payload.encode())

    async def many(task: str, count: int) -> None:
        subject, payload = f"{nats_stream.STREAM}.{task}", common.PAYLOAD.encode()
        accepted = [await stream.publish_async(subject, payload) for _ in range(count)]
        await asyncio.gather(*accepted)

    await common.produce_async(one, many)
    await connection.close()


uvloop.run(main())
