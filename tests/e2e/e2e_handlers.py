"""What the workers of the end-to-end tests do. Runs in the pods, mounted from a ConfigMap.

Each handler says on standard output when it starts and ends, with the number of the task that its
payload names: the tests count these lines.
"""

import asyncio
import json
import os
import time

from penstock_worker import Task, Worker

worker = Worker()


def _say(word: str, number: object) -> None:
    print(f"e2e {word} {number}", flush=True)


@worker.task("nap")
def nap(task: Task) -> bytes:
    """Sleep as long as the payload says, holding the thread; the payload comes back."""
    wish = json.loads(task.payload)
    _say("start", wish["number"])
    time.sleep(wish["seconds"])
    _say("end", wish["number"])
    return task.payload


@worker.task("nap-async")
async def nap_async(task: Task) -> bytes:
    """The same on the event loop."""
    wish = json.loads(task.payload)
    _say("start", wish["number"])
    await asyncio.sleep(wish["seconds"])
    _say("end", wish["number"])
    return task.payload


@worker.task("fail")
def fail(task: Task) -> bytes:
    """Fail each time."""
    raise RuntimeError("this handler always fails")


@worker.task("vanish")
def vanish(task: Task) -> bytes:
    """Take the whole worker along, as a crash in native code does."""
    os._exit(66)
