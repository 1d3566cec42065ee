"""WatchTasks over the wire: every change, in order; bounded; resumed."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from penstock.v1 import task_pb2, task_service_pb2
from penstock_dispatcher import limits

POOL = "namespaces/default/pools/demo"
_S = task_pb2.Task.State


class Watcher:
    """One stream."""

    def __init__(self, stubs: Any, **fields: Any) -> None:
        request = task_service_pb2.WatchTasksRequest(parent=POOL, **fields)
        self.call = stubs.tasks.WatchTasks(request)
        self.token = ""
        self.names: set[str] = set()

    async def open(self) -> "Watcher":
        async with asyncio.timeout(10):
            await self.call.initial_metadata()
        return self

    async def event(self) -> Any:
        async with asyncio.timeout(10):
            while True:
                found = await self.call.read()
                assert found is not grpc.aio.EOF
                self.token = found.resume_token
                if found.HasField("task"):
                    return found

    async def steps(self, count: int) -> list[tuple[str, int, int]]:
        """(id, state before, state) of the next changes."""
        found = [await self.event() for _ in range(count)]
        return [
            (each.task.name.rpartition("/")[2], each.previous_state, each.task.state)
            for each in found
        ]

    async def nothing(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await self.event()


async def refusal(watcher: Watcher, rich: Any) -> str:
    try:
        while True:
            watcher.names.add((await watcher.event()).task.name)
    except grpc.aio.AioRpcError as error:
        return str(rich(error).reason)


async def test_every_change_of_a_pool_in_order(dispatcher: Any, stubs: Any) -> None:
    await stubs.submit(task_id="before")
    watcher = await Watcher(stubs).open()
    await stubs.submit(task_id="a", payload=b"x", labels={"k": "v"})
    created = await watcher.event()
    assert (created.task.payload, dict(created.task.labels)) == (b"", {"k": "v"})
    assert created.previous_state == _S.STATE_UNSPECIFIED
    assert created.event_time.seconds > 0
    worker = await dispatcher.worker("pod-1", slots=2)
    before, one = await worker.assigned(2)
    running = [("before", _S.PENDING, _S.RUNNING), ("a", _S.PENDING, _S.RUNNING)]
    assert await watcher.steps(2) == running
    await worker.fail(before)
    await worker.succeed(one, result=b"y")
    assert await watcher.steps(2) == [
        ("before", _S.RUNNING, _S.DELAYED),
        ("a", _S.RUNNING, _S.SUCCEEDED),
    ]
    watcher.call.cancel()
    async with asyncio.timeout(10):
        while dispatcher.dispatcher.pump.watches:
            await asyncio.sleep(0.01)


async def test_named_tasks_are_shown_first_and_others_never(stubs: Any, rich: Any) -> None:
    names = [(await stubs.submit(task_id=each)).name for each in ("a", "b", "c")]
    watcher = await Watcher(stubs, names=names[:2]).open()
    unchanged = [(each, _S.STATE_UNSPECIFIED, _S.PENDING) for each in ("a", "b")]
    assert await watcher.steps(2) == unchanged
    for name in reversed(names):
        await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=name))
    assert [each[0] for each in await watcher.steps(2)] == ["b", "a"]
    await watcher.nothing()
    assert await refusal(Watcher(stubs, names=[f"{POOL}/tasks/none"]), rich) == "TASK_NOT_FOUND"


async def test_a_filter_is_tested_at_each_change(stubs: Any) -> None:
    watcher = await Watcher(stubs, filter="priority=7").open()
    await stubs.submit(task_id="low")
    await stubs.submit(task_id="high", priority=7)
    assert await watcher.steps(1) == [("high", _S.STATE_UNSPECIFIED, _S.PENDING)]


async def test_a_filter_goes_by_the_state_that_is_shown(dispatcher: Any, stubs: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=20)
    waits = await Watcher(stubs, filter="state=PENDING").open()
    runs = await Watcher(stubs, filter="state=RUNNING").open()
    for number in range(20):
        await stubs.submit(task_id=f"t{number}")
    await worker.succeed(*await worker.assigned(20))
    for watcher, before, state in (
        (waits, _S.STATE_UNSPECIFIED, _S.PENDING),
        (runs, _S.PENDING, _S.RUNNING),
    ):
        assert await watcher.steps(20) == [(f"t{number}", before, state) for number in range(20)]


async def test_who_does_not_read_is_cut_off_and_holds_up_nobody(
    dispatcher: Any, stubs: Any, rich: Any
) -> None:
    slow = await Watcher(dispatcher.stubs()).open()
    labels = {f"key-{number}": "v" * 200 for number in range(20)}
    single = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop", labels=labels))
    for _ in range(4):
        batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[single] * 500)
        await stubs.tasks.BatchSubmitTasks(batch)
    async with asyncio.timeout(10):
        while dispatcher.dispatcher.pump.watches:
            await asyncio.sleep(0.01)
    assert await refusal(slow, rich) == "WATCH_TOO_SLOW"
    again = await Watcher(stubs, resume_token=slow.token).open()
    while len(slow.names) < 2_000:
        slow.names.add((await again.event()).task.name)


async def test_it_is_resumed_from_the_last_event(dispatcher: Any, stubs: Any) -> None:
    for name in ("old", "seen"):
        await stubs.submit(task_id=name)
    watcher = await Watcher(stubs).open()
    await stubs.submit(task_id="first")
    await stubs.submit(task_id="second")
    await watcher.steps(2)
    watcher.call.cancel()
    await stubs.submit(task_id="missed")
    again = await Watcher(stubs, resume_token=watcher.token).open()
    await stubs.submit(task_id="live")
    shown = []
    while "live" not in shown:
        shown += [each[0] for each in await again.steps(1)]
    assert "missed" in shown
    assert not {"old", "seen"} & set(shown)
    await dispatcher.restart()
    last = await Watcher(dispatcher.stubs(), resume_token=again.token).open()
    everything = {each[0] for each in await last.steps(6)}
    assert everything == {"old", "seen", "first", "second", "missed", "live"}


async def test_what_started_meanwhile_is_shown(dispatcher: Any, stubs: Any) -> None:
    await stubs.submit(task_id="a")
    start = Watcher(stubs)
    start.token = (await start.call.read()).resume_token
    start.call.cancel()
    worker = await dispatcher.worker("pod-1")
    await worker.assigned(1)
    again = await Watcher(stubs, resume_token=start.token).open()
    assert await again.steps(1) == [("a", _S.STATE_UNSPECIFIED, _S.RUNNING)]


async def test_it_catches_up_while_the_pool_goes_on(dispatcher: Any, stubs: Any) -> None:
    start = Watcher(stubs)
    start.token = (await start.call.read()).resume_token
    labels = {f"key-{number}": "v" * 200 for number in range(20)}
    single = task_service_pb2.SubmitTaskRequest(task=task_pb2.Task(type="noop", labels=labels))
    for _ in range(4):
        batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=[single] * 500)
        await stubs.tasks.BatchSubmitTasks(batch)
    again = await Watcher(dispatcher.stubs(), resume_token=start.token).open()
    start.call.cancel()
    everything = task_service_pb2.BatchCancelTasksRequest(parent=POOL, filter="*")
    assert (await stubs.tasks.BatchCancelTasks(everything)).cancelled_count == 2_000
    shown: dict[str, int] = {}
    while sum(state == _S.CANCELLED for state in shown.values()) < 2_000:
        event = await again.event()
        shown[event.task.name] = event.task.state
    async with asyncio.timeout(10):
        assert not (await again.call.read()).HasField("task")


async def test_it_is_resumed_while_one_of_its_tasks_is_there(stubs: Any, rich: Any) -> None:
    names = [(await stubs.submit(task_id=each)).name for each in ("a", "b")]
    watcher = await Watcher(stubs, names=names).open()
    await watcher.steps(2)
    for name in names:
        await stubs.tasks.CancelTask(task_service_pb2.CancelTaskRequest(name=name))
    await stubs.tasks.DeleteTask(task_service_pb2.DeleteTaskRequest(name=names[0]))
    again = await Watcher(stubs, names=names, resume_token=watcher.token).open()
    assert await again.steps(1) == [("b", _S.STATE_UNSPECIFIED, _S.CANCELLED)]
    await stubs.submit(task_id="other")
    await again.nothing()
    await stubs.tasks.DeleteTask(task_service_pb2.DeleteTaskRequest(name=names[1]))
    last = Watcher(stubs, names=names, resume_token=watcher.token)
    assert await refusal(last, rich) == "TASK_NOT_FOUND"


async def test_bounds_and_ends(
    dispatcher: Any, stubs: Any, rich: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await refusal(Watcher(stubs, resume_token="x"), rich) == "INVALID_FIELD"
    assert await refusal(Watcher(stubs, filter="x"), rich) == "INVALID_FIELD"
    one = limits.LIMITS["WatchTasks"]._replace(per_caller=1)
    monkeypatch.setitem(limits.LIMITS, "WatchTasks", one)
    watcher = await Watcher(stubs).open()
    assert await refusal(Watcher(stubs), rich) == "TOO_MANY_STREAMS"
    stopping = asyncio.ensure_future(dispatcher.stop())
    assert await refusal(watcher, rich) == "NOT_LEADER"
    await stopping
    await dispatcher.start()
