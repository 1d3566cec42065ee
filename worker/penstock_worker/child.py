"""A handler process: `isolation` starts it, with a socket as its standard input.

It runs one attempt at a time with the same executor as a worker without isolation, and asks for
nothing itself: assignments and cancels come, outcomes go. The end of the socket is its end.
"""

import asyncio
import logging
import os
import socket
import sys

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import executor, framing, loading


async def serve(link: socket.socket, where: str) -> None:
    """Until the worker closes the socket."""
    worker = loading.load(where)
    sending: set[asyncio.Task[None]] = set()

    def on_end(_: str, outcome: wire.TaskOutcome) -> None:
        frame = wire.WorkRequest(outcomes=wire.TaskOutcomes(outcomes=[outcome]))
        task = asyncio.create_task(framing.send(link, frame))
        sending.add(task)
        task.add_done_callback(sending.discard)

    work = executor.Executor(worker, 1, on_end, announces=False)
    await framing.send(link, wire.WorkRequest(hello=wire.Hello(task_types=worker.types)))
    while (frame := await framing.receive(link, wire.WorkResponse)) is not None:
        for assignment in frame.assignments.assignments:
            work.start(assignment)
        if frame.HasField("cancel"):
            work.stop(frame.cancel.lease_id, frame.cancel.reason)


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
