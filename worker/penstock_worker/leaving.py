"""When a worker that was told to stop may exit. Pure: time is an argument, in monotonic seconds.

It leaves as soon as nothing is left to do. What still runs when the drain time-out is over is
handed back. An outcome that nobody has acknowledged is waited for, connected or not: it stands for
work that is done, and would be done again. Past `end`, nothing is waited for any more, so that the
process is gone before its pod's grace period is.
"""

from typing import Final

from penstock_worker import session

HAND_BACK_SECONDS_MAX: Final = 5.0
"""How long after the drain time-out acknowledgements are waited for."""


class Leaving:
    """See the module's docstring."""

    def __init__(
        self, *, drain_timeout_seconds: float, hand_back_seconds: float = HAND_BACK_SECONDS_MAX
    ) -> None:
        self.drain_timeout_seconds = drain_timeout_seconds
        self._hand_back_seconds = hand_back_seconds
        self._since: float | None = None
        self._handed_back = False

    @property
    def begun(self) -> bool:
        """The worker was told to stop."""
        return self._since is not None

    def begin(self, now: float) -> None:
        """The worker is told to stop."""
        self._since = now

    def hand_back(self, now: float) -> bool:
        """Whether the drain time-out is over: true once."""
        if self._handed_back or self._since is None or now < self._drain_end:
            return False
        self._handed_back = True
        return True

    def may_exit(self, subject: session.Session, now: float) -> bool:
        """Nothing is left to do, or to wait for."""
        return self.begun and (subject.finished or now >= self.end)

    @property
    def end(self) -> float:
        """When the process exits, whatever is left."""
        return self._drain_end + self._hand_back_seconds

    @property
    def _drain_end(self) -> float:
        assert self._since is not None, "only asked while stopping"
        return self._since + self.drain_timeout_seconds
