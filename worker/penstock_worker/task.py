"""What a handler is given: the task, and a way to notice that it should stop."""

import dataclasses
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from penstock_worker import errors


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One attempt at a task. Can be made by hand to call a handler in a test:
    `handler(Task(payload=b"…"))`.

    `attempt` is 1-based. `deadline` is when the attempt must have ended, in seconds since the Unix
    epoch, None = no limit. `slots` is how many of its worker's slots it has to itself. `checkpoint`
    is what an earlier attempt left.
    """

    payload: bytes = b""
    name: str = ""
    type: str = ""
    content_type: str = ""
    attempt: int = 1
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    trace_context: Mapping[str, str] = dataclasses.field(default_factory=dict)
    deadline: float | None = None
    slots: int = 1
    checkpoint: bytes = b""
    stop_event: threading.Event = dataclasses.field(default_factory=threading.Event, repr=False)

    def json(self) -> Any:
        """The payload, decoded as JSON. ValueError if it is not."""
        return json.loads(self.payload)

    @property
    def cancelled(self) -> bool:
        """The attempt was asked to stop: cancelled, out of time, or no longer ours."""
        return self.stop_event.is_set()

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the attempt was asked to stop; call it where stopping is safe."""
        if self.stop_event.is_set():
            raise errors.Cancelled

    def sleep(self, seconds: float) -> None:
        """Sleep in a sync handler, but wake up and raise `Cancelled` when asked to stop."""
        if self.stop_event.wait(seconds):
            raise errors.Cancelled

    @property
    def remaining_seconds(self) -> float | None:
        """Until the deadline; None = no limit."""
        return None if self.deadline is None else max(0.0, self.deadline - time.time())
