"""A handler process: `isolation` starts it, with a socket as its standard input.

It runs one attempt at a time with the same executor as a worker without isolation, and asks for
nothing itself: assignments and cancels come, progress and outcomes go, one after the other. The end
of the socket is its end.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import executor, framing, loading
from penstock_worker import told as tolds


class _Mouth:
    """What goes to the worker: the newest progress when the last one is out, then the outcome."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lease_id = ""
        self._told = tolds.Told()
        self._outcome: wire.TaskOutcome | None = None
        self._wake = asyncio.Event()

    def progressed(self, lease_id: str, progress: task_pb2.Progress) -> None:
        """In place of what has not gone out; a checkpoint only gives way to another."""
        self._lease_id = lease_id
        self._told.pass_on(progress)
        self._wake.set()

    def ended(self, _: str, outcome: wire.TaskOutcome) -> None:
        """Nothing more is told of this attempt."""
        self._outcome = outcome
        self._wake.set()

    async def speak(self) -> None:
        """Until cancelled, or the worker has gone."""
        with contextlib.suppress(OSError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while (frame := self._next()) is not None:
                    await framing.send(self._link, frame)

    def _next(self) -> wire.WorkRequest | None:
        progress = self._told.take()
        if progress is not None:
            return wire.WorkRequest(
                progress=wire.TaskProgress(lease_id=self._lease_id, progress=progress)
            )
        if self._outcome is not None:
            outcome, self._outcome = self._outcome, None
            return wire.WorkRequest(outcomes=wire.TaskOutcomes(outcomes=[outcome]))
        return None


async def serve(link: socket.socket, where: str) -> None:
    """Until the worker closes the socket."""
    worker = loading.load(where)
    mouth = _Mouth(link)
    work = executor.Executor(worker, 1, mouth.ended, mouth.progressed, announces=False)
    await framing.send(link, wire.WorkRequest(hello=wire.Hello(task_types=worker.types)))
    speaking = asyncio.create_task(mouth.speak())
    while (frame := await framing.receive(link, wire.WorkResponse)) is not None:
        for assignment in frame.assignments.assignments:
            work.start(assignment)
        if frame.HasField("cancel"):
            work.stop(frame.cancel.lease_id, frame.cancel.reason)
    speaking.cancel()


def main() -> int:
    """`python -m penstock_worker.child MODULE:ATTRIBUTE LOG_LEVEL`; started by a worker only."""
    where, log_level = sys.argv[1:]
    link = socket.socket(fileno=os.dup(0))
    link.setblocking(False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(link, where))
    except loading.LoadingError as error:
        print(f"penstock-worker: {error}", file=sys.stderr)  # noqa: T201 - the log is here
        return 2
    # A function that never returns would keep the interpreter from ending.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
