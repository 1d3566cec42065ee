"""Every refusal of docs/reference/errors.md that this release can give, through a real channel:
code, reason, details, push-back.
"""

from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import (
    fleet_service_pb2,
    pool_service_pb2,
    task_pb2,
    task_service_pb2,
    worker_service_pb2,
)

POOL = "namespaces/default/pools/demo"
_Code = grpc.StatusCode


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    return [make_pool(max_pending=3, max_payload_bytes=100, max_pending_bytes=200)]


@pytest.fixture
def refused(rich: Any) -> Any:
    """Await a call that must be refused."""

    async def call(awaitable: Any) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await awaitable
        return rich(error.value)

    return call


async def test_a_full_pool_says_when_to_come_again(stubs: Any, refused: Any) -> None:
    for _ in range(3):
        await stubs.submit()
    error = await refused(stubs.submit())
    assert (error.code, error.reason) == (_Code.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    violation = error.details["QuotaFailure"].violations[0]
    assert violation.subject == POOL
    assert "the bound is 3" in violation.description
    delay_ms = error.details["RetryInfo"].retry_delay.ToMilliseconds()
    assert 50 <= delay_ms <= 30_000
    assert error.pushback_ms == str(delay_ms)
    assert error.details["ErrorInfo"].domain == "penstock.dev"


async def test_the_bound_on_bytes_is_a_bound_too(stubs: Any, refused: Any) -> None:
    await stubs.submit(payload=b"x" * 100)
    await stubs.submit(payload=b"x" * 100)
    error = await refused(stubs.submit(payload=b"x"))
    assert error.reason == "QUEUE_FULL"
    assert "payload bytes" in error.message


async def test_a_payload_that_never_fits_is_not_retried(stubs: Any, refused: Any) -> None:
    error = await refused(stubs.submit(payload=b"x" * 101))
    assert (error.code, error.reason) == (_Code.INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE")
    assert error.details["BadRequest"].field_violations[0].field == "task.payload"
    assert error.pushback_ms == "-1"
    assert "RetryInfo" not in error.details


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"type": ""}, "task.type"),
        ({"type": "x" * 129}, "task.type"),
        ({"task_id": "1abc"}, "task_id"),
        ({"task_id": "a" * 64}, "task_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"labels": {"k": "v" * 257}}, "task.labels"),
        ({"labels": {str(n): "v" for n in range(65)}}, "task.labels"),
        ({"fairness_key": "x" * 65}, "task.fairness_key"),
        ({"concurrency_key": "x" * 65}, "task.concurrency_key"),
        ({"content_type": "x" * 257}, "task.content_type"),
        ({"slots": 10_001}, "task.slots"),
        ({"slots": -1}, "task.slots"),
        ({"trace_context": {"traceparent": "x" * 2000}}, "task.trace_context"),
        ({"schedule_time": {"seconds": -5}}, "task.schedule_time"),
        ({"expire_time": {"nanos": -5}}, "task.expire_time"),
        ({"execution_timeout": {"seconds": -1}}, "task.execution_timeout"),
        ({"execution_timeout": {}}, "task.execution_timeout"),
        ({"execution_timeout": {"seconds": 315_576_000_000}}, "task.execution_timeout"),
        ({"execution_timeout": {"seconds": 2**63 - 1}}, "task.execution_timeout"),
        ({"schedule_time": {"seconds": 9_223_372_037}}, "task.schedule_time"),
        ({"expire_time": {"seconds": 253_402_300_799}}, "task.expire_time"),
        (
            {"retry_policy": {"initial_backoff": {"seconds": -1}}},
            "task.retry_policy.initial_backoff",
        ),
        (
            {"retry_policy": {"max_backoff": {"seconds": 315_576_000_000}}},
            "task.retry_policy.max_backoff",
        ),
        *(
            ({"retry_policy": {"backoff_multiplier": bad}}, "task.retry_policy.backoff_multiplier")
            for bad in (float("nan"), float("inf"), 100.5)
        ),
        ({"retry_policy": {"jitter": float("nan")}}, "task.retry_policy.jitter"),
        (
            {"retry_policy": {"non_retryable_reasons": ["x" * 257]}},
            "task.retry_policy.non_retryable_reasons",
        ),
        ({"retry_policy": {"max_attempts": 0}}, "task.retry_policy.max_attempts"),
        ({"retry_policy": {"jitter": 2}}, "task.retry_policy.jitter"),
        ({"retry_policy": {"backoff_multiplier": 0.5}}, "task.retry_policy.backoff_multiplier"),
        (
            {"retry_policy": {"non_retryable_reasons": ["x"] * 65}},
            "task.retry_policy.non_retryable_reasons",
        ),
        ({"admission": 7}, "admission"),
        ({"parent": "pools/demo"}, "parent"),
        ({"parent": "namespaces/Default/pools/demo"}, "parent"),
    ],
)
async def test_a_bad_field_is_named(
    stubs: Any, refused: Any, fields: dict[str, Any], named: str
) -> None:
    error = await refused(stubs.submit(**fields))
    assert (error.code, error.reason) == (_Code.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [bad.field for bad in error.details["BadRequest"].field_violations] == [named]
    assert error.pushback_ms == "-1"


async def test_a_bound_is_named_with_its_field(stubs: Any, refused: Any) -> None:
    error = await refused(stubs.submit(execution_timeout={"seconds": 315_360_001}))
    assert "task.execution_timeout must be at most 315360000 s" in error.message
    await stubs.submit(
        execution_timeout={"seconds": 315_360_000},
        schedule_time={"seconds": 4_102_444_799},
        expire_time={"seconds": 4_102_444_799, "nanos": 999_999_999},
        retry_policy={"max_backoff": {"seconds": 315_360_000}, "backoff_multiplier": 100},
    )


async def test_all_bad_fields_are_named_at_once(stubs: Any, refused: Any) -> None:
    error = await refused(stubs.submit(type="", task_id="X", slots=-3))
    fields = [bad.field for bad in error.details["BadRequest"].field_violations]
    assert fields == ["task.type", "task_id", "task.slots"]


async def test_what_is_not_there(stubs: Any, refused: Any) -> None:
    error = await refused(stubs.submit(parent="namespaces/default/pools/none"))
    assert (error.code, error.reason) == (_Code.NOT_FOUND, "POOL_NOT_FOUND")
    assert error.details["ResourceInfo"].resource_name == "namespaces/default/pools/none"
    error = await refused(stubs.get(f"{POOL}/tasks/none"))
    assert (error.code, error.reason) == (_Code.NOT_FOUND, "TASK_NOT_FOUND")
    assert error.details["ResourceInfo"].resource_name == f"{POOL}/tasks/none"
    request = pool_service_pb2.DrainWorkerRequest(name=f"{POOL}/workers/none")
    error = await refused(stubs.pools.DrainWorker(request))
    assert (error.code, error.reason) == (_Code.NOT_FOUND, "WORKER_NOT_FOUND")


async def test_what_is_taken(stubs: Any, refused: Any) -> None:
    await stubs.submit(task_id="mine", request_id="r")
    error = await refused(stubs.submit(task_id="mine", request_id="other"))
    assert (error.code, error.reason) == (_Code.ALREADY_EXISTS, "TASK_EXISTS")
    assert error.details["ResourceInfo"].resource_name == f"{POOL}/tasks/mine"
    error = await refused(stubs.submit(task_id="mine", request_id="r", payload=b"other"))
    assert (error.code, error.reason) == (_Code.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert error.pushback_ms == "-1"


async def test_the_same_request_is_the_same_task_even_when_the_pool_is_full(stubs: Any) -> None:
    first = await stubs.submit(request_id="r", labels={"a": "1", "b": "2"})
    for _ in range(2):
        await stubs.submit()
    again = await stubs.submit(request_id="r", labels={"b": "2", "a": "1"})
    assert again.name == first.name


async def test_a_batch_is_bounded(stubs: Any, refused: Any) -> None:
    single = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"))
    batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[single] * 1001)
    error = await refused(stubs.tasks.BatchSubmitTasks(batch))
    assert error.details["BadRequest"].field_violations[0].field == "requests"


async def test_bad_names_and_pages_are_named(stubs: Any, refused: Any) -> None:
    bad = "namespaces/default/pools/demo/tasks/"
    error = await refused(stubs.get(bad))
    assert error.details["BadRequest"].field_violations[0].field == "name"
    for field, value in (("page_size", -1), ("page_token", "zz"), ("order_by", "state")):
        request = task_service_pb2.ListTasksRequest(parent=POOL)
        setattr(request, field, value)
        error = await refused(stubs.tasks.ListTasks(request))
        assert error.details["BadRequest"].field_violations[0].field == field


@pytest.mark.parametrize(
    "token", ["-5", "0x2", " 2 ", "+2", "022", "1_0", "A", "zz", POOL, "7" * 999]
)
async def test_a_page_token_is_one_that_was_given(stubs: Any, refused: Any, token: str) -> None:
    listed = [
        stubs.pools.ListPools(pool_service_pb2.ListPoolsRequest(page_token=token)),
        stubs.pools.ListWorkers(pool_service_pb2.ListWorkersRequest(parent=POOL, page_token=token)),
        stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=POOL, page_token=token)),
    ]
    for each in listed:
        error = await refused(each)
        assert error.reason == "INVALID_FIELD"
        assert error.details["BadRequest"].field_violations[0].field == "page_token"


@pytest.mark.parametrize("uid", ["", "u" * 254])
async def test_a_uid_is_bounded(
    stubs: Any, refused: Any, rich: Any, make_pool: Any, uid: str
) -> None:
    request = fleet_service_pb2.ReserveWorkersRequest(pool=POOL, absent_pod_uids=["u", uid])
    error = await refused(stubs.fleet.ReserveWorkers(request))
    assert error.details["BadRequest"].field_violations[0].field == "absent_pod_uids"
    if not uid:
        return  # that of a pool is told as any other bad field
    call = stubs.fleet.SyncPools()
    config = make_pool("namespaces/default/pools/other", uid)
    await call.write(fleet_service_pb2.SyncPoolsRequest(upsert=config, epoch=1))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    error = rich(ended.value)
    assert error.details["BadRequest"].field_violations[0].field == "upsert.uid"
    assert len(str(ended.value)) < 1_000


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"pod_name": ""}, "hello.pod_name"),
        ({"pod_name": "a/b"}, "hello.pod_name"),
        ({"pod_name": "a\nb"}, "hello.pod_name"),
        ({"pod_name": "a" * 254}, "hello.pod_name"),
        ({"pod_uid": ""}, "hello.pod_uid"),
        ({"slots": 0}, "hello.slots"),
        ({"slots": 10_001}, "hello.slots"),
        ({"protocol_version": 2}, "hello.protocol_version"),
        ({"pool": "demo"}, "hello.pool"),
        ({"revision": "x" * 300}, "hello.revision"),
    ],
)
async def test_a_bad_hello_is_refused(
    stubs: Any, rich: Any, fields: dict[str, Any], named: str
) -> None:
    good = {"pool": POOL, "pod_name": "p", "pod_uid": "u", "slots": 1, "protocol_version": 1}
    call = stubs.work.Work()
    hello = worker_service_pb2.Hello(**{**good, **fields})
    await call.write(worker_service_pb2.WorkRequest(hello=hello))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    found = rich(error.value)
    assert found.details["BadRequest"].field_violations[0].field == named


async def test_a_stream_begins_with_hello(stubs: Any, rich: Any) -> None:
    call = stubs.work.Work()
    await call.write(worker_service_pb2.WorkRequest(credit=worker_service_pb2.Credit(slots=1)))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert rich(error.value).details["BadRequest"].field_violations[0].field == "hello"


async def test_a_worker_of_a_deleted_pool_does_not_serve_its_successor(
    dispatcher: Any, rich: Any
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await dispatcher.worker("p", pool_uid="uid-of-before")
    assert rich(error.value).reason == "POOL_NOT_FOUND"


async def test_a_session_of_another_pod_is_refused(dispatcher: Any, rich: Any) -> None:
    first = await dispatcher.worker("pod-1")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await dispatcher.worker("pod-2", session_id=first.session_id)
    found = rich(error.value)
    assert (found.code, found.reason) == (_Code.FAILED_PRECONDITION, "STALE_SESSION")


async def test_requests_of_the_operator_are_checked(stubs: Any, refused: Any) -> None:
    for request, named in (
        (fleet_service_pb2.ReserveWorkersRequest(pool=POOL, count=0), "count"),
        (fleet_service_pb2.ReserveWorkersRequest(pool="x", count=1), "pool"),
    ):
        error = await refused(stubs.fleet.ReserveWorkers(request))
        assert error.details["BadRequest"].field_violations[0].field == named
    error = await refused(
        stubs.fleet.ReleaseWorkers(fleet_service_pb2.ReleaseWorkersRequest(pool=POOL))
    )
    assert error.details["BadRequest"].field_violations[0].field == "reservation_id"


async def test_of_many_bad_fields_the_first_are_told(stubs: Any, refused: Any) -> None:
    task = task_pb2.Task(type="t", slots=-1)
    batch = task_service_pb2.BatchSubmitTasksRequest(
        parent=POOL,
        requests=[task_service_pb2.SubmitTaskRequest(task=task)] * 1000,
        atomic=True,
    )
    for _ in range(5):  # trailers that are too long are dropped at random
        error = await refused(stubs.tasks.BatchSubmitTasks(batch))
        assert (error.code, error.reason) == (_Code.INVALID_ARGUMENT, "INVALID_FIELD")
        told = [bad.field for bad in error.details["BadRequest"].field_violations]
        assert told[0] == "requests[0].task.slots"
        assert error.message.endswith(f"; and {1000 - len(told)} more")
