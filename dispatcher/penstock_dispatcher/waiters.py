"""Who waits for a task to end, or a pool to be drained: one future a call, and nothing for what
nobody waits for.
"""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

_Awaited = TypeVar("_Awaited", bound=Hashable)


class Waiters(Generic[_Awaited]):
    """Calls that wait, by what they wait for."""

    def __init__(self) -> None:
        self._of: dict[_Awaited, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._of.values())

    def __bool__(self) -> bool:
        return bool(self._of)

    async def wait(self, awaited: _Awaited) -> None:
        """Until `wake` is called for it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._of.setdefault(awaited, set())
        waiting.add(future)
        try:
            await future
        finally:
            waiting.discard(future)
            if not waiting and self._of.get(awaited) is waiting:
                del self._of[awaited]

    def wake(self, awaited: _Awaited) -> None:
        """It has come to pass, and people may know."""
        for future in self._of.pop(awaited, ()):
            if not future.done():
                future.set_result(None)

    def wake_all(self, error: Exception) -> None:
        """Nobody will be told any more."""
        for waiting in list(self._of.values()):
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
        self._of.clear()
