"""What the comments of the task's messages promise, field by field, where no other test has its own
story for it. Which field is shown where stands in tests/unit/test_repository_fields.py.
"""

import asyncio
import re
import time
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import task_pb2, task_service_pb2, worker_service_pb2

POOL = "namespaces/default/pools/demo"
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_S = task_pb2.Task


@pytest.fixture
def pools(make_pool: Any) -> list[Any]:
    policy = task_pb2.RetryPolicy(
        max_attempts=3, backoff_multiplier=40, jitter=0, non_retryable_reasons=["Hopeless"]
    )
    policy.initial_backoff.FromMilliseconds(100)
    policy.max_backoff.FromMilliseconds(10_000)
    return [make_pool(default_priority=5, retry_policy=policy, execution_timeout=100)]


def policy(**fields: Any) -> Any:
    """A RetryPolicy; durations in milliseconds."""
    made = task_pb2.RetryPolicy()
    for name, value in fields.items():
        if name.endswith("backoff"):
            getattr(made, name).FromMilliseconds(value)
        elif isinstance(value, list):
            getattr(made, name).extend(value)
        else:
            setattr(made, name, value)
    return made


async def attempts(
    dispatcher: Any, stubs: Any, reason: str, **fields: Any
) -> tuple[Any, list[float]]:
    """Fail a task until it is over: the task, and the seconds before each further attempt."""
    task = await stubs.submit(**fields)
    waits: list[float] = []
    done = asyncio.ensure_future(stubs.wait(task.name))
    worker = await dispatcher.worker(f"pod-{task.uid}")
    (one,) = await worker.assigned()
    while True:
        began = time.monotonic()
        await worker.fail(one, reason=reason)
        again = asyncio.ensure_future(worker.assigned())
        await asyncio.wait((again, done), return_when=asyncio.FIRST_COMPLETED)
        if not again.done():
            again.cancel()  # and with it the worker's stream
            return await done, waits
        (one,) = again.result()
        waits.append(time.monotonic() - began)


# ------------------------------------------------------------ what is submitted


async def test_what_the_dispatcher_writes_is_ignored_in_a_submission(stubs: Any) -> None:
    wrong = {
        "name": "namespaces/x/pools/y/tasks/z",
        "uid": "mine",
        "state": _S.SUCCEEDED,
        "create_time": {"seconds": 5},
        "start_time": {"seconds": 5},
        "end_time": {"seconds": 5},
        "attempt": 7,
        "worker_losses": 7,
        "worker": "mine",
        "progress": {"fraction": 0.5, "message": "half"},
        "error": {"code": 3},
        "result": b"mine",
        "etag": "mine",
        "queue_position": 7,
        "estimated_wait": {"seconds": 7},
        "result_content_type": "x/mine",
        "execution_time": {"seconds": 7},
    }
    told = await stubs.submit(payload=b"p", **wrong)
    task = await stubs.get(told.name)
    told.payload, told.etag = task.payload, task.etag  # which an answer does without
    told.queue_position = task.queue_position
    assert told == task
    assert task.state == _S.PENDING
    assert abs(task.create_time.seconds - time.time()) < 60
    assert (task.attempt, task.worker_losses, task.worker) == (0, 0, "")
    for name in ("start_time", "end_time", "error", "progress", "execution_time"):
        assert not task.HasField(name), name
    assert (task.result, task.result_content_type, task.payload) == (b"", "", b"p")
    assert task.estimated_wait.seconds != 7
    assert task.queue_position != 7
    assert task.name.startswith(f"{POOL}/tasks/")
    assert "mine" not in (task.uid, task.etag)


async def test_names_and_uids_are_chosen_and_unique(stubs: Any) -> None:
    made = [await stubs.submit() for _ in range(20)]
    ids = [task.name.removeprefix(f"{POOL}/tasks/") for task in made]
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{0,62}", one) for one in ids)
    assert len(set(ids)) == len({task.uid for task in made}) == 20
    assert (await stubs.submit(task_id="a-1")).name == f"{POOL}/tasks/a-1"


async def test_what_the_dispatcher_does_not_read_reaches_worker_and_reader(
    dispatcher: Any, stubs: Any
) -> None:
    given = {
        "type": "resize",
        "payload": bytes(range(256)),
        "content_type": "image/png",
        "labels": {"a": "b", "c": ""},
        "trace_context": {"traceparent": "00-1-2-01", "tracestate": "x=y"},
    }
    task = await stubs.submit(**given)
    (one,) = await (await dispatcher.worker("pod-1")).assigned()
    for shown in (one.task, await stubs.get(task.name)):
        for field, value in given.items():
            found = getattr(shown, field)
            assert (dict(found) if isinstance(value, dict) else found) == value


async def test_any_priority_counts_and_unset_is_the_pools(dispatcher: Any, stubs: Any) -> None:
    for name, fields in {
        "lowest": {"priority": INT32_MIN},
        "zero": {"priority": 0},
        "unset": {},
        "six": {"priority": 6},
        "highest": {"priority": INT32_MAX},
    }.items():
        await stubs.submit(task_id=name, **fields)
    assert (await stubs.get(f"{POOL}/tasks/unset")).priority == 5
    assert (await stubs.get(f"{POOL}/tasks/zero")).priority == 0
    got = await (await dispatcher.worker("pod-1", slots=5)).assigned(5)
    order = [one.task.name.rpartition("/")[2] for one in got]
    assert order == ["highest", "six", "unset", "zero", "lowest"]


async def test_a_task_that_does_not_start_in_time_expires(dispatcher: Any, stubs: Any) -> None:
    soon = task_pb2.Task().expire_time
    soon.FromNanoseconds(time.time_ns() + 200_000_000)
    late = await stubs.submit(expire_time=soon)
    assert late.expire_time == soon
    done = await stubs.wait(late.name)
    assert (done.state, done.attempt) == (_S.EXPIRED, 0)
    assert done.end_time.ToNanoseconds() >= soon.ToNanoseconds()
    await (await dispatcher.worker("pod-1")).nothing()


async def test_to_have_started_in_time_is_enough(dispatcher: Any, stubs: Any) -> None:
    """Neither what runs nor what is tried again expires."""
    worker = await dispatcher.worker("pod-1")
    soon = task_pb2.Task().expire_time
    soon.FromNanoseconds(time.time_ns() + 2_000_000_000)
    task = await stubs.submit(expire_time=soon)
    (one,) = await worker.assigned()
    while time.time_ns() <= soon.ToNanoseconds():
        await asyncio.sleep(0.05)
    await worker.fail(one)
    (again,) = await worker.assigned()
    await worker.succeed(again)
    assert (await stubs.wait(task.name)).state == _S.SUCCEEDED


async def test_an_execution_time_out_of_its_own_or_the_pools(dispatcher: Any, stubs: Any) -> None:
    own = await stubs.submit(execution_timeout={"seconds": 7})
    pools = await stubs.submit()
    worker = await dispatcher.worker("pod-1", slots=2)
    deadlines = {one.task.name: one.deadline for one in await worker.assigned(2)}
    for task, seconds in ((own, 7), (pools, 100)):
        started = (await stubs.get(task.name)).start_time.ToNanoseconds()
        assert deadlines[task.name].ToNanoseconds() - started == seconds * 10**9


# ------------------------------------------------------------ retries


async def test_unset_fields_of_a_policy_are_the_pools(dispatcher: Any, stubs: Any) -> None:
    done, waits = await attempts(
        dispatcher, stubs, "ValueError", retry_policy=policy(max_backoff=150)
    )
    assert (done.state, done.attempt) == (_S.DEAD_LETTERED, 3)
    # 100 ms as the pool says, then 40 times that, cut to its own longest.
    assert waits[0] >= 0.1
    assert 0.15 <= waits[1] < 3.5
    hopeless, waits = await attempts(dispatcher, stubs, "Hopeless", retry_policy=policy(jitter=0))
    assert (hopeless.state, hopeless.attempt, waits) == (_S.DEAD_LETTERED, 1, [])


async def test_a_policy_of_its_own(dispatcher: Any, stubs: Any) -> None:
    own = policy(
        max_attempts=4,
        initial_backoff=20,
        max_backoff=10_000,
        backoff_multiplier=10,
        non_retryable_reasons=["Broken"],
    )
    done, waits = await attempts(dispatcher, stubs, "Hopeless", retry_policy=own)
    assert (done.state, done.attempt) == (_S.DEAD_LETTERED, 4)
    assert all(wait >= least for wait, least in zip(waits, (0.02, 0.2, 2.0), strict=True)), waits
    broken, waits = await attempts(dispatcher, stubs, "Broken", retry_policy=own)
    assert (broken.state, broken.attempt, waits) == (_S.DEAD_LETTERED, 1, [])


async def test_one_attempt_leaves_no_dead_letter(dispatcher: Any, stubs: Any) -> None:
    done, _ = await attempts(dispatcher, stubs, "ValueError", retry_policy=policy(max_attempts=1))
    assert (done.state, done.attempt, done.error.message) == (_S.FAILED, 1, "no good")


async def test_jitter_is_the_share_that_is_drawn(dispatcher: Any, stubs: Any) -> None:
    """Of two seconds each: all of it apart, and none of it together."""
    worker = await dispatcher.worker("pod-1", slots=20)
    for jitter in (1.0, 0.0):
        own = policy(initial_backoff=2000, max_backoff=2000, jitter=jitter)
        for _ in range(20):
            await stubs.submit(retry_policy=own)
        began = time.monotonic()
        for one in await worker.assigned(20):
            await worker.fail(one)
        back: list[Any] = []
        while not back:
            back.extend((await worker.read()).assignments.assignments)
        took = time.monotonic() - began
        # The odds that twenty draws leave more than 1.6 s each are 1 to 10^14.
        assert took < 1.6 if jitter else took >= 2.0
        while len(back) < 20:
            back.extend((await worker.read()).assignments.assignments)
        await worker.succeed(*back)


# ------------------------------------------------------------ what is shown


async def test_an_etag_changes_with_its_task(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    seen = [(await stubs.get(task.name)).etag for _ in range(2)]
    assert seen[0] == seen[1]
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    seen.append((await stubs.get(task.name)).etag)
    await worker.fail(one)
    (one,) = await worker.assigned()
    seen.append((await stubs.get(task.name)).etag)
    await worker.succeed(one)
    seen.append((await stubs.wait(task.name)).etag)
    assert len(set(seen)) == 4


async def test_the_last_failure_is_shown_until_a_success(dispatcher: Any, stubs: Any) -> None:
    task = await stubs.submit()
    worker = await dispatcher.worker("pod-1")
    (one,) = await worker.assigned()
    await worker.fail(one, reason="First")
    (one,) = await worker.assigned()
    assert (await stubs.get(task.name)).error.message == "no good"
    await worker.succeed(one, result=b"r")
    done = await stubs.wait(task.name)
    assert not done.HasField("error")
    listed = await stubs.tasks.ListTasks(task_service_pb2.ListTasksRequest(parent=POOL))
    assert [(one.name, one.result) for one in listed.tasks] == [(task.name, b"")]


# ------------------------------------------------------------ requests


async def test_pages_have_a_default_a_most_and_a_total(stubs: Any) -> None:
    single = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop"))
    # Each names the pool, so that the batch need not.
    named = task_service_pb2.SubmitTaskRequest(parent=POOL, task=task_pb2.Task(type="noop"))
    for requests in ([single] * 1000, [named] * 50):
        parent = "" if requests[0].parent else POOL
        batch = task_service_pb2.BatchSubmitTasksRequest(parent=parent, requests=requests)
        answer = await stubs.tasks.BatchSubmitTasks(batch)
        assert all(one.HasField("response") for one in answer.outcomes)
    for size, shown in ((0, 100), (7, 7), (1000, 1000), (5000, 1000)):
        request = task_service_pb2.ListTasksRequest(parent=POOL, page_size=size)
        page = await stubs.tasks.ListTasks(request)
        assert (len(page.tasks), page.total_size) == (shown, 1050)


async def test_a_batch_is_for_one_pool(stubs: Any, rich: Any) -> None:
    other = task_service_pb2.SubmitTaskRequest(
        parent="namespaces/default/pools/other", task=task_pb2.Task(type="noop")
    )
    batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[other])
    (outcome,) = (await stubs.tasks.BatchSubmitTasks(batch)).outcomes
    error = rich(outcome.error)
    assert error.details["BadRequest"].field_violations[0].field == "parent"


async def test_to_wait_without_a_time_out_is_until_the_calls_deadline(stubs: Any) -> None:
    task = await stubs.submit()
    request = task_service_pb2.WaitTaskRequest(name=task.name)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.tasks.WaitTask(request, timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = asyncio.ensure_future(stubs.tasks.WaitTask(request, timeout=10))
    await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=task.name))
    assert (await waiting).state == _S.CANCELLED


async def test_a_worker_that_asks_for_a_delay_gets_it(dispatcher: Any, stubs: Any) -> None:
    worker = await dispatcher.worker("pod-1")
    await stubs.submit(retry_policy=policy(max_backoff=10_000))
    (one,) = await worker.assigned()
    delay = worker_service_pb2.TaskOutcome.Failed().retry_delay
    delay.FromMilliseconds(600)
    began = time.monotonic()
    await worker.fail(one, retry_delay=delay)
    await worker.assigned()
    assert 0.6 <= time.monotonic() - began < 5
