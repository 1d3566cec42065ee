"""What a handler is given: the task, and a way to notice that it should stop."""

import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

from penstock_worker import errors, stopping
from penstock_worker import told as tolds


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One attempt at a task. Can be made by hand to call a handler in a test:
    `handler(Task(payload=b"…"))`.

    `attempt` is 1-based. `deadline` is when the attempt must have ended, in seconds since the Unix
    epoch, None = no limit. `slots` is how many of its worker's slots it has to itself. `checkpoint`
    is what an earlier attempt saved last, empty = nothing. `told` holds what the handler itself
    tells with `progress` and `save_checkpoint`.
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
    stop_event: stopping.StopEvent = dataclasses.field(
        default_factory=stopping.StopEvent, repr=False, compare=False
    )
    told: tolds.Told = dataclasses.field(default_factory=tolds.Told, repr=False, compare=False)

    def json(self) -> Any:
        """The payload, decoded as JSON. ValueError if it is not."""
        return json.loads(self.payload)

    def progress(self, fraction: float, message: str = "") -> None:
        """Show people how far it is: `fraction` from 0 to 1, `message` of at most 1 KiB. Cheap, in
        any thread; the newest goes out, one a second. Raises ValueError.
        """
        self.told.progress(fraction, message)

    def save_checkpoint(self, data: bytes) -> None:
        """What the next attempt is given as `checkpoint`, if this one fails or its worker is lost.

        1 to 65536 bytes; the newest counts. Cheap, in any thread; durable about a second later.
        Raises ValueError, TypeError.
        """
        self.told.save(data)

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
