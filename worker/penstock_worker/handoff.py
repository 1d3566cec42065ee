"""Calls handed to an event loop from other threads: however many gather, one wake-up.

`call_soon_threadsafe` writes to the loop's pipe for every call; with hundreds of short tasks at
once that is most of what they cost. Order is kept, and nothing is delayed: the first call of a
batch wakes the loop.
"""

import asyncio
import collections
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("penstock.worker")


class Handoff:
    """To one loop. `call` may be used in any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: collections.deque[tuple[Callable[..., object], tuple[Any, ...]]] = (
            collections.deque()
        )
        self._woken = False

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have it called in the loop. Raises RuntimeError if the loop is closed."""
        self._calls.append((function, args))
        # Whoever sees `_woken` set appended before `_run` began to take, and is taken with them.
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                self._woken = False
                raise

    def _run(self) -> None:
        self._woken = False
        for _ in range(len(self._calls)):  # those that come meanwhile wake it anew
            function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                logger.exception("a fault of the worker, in %r", function)
