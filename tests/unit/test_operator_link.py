"""What the operator says to a dispatcher that is not listening yet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from penstock_operator import dispatcher_link
from rig import polling

SECONDS_MAX = 20.0


class Dispatcher(fleet_service_pb2_grpc.FleetServiceServicer):
    """Reads the first streams, and refuses them as one that starts does; then it is in sync."""

    def __init__(self, refused: int) -> None:
        self.refused = refused
        self.heard: list[list[str]] = []

    async def SyncPools(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        heard: list[str] = []
        self.heard.append(heard)
        async for request in requests:
            if request.HasField("worker_gone"):
                heard.append(request.worker_gone.pod_uid)
                if len(self.heard) <= self.refused:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "it starts")
            if request.HasField("sync_end") and len(self.heard) > self.refused:
                yield fleet_service_pb2.SyncPoolsResponse(synced=True)


@contextlib.asynccontextmanager
async def served(dispatcher: Dispatcher) -> AsyncIterator[dispatcher_link.DispatcherLink]:
    server = grpc.aio.server()
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(dispatcher, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    clock = asyncio.get_running_loop().time
    link = dispatcher_link.DispatcherLink(
        address=f"127.0.0.1:{port}",
        token_file="",
        operator_id="o",
        epoch=lambda: 1,
        wake=lambda _: None,
        wake_all=lambda: None,
        clock=clock,
        reconnect_seconds_max=0.1,
    )
    running = asyncio.ensure_future(link.run())
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await server.stop(None)


def gone(link: dispatcher_link.DispatcherLink, uid: str) -> None:
    link.worker_gone(pool="namespaces/a/pools/b", pod_name=uid, pod_uid=uid, reason="", exit_code=9)


async def test_a_report_that_nobody_has_taken_is_made_again() -> None:
    dispatcher = Dispatcher(refused=2)
    async with served(dispatcher) as link:
        gone(link, "u1")
        await polling.until(lambda: len(dispatcher.heard) == 3 and dispatcher.heard[2], SECONDS_MAX)
        gone(link, "u2")
        await polling.until(lambda: len(dispatcher.heard[2]) == 2, SECONDS_MAX)
    assert dispatcher.heard == [["u1"], ["u1"], ["u1", "u2"]]


async def test_a_report_that_was_taken_long_ago_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_link, "GONE_KEPT_SECONDS", 0.3)
    dispatcher = Dispatcher(refused=0)
    async with served(dispatcher) as link:
        gone(link, "u1")
        await polling.until(lambda: dispatcher.heard and dispatcher.heard[0], SECONDS_MAX)
        await asyncio.sleep(0.5)
        gone(link, "u2")
        await polling.until(lambda: len(dispatcher.heard[0]) == 2, SECONDS_MAX)
        await polling.until(
            lambda: [report.pod_uid for report in link._gone.values()] == ["u2"], SECONDS_MAX
        )
