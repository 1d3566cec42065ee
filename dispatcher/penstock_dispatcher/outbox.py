"""Frames that wait for one worker's stream.

Natural batching: what gathers while the last frame is being written goes out in the next one, in
lists, with no added delay. Order between frames is the order of events, so lists grow only until a
frame of another kind that could matter comes after them. Nothing leaves before `welcome`.

Bounds: assignments by the worker's credit; acknowledgements by `full`, on which the reader of the
same stream waits; the rest by the number of leases and reservations.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable
from typing import Final

from penstock.v1 import worker_service_pb2
from penstock_dispatcher.convert import frames
from penstock_dispatcher.core import leases
from penstock_dispatcher.core import task as tasks

FRAME_ITEMS_MAX: Final = 512
FRAME_BYTES_MAX: Final = 1024 * 1024
"""A frame ends with the item that passes this; items are at most a payload in size."""
ITEMS_MAX: Final = 20_000
"""Items waiting, beyond which nothing more is read from the worker."""

_Seal = Callable[[list[bytes]], bytes]


class _List:
    """Items of one kind that may go in one frame."""

    __slots__ = ("items", "seal")

    def __init__(self, seal: _Seal) -> None:
        self.seal = seal
        self.items: collections.deque[bytes] = collections.deque()

    def take_frame(self) -> bytes:
        taken: list[bytes] = []
        size = 0
        while self.items and len(taken) < FRAME_ITEMS_MAX and size < FRAME_BYTES_MAX:
            item = self.items.popleft()
            size += len(item)
            taken.append(item)
        return self.seal(taken)


class Outbox:
    """See the module's docstring. `pool_name` is that of the worker's pool."""

    def __init__(self, pool_name: str) -> None:
        self._task_prefix = f"{pool_name}/tasks/".encode()
        self._queue: collections.deque[bytes | _List] = collections.deque()
        self._assignments: _List | None = None
        self._acks: _List | None = None
        self._items = 0
        self._welcomed = False
        self._closing = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    # ------------------------------------------------------------ in

    def welcome(self, frame: worker_service_pb2.WorkResponse) -> None:
        """The first frame; opens the way for those that wait."""
        self._queue.appendleft(frame.SerializeToString())
        self._items += 1
        self._welcomed = True
        self._wake.set()

    def send(self, frame: worker_service_pb2.WorkResponse) -> None:
        """One frame of its own, after everything before it."""
        self._queue.append(frame.SerializeToString())
        self._assignments = self._acks = None
        self._grown()

    def assign(self, task: tasks.Task, lease: leases.Lease) -> None:
        """One assignment."""
        if self._assignments is None:
            self._assignments = _List(frames.assignments)
            self._queue.append(self._assignments)
        self._assignments.items.append(frames.assignment(self._task_prefix, task, lease))
        self._grown()

    def ack(self, lease_id: str, accepted: bool) -> None:
        """One acknowledgement."""
        if self._acks is None:
            self._acks = _List(frames.acks)
            self._queue.append(self._acks)
        self._acks.items.append(frames.ack(lease_id, accepted))
        self._grown()

    def _grown(self) -> None:
        self._items += 1
        if self._items >= ITEMS_MAX:
            self._room.clear()
        if self._items == 1:  # with more, `drain` is awake, or waits for `welcome`
            self._wake.set()

    def close(self) -> None:
        """No more comes; `drain` returns when everything is out."""
        self._closing = True
        self._wake.set()

    # ------------------------------------------------------------ out

    async def room(self) -> None:
        """Wait until the worker has taken enough."""
        await self._room.wait()

    def next_frame(self) -> bytes | None:
        """The next frame, serialized, or None if there is none (that may leave)."""
        if not self._queue or not self._welcomed:
            return None
        first = self._queue[0]
        if isinstance(first, bytes):
            self._queue.popleft()
            self._items -= 1
            return first
        before = len(first.items)
        frame = first.take_frame()
        self._items -= before - len(first.items)
        if not first.items:
            self._queue.popleft()
            if first is self._assignments:
                self._assignments = None
            elif first is self._acks:
                self._acks = None
        if self._items < ITEMS_MAX:
            self._room.set()
        return frame

    async def drain(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write frames as they come, until closed and empty."""
        while True:
            await self._wake.wait()
            frame = self.next_frame()
            if frame is not None:
                await write(frame)
            elif self._closing:
                return
            else:
                self._wake.clear()
