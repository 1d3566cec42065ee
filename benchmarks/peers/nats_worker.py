"""A worker of JetStream: a durable pull consumer with explicit acknowledgements.

    python nats_worker.py BATCH

`fetch` of this client waits until its batch is full or its time is over: a large batch is for
throughput, a batch of one starts a task the moment it comes.
"""

import sys

import common
import nats.errors
import nats_stream
import uvloop

FETCH_SECONDS = 0.1
ACK_PENDING_MAX = 10_000


async def main() -> None:
    batch, handlers = int(sys.argv[1]), common.Handlers()
    _, stream = await nats_stream.open_stream()
    consumer = await stream.pull_subscribe(
        f"{nats_stream.STREAM}.*",
        durable=nats_stream.DURABLE,
        config=nats.js.api.ConsumerConfig(max_ack_pending=ACK_PENDING_MAX),
    )
    while True:
        try:
            messages = await consumer.fetch(batch, timeout=FETCH_SECONDS)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            if message.subject.endswith(".noop"):
                handlers.noop()
            else:
                handlers.stamp(message.data.decode())
            await message.ack()


uvloop.run(main())
