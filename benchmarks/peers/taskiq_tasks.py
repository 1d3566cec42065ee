"""Taskiq: two tasks on a Redis stream with acknowledgements, and the serializer on orjson."""

import common
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

handlers = common.Handlers()
broker = RedisStreamBroker(common.URL).with_serializer(ORJSONSerializer())


@broker.task(task_name="noop")
async def noop(_payload: str) -> None:
    handlers.noop()


@broker.task(task_name="stamp")
async def stamp(sent: str) -> None:
    handlers.stamp(sent)
