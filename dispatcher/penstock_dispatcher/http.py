"""The HTTP side: /metrics, /healthz, /readyz.

Healthy: the loop turns and the journal has not failed. Ready: loaded and not stopping. Neither
depends on load, on workers or on the operator.
"""

from typing import Final

import prometheus_client
from aiohttp import web

from penstock_dispatcher import metrics, pump
from penstock_dispatcher.services import answering

LOOP_LAG_SECONDS_MAX: Final = 10.0
SHUTDOWN_SECONDS: Final = 1.0


class HttpServer:
    """Serves on `host`:`port` (0 = any free one; see `port`)."""

    def __init__(self, pump_: pump.Pump, calls: answering.Calls, *, host: str, port: int) -> None:
        self._pump = pump_
        self._calls = calls
        self._host, self.port = host, port
        app = web.Application()
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/healthz", self._get_health)
        app.router.add_get("/readyz", self._get_ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)

    async def start(self) -> None:
        """Bind and serve. Raises OSError if the port is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Idempotent."""
        await self._runner.cleanup()

    async def _get_metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=await metrics.scrape(self._pump, self._calls),
            headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
        )

    async def _get_health(self, _: web.Request) -> web.Response:
        if self._pump.commits.failed.done():
            return web.Response(status=503, text="the journal has failed\n")
        if self._pump.loop_lag_seconds > LOOP_LAG_SECONDS_MAX:
            return web.Response(
                status=503, text=f"the loop was {self._pump.loop_lag_seconds:.1f} s late\n"
            )
        return web.Response(text="ok\n")

    async def _get_ready(self, _: web.Request) -> web.Response:
        if self._pump.stopping:
            return web.Response(status=503, text="stopping\n")
        if not self._pump.serving:
            return web.Response(status=503, text="loading the journal\n")
        return web.Response(text="ok\n")
