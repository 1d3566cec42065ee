"""Submitting calls that wait for room: the shell of `core.waiting_room`, one future a call.

The core decides who gets in, and when somebody has waited long enough; there is no timer here.
Whichever way a call ends (an answer, its caller's cancellation, the end of the connection), its
waiter leaves the room with it.
"""

import asyncio

from penstock_dispatcher.core import admission, effects, waiting_room


class Callers:
    """Calls that wait, by waiter."""

    def __init__(self) -> None:
        self._futures: dict[admission.Waiter, asyncio.Future[admission.Admission]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    async def answer(
        self, waiter: admission.Waiter, room: waiting_room.WaitingRoom
    ) -> admission.Admission:
        """What becomes of the waiter. Raises what `turn_away` was told."""
        future: asyncio.Future[admission.Admission] = asyncio.get_running_loop().create_future()
        self._futures[waiter] = future
        try:
            return await future
        finally:
            del self._futures[waiter]
            room.leave(waiter)

    def answered(self, effect: effects.WaiterAnswered) -> None:
        """The core has decided."""
        future = self._futures.get(effect.waiter)
        if future is not None and not future.done():
            future.set_result(effect.answer)

    def turn_away(self, room: waiting_room.WaitingRoom, error: Exception) -> None:
        """Nobody gets in any more: every caller of this room is told the error."""
        for waiter in room.take_all():
            future = self._futures.get(waiter)
            if future is not None and not future.done():
                future.set_exception(error)
