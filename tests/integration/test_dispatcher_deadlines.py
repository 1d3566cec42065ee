"""What cannot start in time is refused at once, over the wire: one, a batch, a stream, a waiter."""

import asyncio
import time
import urllib.request
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2

POOL = "namespaces/default/pools/demo"
RATED = "namespaces/default/pools/rated"
SECONDS_PER_TASK = 100
"""The rate limit makes starts predictable, however slow the machine is."""


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [
        make_pool(),
        make_pool(
            name=RATED,
            uid="uid-rated",
            max_pending=3,
            max_wait=60,
            rate_limit=(1, float(SECONDS_PER_TASK), 1),
        ),
    ]


def seconds(value: float) -> duration_pb2.Duration:
    made = duration_pb2.Duration()
    made.FromMilliseconds(int(value * 1000))
    return made


def request(limit: float | None = None, **fields: Any) -> Any:
    made = task_service_pb2.SubmitTaskRequest(
        parent=RATED, task=task_pb2.Task(type="noop"), **fields
    )
    if limit is not None:
        made.max_queue_time.CopyFrom(seconds(limit))
    return made


@pytest.fixture
async def throttled(dispatcher: Any, stubs: Any) -> Any:
    """The only token is taken, by a task that runs; the next one comes in 100 s. One slot is
    free.
    """
    worker = await dispatcher.worker("pod-1", pool=RATED, slots=2)
    await stubs.tasks.SubmitTask(request())
    await worker.assigned(1)
    return worker


async def refused(call: Any, rich: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rich(caught.value)


def check(error: Any, *, limit: float) -> None:
    assert (error.code, error.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "DEADLINE_UNREACHABLE",
    )
    predicted = float(error.details["ErrorInfo"].metadata["estimated_wait"].removesuffix("s"))
    assert SECONDS_PER_TASK - 30 < predicted <= SECONDS_PER_TASK
    delay = error.details["RetryInfo"].retry_delay.ToMilliseconds() / 1000
    assert delay == pytest.approx(predicted - limit, abs=0.01), "the excess"


@pytest.mark.usefixtures("throttled")
async def test_one_is_refused_at_once_and_leaves_nothing(stubs: Any, rich: Any) -> None:
    began = time.monotonic()
    error = await refused(stubs.tasks.SubmitTask(request(10)), rich)
    assert time.monotonic() - began < 5
    check(error, limit=10)
    assert int(error.pushback_ms) > 1000
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=RATED))
    assert len(listed.tasks) == 1
    error = await refused(stubs.tasks.SubmitTask(request(10, validate_only=True)), rich)
    check(error, limit=10)
    assert (await stubs.tasks.SubmitTask(request(2 * SECONDS_PER_TASK))).task.name


@pytest.mark.usefixtures("throttled")
async def test_a_batch_and_a_stream_tell_each_its_own(stubs: Any, rich: Any) -> None:
    wanted = [request(10), request(300), request()]
    batch = task_service_pb2.BatchSubmitTasksRequest(parent=RATED, requests=wanted)
    outcomes = list((await stubs.tasks.BatchSubmitTasks(batch)).outcomes)
    call = stubs.tasks.StreamSubmitTasks()
    await call.write(task_service_pb2.BatchSubmitTasksRequest(requests=[request(20)]))
    await call.write(task_service_pb2.BatchSubmitTasksRequest(requests=[request()]))
    await call.done_writing()
    async for answer in call:
        outcomes.extend(answer.outcomes)
    assert [one.WhichOneof("outcome") for one in outcomes] == [
        "error",
        "response",
        "response",
        "error",
        "response",
    ]
    check(rich(outcomes[0].error), limit=10)
    late = rich(outcomes[3].error)
    assert late.reason == "DEADLINE_UNREACHABLE", "behind two that were accepted"
    assert late.details["RetryInfo"].retry_delay.seconds > 2 * SECONDS_PER_TASK


@pytest.mark.usefixtures("throttled")
async def test_with_wait_it_counts_from_the_call(stubs: Any, rich: Any) -> None:
    for _ in range(3):
        await stubs.tasks.SubmitTask(request())
    waits = {"admission": task_service_pb2.SubmitTaskRequest.WAIT, "max_wait": seconds(50)}
    error = await refused(stubs.tasks.SubmitTask(request(20, **waits)), rich)
    assert error.reason == "DEADLINE_UNREACHABLE"
    assert error.details["RetryInfo"].retry_delay.seconds > 3 * SECONDS_PER_TASK
    short = {**waits, "max_wait": seconds(0.2)}
    error = await refused(stubs.tasks.SubmitTask(request(10_000, **short)), rich)
    assert error.reason == "ADMISSION_TIMEOUT"


async def test_where_nothing_can_be_told_no_time_is(stubs: Any, rich: Any) -> None:
    """A full pool without a worker."""
    for _ in range(3):
        await stubs.tasks.SubmitTask(request())
    waits = {"admission": task_service_pb2.SubmitTaskRequest.WAIT, "max_wait": seconds(50)}
    error = await refused(stubs.tasks.SubmitTask(request(0.2, **waits)), rich)
    assert (error.reason, error.pushback_ms) == ("DEADLINE_UNREACHABLE", "1000")
    assert error.message == "no room came free within max_queue_time"
    assert "estimated_wait" not in error.details["ErrorInfo"].metadata


async def test_what_can_start_at_once_needs_no_time(dispatcher: Any, stubs: Any) -> None:
    await dispatcher.worker("pod-1", slots=1)
    made = task_service_pb2.SubmitTaskRequest(parent=POOL, task=task_pb2.Task(type="noop"))
    made.max_queue_time.CopyFrom(seconds(0))
    assert (await stubs.tasks.SubmitTask(made)).task.name


async def test_bad_times_are_named(stubs: Any, rich: Any) -> None:
    error = await refused(stubs.tasks.SubmitTask(request(-1)), rich)
    assert [bad.field for bad in error.details["BadRequest"].field_violations] == ["max_queue_time"]
    made = request(5)
    made.task.schedule_time.CopyFrom(timestamp_pb2.Timestamp(seconds=int(time.time()) + 60))
    error = await refused(stubs.tasks.SubmitTask(made), rich)
    assert "max_queue_time" in error.message
    assert "schedule_time" in error.message


@pytest.mark.usefixtures("throttled")
async def test_where_a_task_stands_and_how_long_it_will_wait(stubs: Any) -> None:
    names = [(await stubs.tasks.SubmitTask(request())).task.name for _ in range(3)]
    shown = [await stubs.get(name) for name in names]
    assert [task.queue_position for task in shown] == [0, 1, 2]
    for number, task in enumerate(shown, start=1):
        wait = task.estimated_wait.ToMilliseconds() / 1000
        assert number * SECONDS_PER_TASK - 30 < wait <= number * SECONDS_PER_TASK
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=RATED))
    wait = pool.stats.estimated_wait.ToMilliseconds() / 1000
    assert 4 * SECONDS_PER_TASK - 30 < wait <= 4 * SECONDS_PER_TASK


async def test_the_estimates_own_error_is_a_metric(dispatcher: Any, stubs: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=1)
    made = task_service_pb2.SubmitTaskRequest(parent=POOL, task=task_pb2.Task(type="noop"))
    made.max_queue_time.CopyFrom(seconds(60))
    await stubs.tasks.SubmitTask(made)
    await worker.assigned(1)

    def read() -> str:
        address = f"http://{dispatcher.dispatcher.http_address}/metrics"
        with urllib.request.urlopen(address) as answer:
            return answer.read().decode()

    text = await asyncio.to_thread(read)
    labels = 'namespace="default",pool="demo",started="later"'
    assert f"penstock_pool_wait_estimate_error_seconds_count{{{labels}}} 1.0" in text
    # A worker with a slot that has run nothing yet: how long it will take cannot be told.
    assert 'penstock_pool_estimated_wait_seconds{namespace="default",pool="demo"}' in text
