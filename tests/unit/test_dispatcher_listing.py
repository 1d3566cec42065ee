"""Pages of a long list: each looks at its own part only."""

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


def ids(order: listing.Order, book: Book, sequence: int = 0) -> list[str]:
    return [task.id for task in order.since(sequence, book)]


def test_an_order_follows_its_ledger() -> None:
    order, book = listing.Order(), Book(6)
    assert ids(order, book) == [f"t{number}" for number in range(6)]
    book.pop("t0")
    book.pop("t3")
    book.admit("t6")
    book.admit("t3")  # the same id, another task, at the end
    assert ids(order, book) == ["t1", "t2", "t4", "t5", "t6", "t3"]
    assert ids(order, book, book["t5"].sequence) == ["t5", "t6", "t3"]
    assert ids(order, book, 10**30) == []
    for task_id in list(book):
        book.pop(task_id)
    assert ids(order, book) == []


def test_a_page_looks_at_its_own_part_only() -> None:
    order, book = listing.Order(), Book(20_000)
    list(order.since(0, book))
    book.looked = 0
    page = order.since(book["t19000"].sequence, book)
    assert next(page).id == "t19000"
    assert book.looked < 10


def test_deleted_tasks_do_not_pile_up() -> None:
    order, book = listing.Order(), Book(4 * listing.STALE_MAX)
    assert ids(order, book)
    for number in range(4 * listing.STALE_MAX - 1):
        book.pop(f"t{number}")
    assert ids(order, book) == [f"t{4 * listing.STALE_MAX - 1}"]
    assert len(order._ids) == 1
