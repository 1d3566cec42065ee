"""Submits to Celery: `delay`, and many of them over one connection."""

import celery_tasks
import common

TASKS = {"noop": celery_tasks.noop, "stamp": celery_tasks.stamp}


def one(task: str, payload: str) -> None:
    TASKS[task].delay(payload)


def many(task: str, count: int) -> None:
    def some(share: int) -> None:
        with celery_tasks.app.producer_or_acquire() as producer:
            for _ in range(share):
                TASKS[task].apply_async((common.PAYLOAD,), producer=producer)

    common.in_threads(count, some)


common.produce(one, many)
