"""The worker's end of the keeper: starts the process, and speaks for its children in one loop.

All of it is for one event loop. `start` gives a `Child` as soon as the keeper has started it;
`Child.ended` is its wait status. When the keeper itself is lost, which nobody should do to it,
every child ends as if it had been killed, which the kernel then does, and `lost` is called: without
a keeper no child can be had any more.
"""

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from penstock_worker import keeper

END_SECONDS_MAX: Final = keeper.CLEAN_UP_SECONDS_MAX + 2
KILLED: Final = int(signal.SIGKILL)
"""The wait status of a process that SIGKILL has ended."""
_CHUNK_BYTES: Final = 4096


class KeeperLostError(OSError):
    """There is no keeper any more, and so no child."""

    def __init__(self) -> None:
        super().__init__("the process that keeps the worker's children has ended")


class Child:
    """A process that the keeper has started; `pid` is also its process group."""

    def __init__(self, owner: "Keeping", number: int) -> None:
        self._owner, self._number = owner, number
        loop = asyncio.get_running_loop()
        self.pid = 0
        self.started: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        """Its wait status."""

    def signal(self, number: int) -> None:
        """To its whole process group; too late is no error."""
        if not self.ended.done():
            self._owner.ask({"child": self._number, "signal": number})

    def let_go(self) -> None:
        """To be called once it has ended: what it has left in its process group is killed."""
        self._owner.forget(self._number)


class Keeping:
    """See the module's docstring. `lost` is called at most once."""

    def __init__(self, environment: Mapping[str, str], lost: Callable[[], None]) -> None:
        """`environment` is what every child has, beside its own variables."""
        self._lost = lost
        self._link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(keeper.__file__).resolve())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=dict(environment),
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._children: dict[int, Child] = {}
        self._number = 0
        self._buffer = b""
        self._gone = False

    def watch(self) -> None:
        """Hear reports from now on. In the loop."""
        asyncio.get_running_loop().add_reader(self._link.fileno(), self._hear)

    async def start(
        self,
        command: Sequence[str],
        *,
        executable: str,
        environment: Mapping[str, str],
        descriptors: tuple[int, int, int],
    ) -> Child:
        """Start a child with these as standard input, output and error, and these variables beside
        the common ones. The descriptors stay the caller's. Raises OSError if it cannot be started.
        """
        self._number += 1
        child = self._children[self._number] = Child(self, self._number)
        asked = {
            "child": self._number,
            "command": list(command),
            "executable": executable,
            "environment": dict(environment),
        }
        try:
            self.ask(asked, descriptors)
        except OSError:
            del self._children[self._number]
            raise
        await child.started  # cancelled with us, and then killed when it has started
        return child

    def forget(self, number: int) -> None:
        """What `Child.let_go` does."""
        if self._children.pop(number, None) is not None:
            self.ask({"let_go": number})

    def ask(self, asked: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
        """Send a request. Raises KeeperLostError if a child is asked for in vain."""
        body = json.dumps(asked).encode()
        if len(body) > keeper.REQUEST_BYTES_MAX:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        head = keeper.LENGTH.pack(len(body))
        try:
            if self._gone:
                raise KeeperLostError
            # The head alone carries the descriptors: what follows can then be read plainly.
            socket.send_fds(self._link, [head], list(descriptors))
            self._link.sendall(body)
        except OSError:
            if descriptors:
                raise KeeperLostError from None

    def _hear(self) -> None:
        try:
            heard = self._link.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            self._keeper_lost()
            return
        self._buffer += heard
        while len(self._buffer) >= keeper.REPORT.size:
            report = self._buffer[: keeper.REPORT.size]
            self._buffer = self._buffer[keeper.REPORT.size :]
            self._reported(*keeper.REPORT.unpack(report))

    def _reported(self, number: int, kind: int, value: int) -> None:
        child = self._children[number]
        if kind == keeper.STARTED:
            child.pid = value
            if child.started.cancelled():  # nobody waits for it any more
                child.signal(signal.SIGKILL)
            else:
                child.started.set_result(None)
        elif kind == keeper.NOT_STARTED:
            del self._children[number]
            if not child.started.cancelled():
                child.started.set_exception(OSError(value, os.strerror(value)))
        else:
            # Its group is held until somebody lets go of it.
            if not child.ended.done():
                child.ended.set_result(value)

    def _keeper_lost(self) -> None:
        asyncio.get_running_loop().remove_reader(self._link.fileno())
        self._gone = True
        for child in list(self._children.values()):
            if child.pid:
                # The kernel has killed the leader; what else is in its group is left to us.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                if not child.ended.done():
                    child.ended.set_result(KILLED)
            elif not child.started.done():
                child.started.set_exception(KeeperLostError())
        self._children.clear()
        self._lost()

    def close(self) -> None:
        """End the keeper, and with it every child. Blocks until it is gone. In the loop."""
        with contextlib.suppress(RuntimeError, ValueError):
            asyncio.get_running_loop().remove_reader(self._link.fileno())
        self._link.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS_MAX)
