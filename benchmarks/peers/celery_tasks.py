"""Celery: two tasks without results on Redis, set up as its guides on optimizing and on short
tasks say."""

import common
from celery import Celery

handlers = common.Handlers()
app = Celery("celery_tasks", broker=common.URL)
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=128,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(_payload: str) -> None:
    handlers.noop()


@app.task(name="stamp")
def stamp(sent: str) -> None:
    handlers.stamp(sent)
