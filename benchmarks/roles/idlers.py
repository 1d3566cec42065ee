"""Pools and workers that do nothing: connected, with credit, beating. Stays until it is ended."""

import asyncio

import grpc.aio

from penstock.v1 import worker_service_pb2 as wire
from penstock.v1 import worker_service_pb2_grpc
from penstock_worker import session
from roles import common

HEARTBEAT_SECONDS = session.HEARTBEAT_SECONDS_DEFAULT * session.IDLE_INTERVALS
CHANNELS = 8


async def idle(channel: grpc.aio.Channel, pool: str, number: int, count: int) -> None:
    stub = worker_service_pb2_grpc.WorkerServiceStub(channel)  # type: ignore[no-untyped-call]
    call, name = stub.Work(), f"idle-{number}"
    hello = wire.Hello(pool=pool, pod_name=name, pod_uid=name, slots=1, protocol_version=1)
    await call.write(wire.WorkRequest(hello=hello))
    await call.read()
    await call.write(wire.WorkRequest(credit=wire.Credit(slots=1)))
    await asyncio.sleep(HEARTBEAT_SECONDS * number / count)  # they do not beat all at once
    while True:
        await call.write(wire.WorkRequest(heartbeat=wire.Heartbeat()))
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def main() -> None:
    given = common.arguments("pools", "workers")
    channels = [common.channel(given.address) for _ in range(CHANNELS)]
    idling = [
        asyncio.create_task(
            idle(
                channels[number % CHANNELS],
                f"{given.pool}-{number % given.pools}",
                number,
                given.workers,
            )
        )
        for number in range(given.workers)
    ]
    common.say(connecting=len(idling))
    await asyncio.gather(*idling)


asyncio.run(main())
