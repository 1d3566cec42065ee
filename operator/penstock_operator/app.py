"""Puts the operator together and runs it: the only place that knows all parts.

Order of start: HTTP (so that probes answer while it waits), Kubernetes, leadership, everything
read once, the dispatcher, kopf. Each part is a task; the first one that ends, ends the process: a
leadership lost, a watch that kopf gives up on, a signal. The exit code is 0 only for a signal.
Nothing is undone at the end but the Lease, which is let go so that the next operator need not
wait.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any, Final

import kopf

from penstock_operator import (
    cluster,
    dispatcher_link,
    handlers,
    hub,
    leader,
    metrics,
    probes,
    settings,
    watchdog,
)

STOP_SECONDS_MAX: Final = 5.0

logger = logging.getLogger(__name__)


async def run(config: settings.Settings) -> int:
    """Run until a signal or a failure; answers with the exit code."""
    stop = asyncio.Event()
    _on_signals(stop)
    numbers = metrics.Metrics()
    api = await cluster.Cluster.connect(observe=numbers.request)
    operator = _Operator(config, api=api, numbers=numbers)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(api.close)
        if config.http_port >= 0:
            port = await stack.enter_async_context(
                probes.serve(
                    host=config.http_host,
                    port=config.http_port,
                    numbers=numbers,
                    sick=operator.sick,
                    unready=operator.unready,
                )
            )
            logger.info("health and metrics on port %d", port)
        return await operator.run(stop)


class _Operator:
    """The parts of one process, and their tasks."""

    def __init__(
        self, config: settings.Settings, *, api: cluster.Cluster, numbers: metrics.Metrics
    ) -> None:
        self._config = config
        self._api = api
        self._numbers = numbers
        self._leader = leader.Leader(
            api=api,
            namespace=config.operator_namespace,
            name=config.lease_name,
            identity=config.operator_id,
            wall=time.time,
            clock=time.monotonic,
        )
        self._guard = watchdog.Watchdog(
            api=api,
            identity=config.operator_id,
            wall=time.time,
            clock=time.monotonic,
        )
        self._pools = hub.Hub(api=api, config=config, numbers=numbers, wall=time.time)
        self._link = dispatcher_link.DispatcherLink(
            address=config.dispatcher_address,
            token_file=config.token_file,
            operator_id=config.operator_id,
            epoch=lambda: self._leader.epoch,
            wake=self._pools.demand_changed,
            wake_all=self._link_changed,
            clock=time.monotonic,
        )
        self._pools.link = self._link
        self._watching = False

    def sick(self) -> str:
        """Why this process should be restarted."""
        late = self._guard.late()
        self._numbers.watch_late.set(len(late))
        return f"the watch of {', '.join(late)} does not deliver" if late else ""

    def unready(self) -> str:
        """Why it does not work yet."""
        if not self._leader.epoch:
            return "waiting for the leadership"
        if not self._pools.primed:
            return "reading what there is"
        return "" if self._watching else "starting the watches"

    def _link_changed(self) -> None:
        self._numbers.connected.set(1 if self._link.synced_for() else 0)
        self._pools.link_changed()

    async def run(self, stop: asyncio.Event) -> int:
        """Lead, and work until `stop` or a failure."""
        try:
            await _first_of(self._work(stop), _until(stop))
            return 0 if stop.is_set() else 1
        finally:
            await self._pools.stop()
            await self._leader.release()

    async def _work(self, stop: asyncio.Event) -> None:
        await self._api.check_resource()
        await self._leader.acquire()
        await _first_of(self._leader.hold(), self._serve(stop))

    async def _serve(self, stop: asyncio.Event) -> None:
        await self._pools.prime()
        await _first_of(
            self._link.run(),
            self._pools.resync(),
            self._guard.run(self._pools.namespaces),
            self._watch(stop),
        )

    async def _watch(self, stop: asyncio.Event) -> None:
        registry = kopf.OperatorRegistry()
        handlers.register(registry, pools=self._pools, guard=self._guard)
        tuning = kopf.OperatorSettings()
        handlers.configure(tuning)
        earlier = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=tuning,
            namespaces=self._pools.namespaces,
            standalone=True,
        )
        _on_signals(stop)  # kopf has put in its own
        self._watching = True
        await kopf.run_tasks(tasks, ignored=earlier)


async def _first_of(*parts: Coroutine[Any, Any, None]) -> None:
    """Run parts until one ends; stop the others. Raises what that one raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_SECONDS_MAX)


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()
    logger.info("stopping")


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
