"""What goes out of an attempt's progress, and when: at most once a second, the newest of all.

Nothing acknowledges it, so the newest is kept: it goes out again on every new stream, and what has
not gone out when the attempt ends does so right before the outcome. Pure.
"""

from typing import Final

from penstock.v1 import task_pb2

INTERVAL_SECONDS: Final = 1.0
"""Between two reports of one attempt."""
NOW: Final = float("-inf")


class Report:
    """Of one attempt. `now` is float seconds on any steadily growing clock."""

    __slots__ = ("_newest", "_not_before", "_unsaved", "_unsent")

    def __init__(self) -> None:
        self._newest: task_pb2.Progress | None = None
        self._not_before = NOW
        self._unsent = self._unsaved = False

    def tell(self, progress: task_pb2.Progress) -> None:
        """Something newer; without a checkpoint the one of before stays."""
        checkpoint = progress.checkpoint or (self._newest.checkpoint if self._newest else b"")
        self._newest = task_pb2.Progress(
            fraction=progress.fraction, message=progress.message, checkpoint=checkpoint
        )
        self._unsaved = self._unsaved or bool(progress.checkpoint)
        self._unsent = True

    def hurry(self) -> None:
        """What has not gone out is due now: the attempt is over."""
        self._not_before = NOW

    def again(self) -> None:
        """What went out may have been lost with its stream."""
        if self._newest is not None:
            self._unsent, self._unsaved = True, bool(self._newest.checkpoint)
            self._not_before = NOW

    @property
    def due(self) -> float | None:
        """When there is something to send; None = there is nothing."""
        return self._not_before if self._unsent else None

    def take(self, now: float) -> task_pb2.Progress:
        """What is due, to be sent now."""
        assert self._newest is not None, "something was told"
        sent = task_pb2.Progress()
        sent.CopyFrom(self._newest)
        if not self._unsaved:
            sent.ClearField("checkpoint")
        self._unsent = self._unsaved = False
        self._not_before = now + INTERVAL_SECONDS
        return sent
