"""Keeps the dispatcher's process running, on one port for as long as the fleet lives.

Workers that run go on while it is away, and find the next one. One that ends again and again
without having served is given up: `Failed` says what it said last.
"""

import asyncio
import contextlib
import pathlib
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from penstock_operator import backoff
from penstock_operator.local import children

DEFAULT_PORT: Final = 50051
HOST: Final = "127.0.0.1"
STARTS_MAX: Final = 3
"""In a row, of which none has served."""
STOP_SECONDS_MAX: Final = 20.0
LOOK_SECONDS: Final = 0.2
"""Between two looks whether it serves."""


class Failed(Exception):  # noqa: N818  it says what happened
    """The dispatcher cannot serve."""


def choose_port() -> int:
    """The port that clients try first, or any free one."""
    for port in (DEFAULT_PORT, 0):
        if found := free(port):
            return found
    raise Failed(f"there is no free port on {HOST}")


def free(port: int) -> int | None:
    """The port, or for 0 any one, if it can be listened on by now; None = it is taken."""
    with socket.socket() as probe:
        try:
            # As the dispatcher will: a connection of before that still lingers is no matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


class Service:
    """`serving` tells whether the dispatcher has been heard since its process was started."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: pathlib.Path,
        log: pathlib.Path,
        serving: Callable[[], bool],
    ) -> None:
        self._command = command
        self._environment = environment
        self._folder = folder
        self._log = log
        self._serving = serving
        self._child: children.Child | None = None
        self._ended = asyncio.Event()
        self._stopping = False
        self.problem = ""

    async def run(self) -> None:
        """Start it whenever it is not there, until `stop`. Raises Failed, OSError."""
        patience, failures = backoff.Backoff(), 0
        while not self._stopping:
            self._ended.clear()
            self._child = children.Child(
                self._command,
                environment=self._environment,
                folder=self._folder,
                log=self._log,
                ended=lambda _: self._ended.set(),
            )
            served = False
            while not self._ended.is_set():
                served = served or self._serving()
                self.problem = "" if served else self.problem
                await self._end(seconds=LOOK_SECONDS)
            if self._stopping:
                return
            if served:
                patience.reset()
            failures = 0 if served else failures + 1
            self.problem = f"the dispatcher has ended: {self._child.end_words()}"
            if failures >= STARTS_MAX:
                raise Failed(self.problem)
            now = time.monotonic()
            patience.failed(now, draw=random.random())
            await asyncio.sleep(patience.left(now))

    async def stop(self, *, at_once: bool) -> None:
        """End it; what it has accepted is on disk either way."""
        self._stopping = True
        child = self._child
        if child is None:
            return
        if not at_once:
            child.terminate()
            await self._end(seconds=STOP_SECONDS_MAX)
        child.kill()

    async def _end(self, *, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
