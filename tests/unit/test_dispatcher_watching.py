"""What a watch looks at before it shows the first changes."""

import asyncio
import gc
from typing import Any

from penstock_dispatcher import resuming
from penstock_dispatcher.services import listing, watching
from rig import pool_bench

TASKS = 5 * listing.STEP_TASKS
EVERY = {"after": -1, "last": resuming.EVERY}


class Book(dict[str, Any]):
    """Counts look-ups, and walks over everything."""

    looked = walks = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looked += 1
        return super().get(key, default)

    def values(self) -> Any:
        self.walks += 1
        return super().values()


def bench() -> tuple[pool_bench.Bench, Book]:
    made = pool_bench.Bench(max_pending=2 * TASKS, max_pending_bytes=2 * TASKS)
    for number in range(TASKS):
        made.submit(f"t{number}")
    made.effects()
    made.pool.book.tasks = book = Book(made.pool.book.tasks)
    return made, book


def no_order(_: object) -> listing.Order:
    raise AssertionError("named tasks need none")


async def test_named_tasks_are_looked_up() -> None:
    made, book = bench()
    names = ["t7", "gone", "t9"]
    seen = [task.id async for task in watching.looked_at(made.pool, names, no_order, **EVERY)]
    assert seen == ["t7", "t9"]
    assert (book.looked, book.walks) == (2, 0)


async def test_a_pool_is_walked_in_parts_and_others_have_their_turn() -> None:
    made, book = bench()
    order = listing.Order()
    most, done = 0, asyncio.Event()

    async def others() -> None:
        nonlocal most
        while not done.is_set():
            before = book.looked
            await asyncio.sleep(0)
            most = max(most, book.looked - before)

    turns = asyncio.ensure_future(others())
    await asyncio.sleep(0)
    seen = [task.id async for task in watching.looked_at(made.pool, [], lambda _: order, **EVERY)]
    done.set()
    await turns
    assert seen == [f"t{number}" for number in range(TASKS)]
    assert book.looked == TASKS
    assert most <= listing.STEP_TASKS


async def test_what_comes_and_goes_meanwhile_is_not_looked_at() -> None:
    made, book = bench()
    order = listing.Order()
    walk = watching.looked_at(made.pool, [], lambda _: order, after=-1, last=TASKS)
    assert (await anext(walk)).id == "t0"
    made.pool.cancel(book["t1"], "", made.now)
    deleted = book.pop("t1")
    for again in ("new", "t1"):
        made.submit(again)
    made.effects()
    # The test, and the backlog's dead entry: a walk that waits for its reader holds nothing.
    held = [each for each in gc.get_referrers(deleted) if isinstance(each, list)]
    assert not any(len(each) >= listing.STEP_TASKS - 1 for each in held)
    assert [task.id async for task in walk] == [f"t{number}" for number in range(2, TASKS)]
