"""Calls that last are counted for their caller, and leave nothing behind."""

import contextlib
from typing import Any

import pytest

from penstock.v1 import (
    fleet_service_pb2,
    pool_service_pb2,
    task_service_pb2,
    worker_service_pb2,
)
from penstock_dispatcher import auth, errors, limits

SERVICES = [
    task_service_pb2.DESCRIPTOR.services_by_name["TaskService"],
    pool_service_pb2.DESCRIPTOR.services_by_name["PoolService"],
    worker_service_pb2.DESCRIPTOR.services_by_name["WorkerService"],
    fleet_service_pb2.DESCRIPTOR.services_by_name["FleetService"],
]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.LIMITS, "WaitTask", limits.Limit(2, 3, "waits", "wait less"))


def refused(opened: limits.Open, caller: str) -> str:
    with pytest.raises(errors.Refusal) as caught, opened.by(caller):
        pass
    refusal = caught.value
    assert refusal.reason is errors.Reason.TOO_MANY_STREAMS
    assert refusal.row.retryable
    assert refusal.details.retry_after_ns > 0
    return refusal.text


def test_each_caller_has_its_own_and_all_have_one_together() -> None:
    opened = limits.Open("WaitTask")
    with contextlib.ExitStack() as stack:
        stack.enter_context(opened.by("a"))
        second = contextlib.ExitStack()
        second.enter_context(opened.by("a"))
        assert refused(opened, "a") == "a has 2 waits open, which is the most: wait less"
        stack.enter_context(opened.by("b"))
        assert refused(opened, "b") == "3 waits are open, which is the most: wait less"
        assert len(opened) == 3
        second.close()
        stack.enter_context(opened.by("b"))
    assert len(opened) == 0
    assert opened._of == {}


def test_a_call_that_fails_is_over_too() -> None:
    opened = limits.Open("WaitTask")
    for _ in range(10):
        with pytest.raises(RuntimeError), opened.by("a"):
            raise RuntimeError
    assert len(opened) == 0


def test_every_call_of_the_wire_that_lasts_has_a_limit() -> None:
    lasting = {
        method.name
        for service in SERVICES
        for method in service.methods
        if method.client_streaming
        or method.server_streaming
        or "timeout" in method.input_type.fields_by_name
    }
    # It answers at once, whatever its time-out.
    assert lasting - {"DrainWorker"} == set(limits.LIMITS)


@pytest.mark.parametrize(
    ("name", "peer", "expected"),
    [
        ("team-a", "ipv4:10.0.0.1:4711", "team-a"),
        (auth.ANYBODY, "ipv4:10.0.0.1:4711", "ipv4:10.0.0.1"),
        (auth.ANYBODY, "ipv6:%5B::1%5D:4711", "ipv6:%5B::1%5D"),
        (auth.ANYBODY, "unix:", "unix"),
        (auth.ANYBODY, "somewhere", "somewhere"),
    ],
)
def test_a_caller_is_a_token_or_a_host(name: str, peer: str, expected: str) -> None:
    token: Any = auth._caller.set(auth.Identity(name, "submit"))
    try:
        assert auth.caller(peer) == expected
    finally:
        auth._caller.reset(token)
