"""An event that costs nothing until somebody waits for it.

Every task has one, and hardly any is ever waited for: a `threading.Event` for each took a tenth of
what a short task costs its worker.
"""

import threading

_making = threading.Lock()


class StopEvent:
    """What `threading.Event` is, to be set once."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: threading.Event | None = None

    def is_set(self) -> bool:
        """It was set."""
        return self._is_set

    def set(self) -> None:
        """Wake everybody who waits, and whoever will. In any thread."""
        with _making:
            self._is_set = True
            event = self._event
        if event is not None:
            event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds (None = for ever); True = it is set."""
        with _making:
            if self._is_set:
                return True
            event = self._event = self._event or threading.Event()
        return event.wait(timeout)
