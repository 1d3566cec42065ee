"""Connections on which nothing is said for long."""

import asyncio
from typing import Any

import grpc.aio
import pytest

from penstock.v1 import task_service_pb2
from penstock_worker import stream
from rig import wire


@pytest.mark.slow
async def test_a_call_that_waits_is_left_alone_however_often_it_pings(
    dispatcher: Any, stubs: Any
) -> None:
    """gRPC ends a connection that pings too often; the fifth such ping did."""
    often = {"grpc.keepalive_time_ms": 5_500}  # the least that the dispatcher allows is 5 s
    options = tuple({**dict(stream.CHANNEL_OPTIONS), **often}.items())
    task = await stubs.submit()
    async with grpc.aio.insecure_channel(dispatcher.address, options=options) as channel:
        request = task_service_pb2.WaitTaskRequest(name=task.name)
        waiting = asyncio.ensure_future(wire.Stubs(channel).tasks.WaitTask(request))
        done, _ = await asyncio.wait((waiting,), timeout=8 * 5.5)
        assert not done
        waiting.cancel()
