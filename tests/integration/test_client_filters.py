"""Every verb that takes a filter means exactly the tasks whose labels are said, whatever they are:
what is found may be deleted.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

import penstock
from penstock import errors

VALUES = ("x", '"x"', " x ", "a", "b", "a AND b", 'a" AND type="odd', "\\", '\\"', "x\\", "")
Labels = dict[str, str]


@pytest_asyncio.fixture
async def client(dispatcher: Any) -> AsyncIterator[penstock.Client]:
    async with penstock.Client(dispatcher.address, pool="demo", timeout=10) as made:
        yield made


@pytest_asyncio.fixture
async def tasks(client: penstock.Client) -> list[tuple[Labels, str]]:
    """One for each value, and one whose label's key has to be quoted."""
    labels = [{"k": value} for value in VALUES]
    labels += [{"k=y": "v"}, {"k AND type": "v"}, {"k": "y=v"}]
    return [(each, (await client.submit("odd", labels=each)).name) for each in labels]


async def listed(client: penstock.Client, labels: Labels) -> list[str]:
    return [task.name async for task in client.list(labels=labels)]


async def cancelled(client: penstock.Client, labels: Labels) -> list[str]:
    return list((await client.cancel_many(labels=labels)).sample)


async def retried(client: penstock.Client, labels: Labels) -> list[str]:
    return list((await client.retry_many(labels=labels)).sample)


async def purged(client: penstock.Client, labels: Labels) -> list[str]:
    return list((await client.purge(labels=labels, force=True)).sample)


@pytest.mark.parametrize("verb", [listed, cancelled, purged])
async def test_labels_are_meant_as_they_are(
    client: penstock.Client,
    tasks: list[tuple[Labels, str]],
    verb: Callable[[penstock.Client, Labels], Awaitable[list[str]]],
) -> None:
    for labels, name in tasks:
        assert await verb(client, labels) == [name], labels


async def test_failed_tasks_are_meant_as_they_are(
    dispatcher: Any, client: penstock.Client, tasks: list[tuple[Labels, str]]
) -> None:
    worker = await dispatcher.worker("pod-1", slots=len(tasks))
    for assignment in await worker.assigned(len(tasks)):
        await worker.fail(assignment, retryable=False)
    for _, name in tasks:
        await client.wait(name, timeout=10)
    for labels, name in tasks:
        assert await retried(client, labels) == [name], labels


async def test_types_are_meant_as_they_are(client: penstock.Client) -> None:
    types = ["t", '"t"', " t ", "t AND priority=0"]
    names = [(await client.submit(type_)).name for type_ in types]
    for type_, name in zip(types, names, strict=True):
        assert [task.name async for task in client.list(task_type=type_)] == [name]


async def test_a_query_in_words_is_refused_where_it_could_be_meant_otherwise(
    client: penstock.Client, tasks: list[tuple[Labels, str]]
) -> None:
    for query in ('label.k=x"', "label.k=x ", "label.k= x"):
        with pytest.raises(errors.InvalidField, match="quote it"):
            await client.cancel_many(query=query)
    found = await client.cancel_many(query='label.k="\\"x\\""', preview=True)
    assert list(found.sample) == [tasks[1][1]]
