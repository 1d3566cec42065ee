"""A worker inside another program's event loop: no process, no signals, no readiness server.

For tests (`penstock.testing`). Its stream runs in the caller's loop, so whatever blocks that loop
holds up heartbeats too; handlers run where they always do, on threads of their own.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from penstock_worker import app, executor, identity, readiness, settings, stream


@contextlib.asynccontextmanager
async def serving(worker: app.Worker, config: settings.Settings) -> AsyncIterator[None]:
    """A worker for the length of a block. At its end it takes no more tasks, and finishes those it
    has, for at most the drain time-out.
    """
    talk = stream.Stream(
        config, identity=identity.of(worker.types, config), ready=readiness.Readiness(0)
    )
    work = executor.Executor(worker, config.slots, talk.ended, talk.progressed)
    running = asyncio.create_task(talk.run(work), name=f"worker {config.pod_name}")
    try:
        yield
    finally:
        talk.stop("end of the block")
        try:
            await running
        finally:
            work.close()
