"""Who waits for a task to end: one future a call, and nothing for tasks that nobody waits for."""

import asyncio

from penstock_dispatcher.core import task as tasks


class Waiters:
    """Calls that wait, by task."""

    def __init__(self) -> None:
        self._of: dict[tasks.Task, set[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._of.values())

    def __bool__(self) -> bool:
        return bool(self._of)

    async def wait(self, task: tasks.Task) -> None:
        """Until `wake` is called for the task."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._of.setdefault(task, set())
        waiting.add(future)
        try:
            await future
        finally:
            waiting.discard(future)
            if not waiting and self._of.get(task) is waiting:
                del self._of[task]

    def wake(self, task: tasks.Task) -> None:
        """The task has ended, and people may know."""
        for future in self._of.pop(task, ()):
            if not future.done():
                future.set_result(None)

    def wake_all(self, error: Exception) -> None:
        """Nobody will be told any more."""
        for waiting in list(self._of.values()):
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
        self._of.clear()
