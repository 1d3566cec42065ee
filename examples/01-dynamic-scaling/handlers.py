"""What the workers of this pool can do: `digest` and `sleep`."""

import hashlib
import math
import zlib

from penstock_worker import PermanentError, Task, Worker

SLEEP_SECONDS_MAX = 60.0
COMPRESSION_LEVEL = 9

worker = Worker()


@worker.task("digest")
def digest(task: Task) -> bytes:
    """SHA-256 of the payload (32 bytes), then the payload compressed with zlib."""
    compressed = zlib.compress(task.payload, COMPRESSION_LEVEL)
    return hashlib.sha256(task.payload).digest() + compressed


@worker.task("sleep")
def sleep(task: Task) -> str:
    """Waits for as many seconds as the payload says, as text: "1", "0.5"."""
    try:
        seconds = float(task.payload.decode())
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= SLEEP_SECONDS_MAX:
        # No use in trying again: the payload will be the same.
        raise PermanentError(
            f"the payload must be a number of seconds from 0 to {SLEEP_SECONDS_MAX:g}, "
            f"is {task.payload[:20]!r}"
        )
    task.sleep(seconds)
    return f"slept {seconds:g} s"
