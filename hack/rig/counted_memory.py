"""What the tasks of a pool take of the memory, counted anew, task by task."""

from penstock_dispatcher.core import budget, ledger
from penstock_dispatcher.core import task as tasks


def check(book: ledger.Ledger) -> None:
    """The pool's share is the sum over its tasks and over what is remembered of those of before."""
    used = results = dead = 0
    for task in book.tasks.values():
        used += task.charged
        may_go = task.charged - (budget.REQUEST_BYTES if task.request_id else 0)
        if task.state is tasks.TaskState.DEAD_LETTERED:
            dead += may_go
        elif task.terminal:
            results += may_go
        # What an attempt tells of itself is charged when it ends.
        assert task.lease or task.charged == budget.bytes_of(task), "each byte is charged once"
    own = sum(bool(task.request_id) for task in book.tasks.values())
    requests = book.memory.requests
    assert requests <= len(book.requests) <= requests + own, "who is remembered is counted"
    used += requests * budget.REQUEST_BYTES + book.memory.structures
    assert book.memory.used == used, "memory is counted"
    assert book.memory.results == results, "what may go is counted"
    assert book.memory.dead_letters == dead, "dead letters are counted"


def check_all(memory: budget.Budget, books: list[ledger.Ledger]) -> None:
    """So is what the pools take together; results go before anything is beyond the limit."""
    for book in books:
        check(book)
    assert memory.used == sum(book.memory.used for book in books), "memory is counted"
    assert memory.results == sum(book.memory.results for book in books), "what may go is counted"
    assert memory.requests == sum(book.memory.requests for book in books), "who is remembered"
    dead = sum(book.memory.dead_letters for book in books)
    assert memory.dead_letters == dead <= memory.limit // budget.DEAD_LETTERS_PART, (
        "they have a part"
    )
    assert memory.used <= memory.limit or not memory.results, "results go first"
