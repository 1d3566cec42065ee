"""Both clients change what waits, and act on many tasks at once."""

import asyncio
import datetime as dt
import threading
from typing import Any

import pytest

import penstock
from penstock import _control, errors

State = penstock.TaskState


async def test_update_keep_clear_and_etag(dispatcher: Any) -> None:
    later = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(hours=1)
    async with penstock.Client(dispatcher.address, pool="demo", timeout=10) as client:
        task = await client.get(await client.submit("echo", priority=3))
        changed = await client.update(task, schedule_time=later, etag=task.etag)
        assert (changed.state, changed.schedule_time) == (State.DELAYED, later)
        assert changed.priority == 3
        with pytest.raises(errors.EtagMismatch):
            await client.update(task, priority=1, etag=task.etag)
        changed = await client.update(task.id, priority=None, schedule_time=None)
        assert (changed.state, changed.schedule_time) == (State.PENDING, None)
        assert changed.priority == 0
        assert changed.queue_position == 0
        with pytest.raises(ValueError, match="nothing is to be changed"):
            await client.update(task)
        with pytest.raises(ValueError, match="time zone"):
            await client.update(task, expire_time=dt.datetime(2040, 1, 1))  # noqa: DTZ001
        await client.cancel(task)
        with pytest.raises(errors.WrongTaskState):
            await client.update(task, priority=1)


async def test_many_are_counted_cancelled_and_queued_again(dispatcher: Any) -> None:
    worker = await dispatcher.worker("pod-1", slots=3)

    def control() -> None:
        with penstock.SyncClient(dispatcher.address, pool="demo", timeout=10) as client:
            made = [client.submit("echo", labels={"team": f"{n % 2}"}) for n in range(6)]
            seen = client.cancel_many(labels={"team": "1"}, preview=True)
            assert (seen.count, seen.done) == (3, False)
            assert seen.sample == tuple(task.name for task in made[1::2])
            found = client.cancel_many(labels={"team": "1"})
            assert (found.count, found.done) == (3, True)
            assert client.cancel_many([made[0], made[2].id]).count == 2
            assert client.cancel_many(query="state=PENDING", task_type="nope").count == 0
            assert client.cancel_many(query="*").count == 1
            for bad in ({}, {"tasks": made, "query": "*"}):
                with pytest.raises(ValueError, match="not both"):
                    client.cancel_many(**bad)
            assert client.retry_many(query="*").count == 0
            dead = [client.submit("die") for _ in range(3)]
            submitted.set()
            for task in dead:
                client.wait(task, timeout=20)
            assert client.retry_many(state=State.DEAD_LETTERED, preview=True).count == 3
            assert client.retry_many(dead[:2]).count == 2
            assert client.retry_many(query="*").count == 1
            assert client.get(dead[0]).state in (State.PENDING, State.RUNNING)

    submitted = threading.Event()
    async with penstock.Client(dispatcher.address, pool="demo", timeout=10) as client:
        await client.pause()
        controlling = asyncio.ensure_future(asyncio.to_thread(control))
        assert await asyncio.to_thread(submitted.wait, 20)
        await client.resume()
    for one in await worker.assigned(3):
        await worker.fail(one, retryable=False)
    await controlling


def test_names_travel_by_pool_and_in_parts() -> None:
    names = [f"namespaces/n/pools/{n % 2}/tasks/t{n}" for n in range(2_500)]
    chosen = _control.named(names)
    assert [(each.parent[-1], len(each.names)) for each in chosen] == [
        ("0", 1_000),
        ("0", 250),
        ("1", 1_000),
        ("1", 250),
    ]
    assert sorted(name for each in chosen for name in each.names) == sorted(names)
