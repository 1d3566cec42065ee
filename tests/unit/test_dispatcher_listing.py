"""Pages of a long list: each looks at its own part only."""

import asyncio
import itertools
import types
from typing import Any

from penstock_dispatcher.services import listing


class Book(dict[str, Any]):
    """Tasks by id in the order of admission, as a ledger has them; counts look-ups."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.looked = 0
        self._sequences = itertools.count(1)
        for number in range(count):
            self.admit(f"t{number}")

    def admit(self, task_id: str) -> None:
        self[task_id] = types.SimpleNamespace(id=task_id, sequence=next(self._sequences))

    def get(self, key: str, default: Any = None) -> Any:
        self.looked += 1
        return super().get(key, default)


async def ids(order: listing.Order, book: Book, sequence: int = 0, size: int = 100) -> list[str]:
    found, _ = await order.page(book, sequence, matches=lambda _: True, size=size)
    return [task.id for task in found]


async def test_an_order_follows_its_ledger() -> None:
    order, book = listing.Order(), Book(6)
    assert await ids(order, book) == [f"t{number}" for number in range(6)]
    book.pop("t0")
    book.pop("t3")
    book.admit("t6")
    book.admit("t3")  # the same id, another task, at the end
    assert await ids(order, book) == ["t1", "t2", "t4", "t5", "t6", "t3"]
    assert await ids(order, book, book["t5"].sequence) == ["t5", "t6", "t3"]
    assert await ids(order, book, 10**15) == []
    for task_id in list(book):
        book.pop(task_id)
    assert await ids(order, book) == []


async def test_a_page_looks_at_its_own_part_only() -> None:
    order, book = listing.Order(), Book(20_000)
    await ids(order, book)
    book.looked = 0
    assert await ids(order, book, book["t19000"].sequence, size=3) == ["t19000", "t19001", "t19002"]
    assert book.looked <= listing.STEP_TASKS


async def test_a_page_that_finds_nothing_says_where_the_next_begins() -> None:
    order, book = listing.Order(), Book(listing.LOOKED_AT_MAX + 7)
    found, following = await order.page(book, 0, matches=lambda _: False, size=5)
    assert found == []
    assert following is not None
    assert following.sequence == listing.LOOKED_AT_MAX + 1
    rest = await order.page(book, following.sequence, matches=lambda _: False, size=5)
    assert rest == ([], None)


async def test_pages_go_on_while_others_catch_up_and_tasks_go() -> None:
    order, book = listing.Order(), Book(5 * listing.CAUGHT_UP_TASKS)

    async def walk() -> list[str]:
        seen: list[str] = []
        start = 0
        while True:
            found, following = await order.page(book, start, matches=lambda _: True, size=700)
            seen += [task.id for task in found]
            if following is None:
                return seen
            start = following.sequence

    async def lose() -> None:
        for number in range(1, 5 * listing.CAUGHT_UP_TASKS, 2):
            book.pop(f"t{number}")
            if number % 1_001 == 0:
                await asyncio.sleep(0)

    first, second, _ = await asyncio.gather(walk(), walk(), lose())
    stays = {f"t{number}" for number in range(0, 5 * listing.CAUGHT_UP_TASKS, 2)}
    for seen in (first, second):
        assert len(set(seen)) == len(seen)
        assert stays <= set(seen)
    assert await walk() == list(book)


async def test_deleted_tasks_do_not_pile_up() -> None:
    order, book = listing.Order(), Book(4 * listing.STALE_MAX)
    assert await ids(order, book)
    for number in range(4 * listing.STALE_MAX - 1):
        book.pop(f"t{number}")
    assert await ids(order, book) == [f"t{4 * listing.STALE_MAX - 1}"]
    assert len(order._ids) == 1
