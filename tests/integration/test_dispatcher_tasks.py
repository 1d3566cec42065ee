"""A task's way through a real server: submit, assign, outcome, result; and everything that clients
read on the way.
"""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import pool_service_pb2, task_pb2, task_service_pb2, worker_service_pb2
from penstock_dispatcher.core import control

POOL = "namespaces/default/pools/demo"
_State = task_pb2.Task


async def test_a_task_goes_from_submit_to_result(dispatcher: Any, stubs: Any) -> None:
    submitted = await stubs.submit(
        type="echo", payload=b"hello", labels={"a": "b"}, content_type="text/plain"
    )
    assert submitted.name.startswith(f"{POOL}/tasks/")
    assert submitted.state == _State.PENDING
    assert not submitted.payload
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    assert one.task.name == submitted.name
    assert (one.task.type, one.task.payload, one.task.attempt) == ("echo", b"hello", 1)
    assert dict(one.task.labels) == {"a": "b"}
    assert one.lease.task == submitted.name
    assert one.lease.attempt == 1
    assert one.deadline.seconds > submitted.create_time.seconds
    running = await stubs.get(submitted.name)
    assert running.state == _State.RUNNING
    assert running.worker == "pod-1"
    waiting = asyncio.ensure_future(stubs.wait(submitted.name))
    outcome = worker_service_pb2.TaskOutcome(
        lease_id=one.lease.lease_id,
        fencing_token=one.lease.fencing_token,
        completed=worker_service_pb2.TaskOutcome.Completed(result=b"HELLO", content_type="x/y"),
    )
    outcome.execution_time.FromMilliseconds(7)
    await worker.outcomes([outcome], credit=1)
    assert await worker.acks() == {one.lease.lease_id: True}
    done = await waiting
    assert done.state == _State.SUCCEEDED
    assert (done.result, done.result_content_type) == (b"HELLO", "x/y")
    assert done.payload == b"hello"
    assert done.execution_time.ToMilliseconds() == 7
    assert done.attempt == 1
    assert done.end_time.ToNanoseconds() >= done.start_time.ToNanoseconds()


async def test_a_result_can_be_waited_for_by_many_and_read_afterwards(
    dispatcher: Any, stubs: Any
) -> None:
    task = await stubs.submit()
    waiting = [asyncio.ensure_future(stubs.wait(task.name)) for _ in range(20)]
    worker = await dispatcher.worker("pod-1")
    await worker.succeed(*await worker.assigned(), result=b"r")
    assert {done.result for done in await asyncio.gather(*waiting)} == {b"r"}
    assert (await stubs.wait(task.name, 0.0)).state == _State.SUCCEEDED


async def test_waiting_ends_with_the_task_as_it_is(stubs: Any) -> None:
    task = await stubs.submit()
    assert (await stubs.wait(task.name, 0.05)).state == _State.PENDING


async def test_order_is_priority_then_arrival(dispatcher: Any, stubs: Any) -> None:
    await stubs.pools.PausePool(pool_service_pb2.PausePoolRequest(name=POOL))
    priorities = [1, 5, 2, 10, 3, 7, 1]
    for number, priority in enumerate(priorities):
        await stubs.submit(task_id=f"t{number}", priority=priority)
    worker = await dispatcher.worker("pod-1", slots=10)
    await asyncio.sleep(0.1)
    assert (await stubs.get(f"{POOL}/tasks/t3")).state == _State.PENDING
    await stubs.pools.ResumePool(pool_service_pb2.ResumePoolRequest(name=POOL))
    got = [one.task.name.rpartition("/")[2] for one in await worker.assigned(7)]
    assert got == ["t3", "t5", "t1", "t4", "t2", "t0", "t6"]


async def test_credit_is_never_exceeded(dispatcher: Any, stubs: Any) -> None:
    for _ in range(5):
        await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=3)
    held = await worker.assigned(3)
    await worker.succeed(held[0])
    (fourth,) = await worker.assigned(1)
    assert fourth.lease.lease_id not in {one.lease.lease_id for one in held}
    await worker.nothing()


async def test_a_worker_gets_only_types_that_it_knows(dispatcher: Any, stubs: Any) -> None:
    await stubs.submit(type="other", priority=10)
    await stubs.submit(type="known")
    worker = await dispatcher.worker("pod-1", task_types=["known"], slots=2)
    (one,) = await worker.assigned()
    assert one.task.type == "known"
    await worker.nothing()


async def test_a_batch_answers_each_request_by_itself(stubs: Any, rich: Any) -> None:
    def request(**fields: Any) -> Any:
        task = task_pb2.Task(type=fields.pop("type", "noop"))
        return task_service_pb2.SubmitTaskRequest(task=task, **fields)

    batch = task_service_pb2.BatchSubmitTasksRequest(
        parent=POOL,
        requests=[
            request(request_id="one"),
            request(request_id="two", type=""),
            request(request_id="one"),
            request(request_id="three", task_id="Not-Valid"),
        ],
    )
    answer = await stubs.tasks.BatchSubmitTasks(batch)
    assert [entry.request_id for entry in answer.outcomes] == ["one", "two", "one", "three"]
    first, second, third, fourth = answer.outcomes
    assert first.response.task.name == third.response.task.name
    assert third.response.deduplicated
    assert not first.response.deduplicated
    bad = rich(second.error)
    assert (bad.code, bad.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert bad.details["BadRequest"].field_violations[0].field == "task.type"
    assert rich(fourth.error).details["BadRequest"].field_violations[0].field == "task_id"


async def test_an_atomic_batch_is_all_or_nothing(stubs: Any, rich: Any) -> None:
    await stubs.submit(task_id="taken")
    batch = task_service_pb2.BatchSubmitTasksRequest(
        parent=POOL,
        atomic=True,
        requests=[
            task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"), task_id=task_id)
            for task_id in ("free", "taken")
        ],
    )
    answer = await stubs.tasks.BatchSubmitTasks(batch)
    assert [rich(entry.error).reason for entry in answer.outcomes] == ["TASK_EXISTS"] * 2
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stubs.get(f"{POOL}/tasks/free")
    assert rich(refused.value).reason == "TASK_NOT_FOUND"
    del batch.requests[1]
    answer = await stubs.tasks.BatchSubmitTasks(batch)
    assert answer.outcomes[0].response.task.name == f"{POOL}/tasks/free"


async def test_a_submit_stream_answers_in_order(stubs: Any) -> None:
    call = stubs.tasks.StreamSubmitTasks()
    for batch in range(20):
        await call.write(
            task_service_pb2.BatchSubmitTasksRequest(
                parent=POOL,
                requests=[
                    task_service_pb2.SubmitTaskRequest(
                        task=task_pb2.Task(type="noop"), request_id=f"{batch}-{number}"
                    )
                    for number in range(50)
                ],
            )
        )
    await call.done_writing()
    seen = [entry.request_id async for answer in call for entry in answer.outcomes]
    assert seen == [f"{batch}-{number}" for batch in range(20) for number in range(50)]
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert pool.stats.pending == 1000
    assert pool.stats.accepted_total == 1000


async def test_a_bad_batch_ends_a_stream_after_the_answers_to_those_before(
    stubs: Any, rich: Any
) -> None:
    call = stubs.tasks.StreamSubmitTasks()
    good = task_service_pb2.BatchSubmitTasksRequest(
        parent=POOL, requests=[task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="a"))]
    )
    await call.write(good)
    await call.write(task_service_pb2.BatchSubmitTasksRequest(parent="namespaces/x/pools/none"))
    assert len((await call.read()).outcomes) == 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert rich(refused.value).reason == "POOL_NOT_FOUND"


async def test_waiting_tasks_are_cancelled_at_once(dispatcher: Any, stubs: Any, rich: Any) -> None:
    task = await stubs.submit()
    request = task_service_pb2.CancelTaskRequest(name=task.name)
    assert (await stubs.tasks.CancelTask(request)).state == _State.CANCELLED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stubs.tasks.CancelTask(request)
    error = rich(refused.value)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_STATE")
    assert error.details["PreconditionFailure"].violations[0].subject == task.name
    assert error.pushback_ms == "-1"
    worker = await dispatcher.worker("pod-1")
    await worker.nothing()


async def test_a_running_task_is_cancelled_by_its_worker(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    request = task_service_pb2.CancelTaskRequest(name=task.name, reason="enough")
    assert (await stubs.tasks.CancelTask(request)).state == _State.CANCELLING
    frame = await worker.read()
    assert frame.cancel.lease_id == one.lease.lease_id
    assert frame.cancel.reason == "enough"
    outcome = worker_service_pb2.TaskOutcome(
        lease_id=one.lease.lease_id,
        fencing_token=one.lease.fencing_token,
        cancelled=worker_service_pb2.TaskOutcome.Cancelled(),
    )
    await worker.outcomes([outcome], credit=1)
    assert (await stubs.wait(task.name)).state == _State.CANCELLED


async def test_cancel_heeds_the_etag(stubs: Any, rich: Any) -> None:
    task = await stubs.submit()
    request = task_service_pb2.CancelTaskRequest(name=task.name, etag='"old"')
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stubs.tasks.CancelTask(request)
    error = rich(refused.value)
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    request.etag = (await stubs.get(task.name)).etag
    assert (await stubs.tasks.CancelTask(request)).state == _State.CANCELLED


async def test_a_list_goes_by_the_states_that_it_shows(dispatcher: Any, stubs: Any) -> None:
    for name in ("a", "b", "c"):
        await stubs.submit(task_id=name)
    pump = dispatcher.dispatcher.pump
    pool = pump.registry.by_name[POOL]
    first = pool.book.tasks["a"]
    control.update(pool.book, first, control.terms_of(first), pump.now())
    # It cannot be shown before that is durable, which begins with the pool's next turn.
    request = task_service_pb2.ListTasksRequest(parent=POOL, filter="state=PENDING", page_size=2)
    listing = asyncio.ensure_future(stubs.tasks.ListTasks(request))
    await asyncio.sleep(0.2)
    assert not listing.done()
    pool.cancel(first, "", pump.now())
    pump.mark(pool)
    page = await listing
    assert [task.name for task in page.tasks] == [f"{POOL}/tasks/b"]
    request.page_token = page.next_page_token
    page = await stubs.tasks.ListTasks(request)
    assert [task.name for task in page.tasks] == [f"{POOL}/tasks/c"]


async def test_lists_are_filtered_and_paged(stubs: Any, rich: Any) -> None:
    for number in range(25):
        await stubs.submit(
            type="even" if number % 2 == 0 else "odd",
            task_id=f"t{number}",
            priority=number % 3,
            labels={"half": str(number // 13)},
            payload=b"x",
        )

    async def listed(filter_: str, page_size: int) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = await stubs.tasks.ListTasks(
                task_service_pb2.ListTasksRequest(
                    parent=POOL, filter=filter_, page_size=page_size, page_token=token
                )
            )
            assert len(page.tasks) <= page_size
            assert not any(task.payload for task in page.tasks)
            found.extend(task.name.rpartition("/")[2] for task in page.tasks)
            token = page.next_page_token
            if not token:
                return found

    assert await listed("", 7) == [f"t{number}" for number in range(25)]
    assert await listed("type=odd AND priority=0", 2) == ["t3", "t9", "t15", "t21"]
    assert await listed("label.half=1", 100) == [f"t{number}" for number in range(13, 25)]
    assert await listed("state=RUNNING", 100) == []
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await listed("color=red", 1)
    assert rich(refused.value).details["BadRequest"].field_violations[0].field == "filter"


async def test_validate_only_admits_nothing(stubs: Any, rich: Any) -> None:
    await stubs.submit(validate_only=True)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stubs.submit(validate_only=True, type="")
    assert rich(refused.value).reason == "INVALID_FIELD"
    pool = await stubs.pools.GetPool(pool_service_pb2.GetPoolRequest(name=POOL))
    assert pool.stats.pending == 0


async def test_a_failed_attempt_is_tried_again_then_dead_lettered(
    dispatcher: Any, stubs: Any
) -> None:
    policy = task_pb2.RetryPolicy(max_attempts=2, jitter=0)
    policy.initial_backoff.FromMilliseconds(20)
    task = await stubs.submit(retry_policy=policy)
    worker = await dispatcher.worker("pod-1")
    (first,) = await worker.assigned()
    await worker.fail(first)
    (second,) = await worker.assigned()
    assert (first.lease.attempt, second.lease.attempt) == (1, 2)
    assert second.lease.fencing_token > first.lease.fencing_token
    await worker.fail(second)
    done = await stubs.wait(task.name)
    assert done.state == _State.DEAD_LETTERED
    assert (done.attempt, done.error.message) == (2, "no good")


async def test_a_scheduled_task_waits_for_its_time(dispatcher: Any, stubs: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    now = await stubs.submit(task_id="now")
    (one,) = await worker.assigned()
    await worker.succeed(one)
    when = task_pb2.Task().schedule_time
    when.FromNanoseconds(now.create_time.ToNanoseconds() + 500_000_000)
    task = await stubs.submit(schedule_time=when)
    assert task.state == _State.DELAYED
    (later,) = await worker.assigned()
    assert later.task.name == task.name
    done = await stubs.get(task.name)
    assert done.start_time.ToNanoseconds() >= when.ToNanoseconds()


async def test_a_method_of_a_later_release_is_unimplemented(stubs: Any) -> None:
    later = stubs.channel.unary_unary("/penstock.v1.TaskService/CountTasks")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await later(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
