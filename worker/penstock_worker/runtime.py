"""A worker process: composes mode, stream and readiness, and owns the signals.

Threads: the main one waits for signals and for the end; `penstock-stream` talks to the dispatcher.
`penstock-handlers` is the event loop of async handlers, and `penstock-task_…` run plain functions;
or `penstock-children` talks to the processes that run the attempts.

SIGTERM or SIGINT: take no more work, finish what runs (for at most the drain time-out), wait until
every outcome is acknowledged, exit 0; or 1, if one still is not when the time is over. A second
SIGINT: stop now, exit 130.

The line `SIGTERM received running=N leases=a,b` tells what a signal found.

Python runs signal handlers in the main thread, between two of its instructions; and the system may
hand a signal to any thread. A main thread that waits for a lock, as `Thread.join` does, then never
hears of it: measured, one SIGTERM in seven was lost while the kubelet's probes made and ended
threads. So it waits on a socket that the interpreter's own C handler writes to
(`signal.set_wakeup_fd`), whatever thread that runs in.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Final

from penstock_worker import identity, modes, readiness, settings, stream

logger = logging.getLogger("penstock.worker")

_OVER: Final = b"\0"
"""On the wake-up socket, where the interpreter writes numbers of signals: the stream has ended."""


def run(mode: modes.Mode, config: settings.Settings) -> int:
    """Serve until told to stop; returns the exit status. Main thread only."""
    logging.basicConfig(
        level=config.log_level,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    logger.info(
        "worker starts pool=%s slots=%d types=%s", config.pool, config.slots, ",".join(mode.types)
    )
    try:
        ready = readiness.Readiness(config.http_port)
    except OSError as error:
        logger.error(  # noqa: TRY400 - the cause is in the message
            "cannot listen on port %d (PENSTOCK_HTTP_PORT): %s; 0 = no readiness server",
            config.http_port,
            error.strerror,
        )
        return 1
    talk = stream.Stream(config, identity=identity.of(mode.types, config), ready=ready)
    failed: list[BaseException] = []

    def lost() -> None:
        logger.error("the process that keeps the worker's children has ended: the worker leaves")
        failed.append(ChildProcessError())
        talk.stop("children lost")

    work = mode.work(config, talk.ended, talk.progressed, lost)
    woken, wake = socket.socketpair()
    wake.setblocking(False)

    def serve() -> None:
        try:
            asyncio.run(talk.run(work))
        except BaseException as error:
            logger.exception("the stream's thread failed: the worker cannot go on")
            failed.append(error)
        finally:
            wake.send(_OVER)

    thread = threading.Thread(target=serve, name="penstock-stream", daemon=True)
    _handle_signals(talk)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    thread.start()
    while woken.recv(1) != _OVER:
        pass  # the handler runs here, after the call
    signal.set_wakeup_fd(-1)
    thread.join()
    work.close()
    ready.close()
    status = 1 if failed or talk.session.unacknowledged else 0
    logger.info("worker ends")
    logging.shutdown()
    if any(each.name.startswith("penstock-task") for each in threading.enumerate()):
        # A function that never returns would keep the interpreter from ending.
        sys.stderr.flush()
        os._exit(status)
    return status


def _handle_signals(talk: stream.Stream) -> None:
    seen: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in seen:
            os._exit(130)
        seen.append(number)
        talk.stop(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
