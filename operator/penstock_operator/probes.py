"""The operator's HTTP port: /healthz, /readyz and /metrics.

Healthy: every served namespace's watch delivers (see `watchdog`). Ready: it leads, and has read
everything. Neither asks whether the dispatcher is there: restarting the operator would not bring
it back.
"""

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from penstock_operator import metrics

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@contextlib.asynccontextmanager
async def serve(
    *,
    host: str,
    port: int,
    numbers: metrics.Metrics,
    sick: Callable[[], str],
    unready: Callable[[], str],
) -> AsyncIterator[int]:
    """Serve until the context ends; gives the port. `sick` and `unready` say what is wrong, or
    nothing.
    """

    def probe(wrong: Callable[[], str]) -> Callable[[web.Request], "web.Response"]:
        def answer(_: web.Request) -> web.Response:
            problem = wrong()
            return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

        return answer

    async def healthz(request: web.Request) -> web.Response:
        return probe(sick)(request)

    async def readyz(request: web.Request) -> web.Response:
        return probe(unready)(request)

    async def text(_: web.Request) -> web.Response:
        return web.Response(body=numbers.text(), headers={"Content-Type": METRICS_TYPE})

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", text)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
