"""Dramatiq: two actors on Redis with the middleware that is on by default."""

import common
import dramatiq
from dramatiq.brokers.redis import RedisBroker

handlers = common.Handlers()
broker = RedisBroker(url=common.URL)
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(_payload: str) -> None:
    handlers.noop()


@dramatiq.actor
def stamp(sent: str) -> None:
    handlers.stamp(sent)
