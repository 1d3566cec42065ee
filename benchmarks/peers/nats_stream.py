"""NATS JetStream: one stream on disk that drops what was acknowledged, and its subjects."""

import common
import nats
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StorageType

STREAM, DURABLE = "tasks", "workers"


async def open_stream() -> tuple[Client, JetStreamContext]:
    """A connection, and the stream there."""
    connection = await nats.connect(common.URL)
    stream = connection.jetstream()
    await stream.add_stream(
        name=STREAM,
        subjects=[f"{STREAM}.*"],
        storage=StorageType.FILE,
        retention=RetentionPolicy.WORK_QUEUE,
    )
    return connection, stream
