"""Submits to Dramatiq: `send`, and many of them as a group."""

import common
import dramatiq
import dramatiq_tasks

GROUP = 1000
TASKS = {"noop": dramatiq_tasks.noop, "stamp": dramatiq_tasks.stamp}


def one(task: str, payload: str) -> None:
    TASKS[task].send(payload)


def many(task: str, count: int) -> None:
    actor = TASKS[task]

    def some(share: int) -> None:
        for first in range(0, share, GROUP):
            size = min(GROUP, share - first)
            dramatiq.group(actor.message(common.PAYLOAD) for _ in range(size)).run()

    common.in_threads(count, some)


common.produce(one, many)
