"""What a handler tells of its attempt while it runs: how far it is, and a checkpoint.

A `Told` is filled in any thread, and emptied in the worker's: the newest of each counts, and
whatever is told between two looks costs nothing. What cannot travel is refused where it is told.
"""

import math
import threading
from collections.abc import Callable
from typing import Final

from penstock.v1 import task_pb2

CHECKPOINT_BYTES_MAX: Final = 64 * 1024
MESSAGE_BYTES_MAX: Final = 1024


class Told:
    """See the module's docstring. `fraction` 0 to 1; `checkpoint` empty = none was saved."""

    __slots__ = ("_changed", "_listener", "_lock", "_unsaved", "checkpoint", "fraction", "message")

    def __init__(self) -> None:
        self.fraction = 0.0
        self.message = ""
        self.checkpoint = b""
        self._lock = threading.Lock()
        self._listener: Callable[[], None] | None = None
        self._changed = self._unsaved = False

    def listen(self, listener: Callable[[], None]) -> None:
        """Call it, in the thread that tells, when there is something to take: once until `take`."""
        self._listener = listener

    def progress(self, fraction: float, message: str) -> None:
        """How far it is. Raises ValueError, TypeError."""
        if not isinstance(message, str):
            raise TypeError(f"message must be a str, is {type(message).__name__}")
        if not (math.isfinite(fraction) and 0 <= fraction <= 1):
            raise ValueError(f"fraction must be a number from 0 to 1, is {fraction!r}")
        content = message.encode(errors="backslashreplace")
        if len(content) > MESSAGE_BYTES_MAX:
            raise ValueError(
                f"message must have at most {MESSAGE_BYTES_MAX} bytes as UTF-8, has "
                f"{len(content)}: say it in one line"
            )
        self._tell(fraction=float(fraction), message=content.decode())

    def save(self, checkpoint: bytes | bytearray | memoryview) -> None:
        """What the next attempt should begin with. Raises ValueError, TypeError."""
        if not isinstance(checkpoint, bytes | bytearray | memoryview):
            raise TypeError(
                f"a checkpoint must be bytes, is {type(checkpoint).__name__}: encode it, such as "
                "with json.dumps(value).encode()"
            )
        content = bytes(checkpoint)
        if not 1 <= len(content) <= CHECKPOINT_BYTES_MAX:
            raise ValueError(
                f"a checkpoint must have 1 to {CHECKPOINT_BYTES_MAX} bytes, has {len(content)}: "
                "put large state into storage of its own, and save a reference to it"
            )
        self._tell(checkpoint=content)

    def pass_on(self, heard: task_pb2.Progress) -> None:
        """Tell what another process's `take` has given."""
        self._tell(
            fraction=heard.fraction, message=heard.message, checkpoint=heard.checkpoint or None
        )

    def _tell(
        self,
        *,
        fraction: float | None = None,
        message: str | None = None,
        checkpoint: bytes | None = None,
    ) -> None:
        with self._lock:
            self.fraction = self.fraction if fraction is None else fraction
            self.message = self.message if message is None else message
            if checkpoint is not None:
                self.checkpoint, self._unsaved = checkpoint, True
            known, self._changed = self._changed, True
        if not known and self._listener is not None:
            self._listener()

    def take(self) -> task_pb2.Progress | None:
        """What there is, if something was told since the last time; the checkpoint if that was."""
        with self._lock:
            if not self._changed:
                return None
            taken = task_pb2.Progress(
                fraction=self.fraction,
                message=self.message,
                checkpoint=self.checkpoint if self._unsaved else b"",
            )
            self._changed = self._unsaved = False
        return taken
