"""Every row of docs/reference/errors.md, produced by a dispatcher and read from a real channel.

The page says code and whether to come again; what else a refusal carries stands with its case. A
row or a reason that no case produces fails the last test.
"""

import dataclasses
import pathlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from penstock_dispatcher import errors
from rig import provoked

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "reference" / "errors.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \| `(\w+)` \| .* \| (yes|no|your choice) \| .* \|$")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the page."""

    code: grpc.StatusCode
    again: str


def rows() -> dict[str, Row]:
    """The page's table."""
    found = (ROW.match(line) for line in PAGE.read_text().splitlines())
    return {each[1]: Row(grpc.StatusCode[each[2]], each[4]) for each in found if each}


@pytest.fixture
def pools() -> list[Any]:
    return list(provoked.CONFIGS)


@pytest_asyncio.fixture
async def world(
    dispatcher: Any, serve: Any, tmp_path: pathlib.Path
) -> AsyncIterator[provoked.World]:
    made = provoked.World(dispatcher, serve, tmp_path)
    async with made.stack:
        yield made


Details = dict[str, Any]
CASES: dict[str, tuple[Callable[[provoked.World], Awaitable[None]], Details]] = {
    "QUEUE_FULL": (provoked.queue_full, {"QuotaFailure": provoked.POOL}),
    "TOO_MANY_WAITERS": (provoked.too_many_waiters, {}),
    "ADMISSION_TIMEOUT": (provoked.admission_timeout, {}),
    "KEY_QUEUE_FULL": (provoked.key_queue_full, {"QuotaFailure": "tenant"}),
    "DEADLINE_UNREACHABLE": (provoked.deadline_unreachable, {"ErrorInfo": ["estimated_wait"]}),
    "TOO_MANY_STREAMS": (provoked.too_many_streams, {}),
    "WATCH_TOO_SLOW": (provoked.watch_too_slow, {}),
    "PAYLOAD_TOO_LARGE": (provoked.payload_too_large, {"BadRequest": ["task.payload"]}),
    "INVALID_FIELD": (provoked.invalid_field, {"BadRequest": ["task.type", "task_id"]}),
    "POOL_NOT_FOUND": (
        provoked.pool_not_found,
        {"ResourceInfo": ("penstock.dev/Pool", "namespaces/default/pools/none")},
    ),
    "TASK_NOT_FOUND": (
        provoked.task_not_found,
        {"ResourceInfo": ("penstock.dev/Task", f"{provoked.POOL}/tasks/none")},
    ),
    "WORKER_NOT_FOUND": (
        provoked.worker_not_found,
        {"ResourceInfo": ("penstock.dev/Worker", f"{provoked.POOL}/workers/none")},
    ),
    "TASK_EXISTS": (
        provoked.task_exists,
        {"ResourceInfo": ("penstock.dev/Task", f"{provoked.POOL}/tasks/mine")},
    ),
    "REQUEST_ID_REUSED": (provoked.request_id_reused, {}),
    "TASK_STATE": (
        provoked.task_state,
        {"PreconditionFailure": ("TASK_STATE", f"{provoked.POOL}/tasks/waits")},
    ),
    "WORKER_STATE": (
        provoked.worker_state,
        {"PreconditionFailure": ("WORKER_STATE", f"{provoked.POOL}/workers/pod-1")},
    ),
    "UNSCHEDULABLE": (
        provoked.unschedulable,
        {"PreconditionFailure": ("UNSCHEDULABLE", provoked.KEYED)},
    ),
    "POOL_CLOSED": (provoked.pool_closed, {"PreconditionFailure": ("POOL_CLOSED", provoked.POOL)}),
    "ETAG_MISMATCH": (provoked.etag_mismatch, {}),
    "STARTING": (provoked.starting, {}),
    "NOT_LEADER": (provoked.not_leader, {}),
    "DRAINING": (provoked.draining, {}),
    "STORAGE": (provoked.storage, {}),
    "UNAUTHENTICATED": (provoked.unauthenticated, {}),
    "PERMISSION_DENIED": (provoked.permission_denied, {}),
    "STALE_SESSION": (provoked.stale_session, {}),
}


def told(details: Details) -> Details:
    """What the details say, without the texts for people."""
    found: Details = {}
    for name, detail in details.items():
        match name:
            case "ErrorInfo" if detail.metadata:
                found[name] = sorted(detail.metadata)
            case "QuotaFailure":
                (violation,) = detail.violations
                found[name] = violation.subject
            case "BadRequest":
                found[name] = [bad.field for bad in detail.field_violations]
            case "ResourceInfo":
                found[name] = (detail.resource_type, detail.resource_name)
            case "PreconditionFailure":
                (violation,) = detail.violations
                found[name] = (violation.type, violation.subject)
    return found


@pytest.mark.parametrize("reason", CASES)
async def test_a_row_as_it_travels(reason: str, world: provoked.World, rich: Any) -> None:
    provoke, details = CASES[reason]
    row = rows()[reason]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await provoke(world)
    error = rich(caught.value)
    assert (error.code, error.reason) == (row.code, reason)
    assert error.details["ErrorInfo"].domain == "penstock.dev"
    assert error.message == caught.value.details(), "one text, in the status and in the details"
    assert error.message
    assert told(error.details) == details
    if row.again == "no":
        assert "RetryInfo" not in error.details
        assert error.pushback_ms == "-1"
        return
    delay_ms = error.details["RetryInfo"].retry_delay.ToNanoseconds() / 1e6
    assert 0 <= int(error.pushback_ms) - delay_ms < 1, "the same delay, rounded up"
    if row.again == "yes":
        assert 50 <= delay_ms <= 30_000
    else:
        wait = float(error.details["ErrorInfo"].metadata["estimated_wait"].removesuffix("s"))
        assert provoked.QUEUE_SECONDS_MAX < wait <= provoked.SECONDS_PER_TASK
        assert delay_ms / 1e3 == pytest.approx(wait - provoked.QUEUE_SECONDS_MAX, abs=0.01), (
            "the excess"
        )


def test_no_row_is_left_out() -> None:
    named = set(rows())
    assert named == set(CASES)
    assert {reason.name for reason in errors.Reason} <= named
