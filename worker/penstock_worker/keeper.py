"""The keeper: a small process beside the worker that starts, signals and reaps the children.

Run by its path, with nothing but the standard library, so that it is small and has one thread: to
fork here is safe, which beside gRPC's threads it is not. Its standard input is a socket to the
worker (see `keeping` for the other end). A request is a length of four bytes and as much JSON; the
three descriptors of a new child travel with the length. A report is REPORT: (child, kind, value).

What it owes: each child leads a session and process group of its own, and is killed by the kernel
when the keeper ends, however that comes. What a child leaves in its group when it ends may go on
until the worker lets go of the group, and is killed then. Whatever its children leave behind
becomes its own child, so nothing stays a zombie. When the socket ends, because the worker has ended
in whatever way, every process below the keeper is killed, and then it ends too.
"""

import array
import contextlib
import ctypes
import json
import os
import pathlib
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from types import FrameType
from typing import Any, Final

LENGTH: Final = struct.Struct("!I")
REPORT: Final = struct.Struct("!IBi")
STARTED, NOT_STARTED, ENDED = 0, 1, 2
"""With the process id, the errno, the wait status."""
REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024
CLEAN_UP_SECONDS_MAX: Final = 5.0
_DESCRIPTORS: Final = 3
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Keeper:
    """See the module's docstring."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._children: dict[int, int] = {}
        """Process ids to the worker's numbers; not reaped yet, so the ids are theirs."""
        self._groups: dict[int, int] = {}
        """The worker's numbers to process groups it has not let go of."""
        self._unsent = b""
        """Reports that the socket had no room for: to wait for it here could wait for ever."""
        self._waiting = selectors.DefaultSelector()
        self._libc = ctypes.CDLL(None)
        self._pid = os.getpid()

    def serve(self) -> None:
        """Until the worker's end of the socket is closed."""
        self._control(_PR_SET_CHILD_SUBREAPER, 1)
        woken, wake = socket.socketpair()
        for each in (woken, wake):
            each.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        # Handlers that do nothing, and not SIG_IGN: a child would inherit that.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _no_more_than_a_wake_up)
        self._waiting.register(self._link, selectors.EVENT_READ)
        self._waiting.register(woken, selectors.EVENT_READ)
        try:
            while True:
                for key, ready in self._waiting.select():
                    if key.fileobj is woken:
                        with contextlib.suppress(BlockingIOError):
                            woken.recv(4096)
                    elif ready & selectors.EVENT_READ and not self._request():
                        return
                self._reap()
                self._send()
        except OSError:
            return  # the worker does not hear us: it has ended
        finally:
            self._kill_all()

    # ------------------------------------------------------------ requests

    def _request(self) -> bool:
        """Carry out one; False = there will be no more."""
        head, descriptors = _receive(self._link, LENGTH.size)
        try:
            if len(head) < LENGTH.size:
                return False
            (size,) = LENGTH.unpack(head)
            body = _read(self._link, size) if size <= REQUEST_BYTES_MAX else b""
            if len(body) < size:
                return False
            asked = json.loads(body)
            if "let_go" in asked:
                _kill_group(self._groups.pop(asked["let_go"], 0))
            elif "signal" in asked:
                self._signal(asked["child"], asked["signal"])
            else:
                self._start(asked, descriptors)
            return True
        finally:
            for each in descriptors:
                os.close(each)

    def _start(self, asked: dict[str, Any], descriptors: list[int]) -> None:
        stdin, stdout, stderr = descriptors
        try:
            child = subprocess.Popen(
                asked["command"],
                executable=asked["executable"],
                env={**os.environ, **asked["environment"]},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=self._tie,  # noqa: PLW1509 - this process has one thread
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            number = getattr(error, "errno", None) or 22
            self._report(asked["child"], NOT_STARTED, number)
            return
        child.returncode = 0  # ours to reap; without this, subprocess would do it too
        self._children[child.pid] = asked["child"]
        self._groups[asked["child"]] = child.pid
        self._report(asked["child"], STARTED, child.pid)

    def _tie(self) -> None:
        """In the new child: end with the keeper."""
        self._control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(1)

    def _control(self, option: int, value: int) -> None:
        self._libc.prctl(option, *(ctypes.c_ulong(each) for each in (value, 0, 0, 0)))

    def _signal(self, child: int, number: int) -> None:
        group = self._groups.get(child, 0)
        if group in self._children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)

    # ------------------------------------------------------------ reports

    def _report(self, child: int, kind: int, value: int) -> None:
        self._unsent += REPORT.pack(child, kind, value)

    def _send(self) -> None:
        if self._unsent:
            with contextlib.suppress(BlockingIOError):
                sent = self._link.send(self._unsent, socket.MSG_DONTWAIT)
                self._unsent = self._unsent[sent:]
        more = selectors.EVENT_WRITE if self._unsent else 0
        self._waiting.modify(self._link, selectors.EVENT_READ | more)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                self._report(child, ENDED, status)

    # ------------------------------------------------------------ the end

    def _kill_all(self) -> None:
        """Kill everything below. Whoever loses its parent becomes our child, and is next."""
        for group in self._groups.values():
            _kill_group(group)
        deadline = time.monotonic() + CLEAN_UP_SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            except ChildProcessError:
                return
            for pid in _children_of(self._pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def _no_more_than_a_wake_up(_number: int, _frame: FrameType | None) -> None:
    pass


def _kill_group(group: int) -> None:
    # 0 would be our own. The number is not another's while anybody is in the group.
    if group:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _children_of(parent: int) -> list[int]:
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            # The name, in brackets, may hold anything.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def _receive(link: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """At least a byte of `size`, unless the socket ended, and the descriptors that came along."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
    content, ancillary, _, _ = link.recvmsg(size, room, socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    if content:
        content += _read(link, size - len(content))
    return content, list(found)


def _read(link: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = link.recv(size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    with socket.socket(fileno=os.dup(0)) as _link:
        Keeper(_link).serve()
    sys.exit(0)
