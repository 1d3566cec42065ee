"""Filters and pages for lists of tasks and workers.

A page looks at a bounded number of entries, so that a list over a million tasks never holds the
loop: a page may be short, or empty, while `next_page_token` says that there is more. It is bounded
in bytes, too (`fitting`), and so small that clients with gRPC's defaults can read it.
"""

import array
import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from google.protobuf import message

from penstock.v1 import task_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.core import task as tasks

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000
LOOKED_AT_MAX: Final = 20_000
STALE_MAX: Final = 1_024
"""Deleted tasks that an order may hold beside as many as there are tasks."""
PAGE_BYTES_MAX: Final = 2 * 1024 * 1024
"""An entry that passes it begins the next page, unless it is the only one."""
FILTER_TERMS_MAX: Final = 16

_T = TypeVar("_T")
_M = TypeVar("_M", bound=message.Message)
_Test = Callable[[tasks.Task], bool]


def page_size(wanted: int) -> int:
    """Entries in a page. Raises Refusal."""
    if wanted < 0:
        raise errors.invalid("page_size", "must not be negative")
    return min(wanted or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def position(page_token: str) -> int:
    """Where the page begins: a number that `next_page_token` gave. Raises Refusal."""
    if not page_token:
        return 0
    try:
        return int(page_token, 16)
    except ValueError:
        raise errors.invalid("page_token", "must come from the page before") from None


class Order:
    """A pool's tasks by admission: a page finds its place without looking at those before it.

    It catches up with the ledger at each call, and costs nothing for pools that nobody lists. Tasks
    that were deleted meanwhile are passed over, and dropped when they are the larger half.
    """

    def __init__(self) -> None:
        self._sequences = array.array("q")
        self._ids: list[str] = []
        self._first = 0
        """Everything before it is deleted: retention ends in the order of arrival, more or less."""

    def since(self, sequence: int, by_id: dict[str, tasks.Task]) -> Iterator[tasks.Task]:
        """Tasks from that sequence on; `by_id` is the ledger's, in the order of admission."""
        self._catch_up(by_id)
        begin = max(self._first, bisect.bisect_left(self._sequences, sequence))
        for index in range(begin, len(self._ids)):
            task = self._at(index, by_id)
            if task is not None:
                yield task

    def _at(self, index: int, by_id: dict[str, tasks.Task]) -> tasks.Task | None:
        task = by_id.get(self._ids[index])
        # Another task may have the id of one that was deleted.
        return task if task is not None and task.sequence == self._sequences[index] else None

    def _catch_up(self, by_id: dict[str, tasks.Task]) -> None:
        if len(self._ids) > 2 * len(by_id) + STALE_MAX:
            self._sequences, self._ids, self._first = array.array("q"), [], 0
        last = self._sequences[-1] if self._sequences else -1
        newest_first = reversed(by_id.values())
        newer = list(itertools.takewhile(lambda task: task.sequence > last, newest_first))
        newer.reverse()
        self._sequences.extend(task.sequence for task in newer)
        self._ids.extend(task.id for task in newer)
        while self._first < len(self._ids) and self._at(self._first, by_id) is None:
            self._first += 1


def page(
    entries: Iterable[_T], *, matches: Callable[[_T], bool], size: int
) -> tuple[list[_T], _T | None]:
    """The matching ones of `entries`, and the first entry that the next page begins with."""
    found: list[_T] = []
    looked: Iterator[_T] = iter(entries)
    for entry in itertools.islice(looked, LOOKED_AT_MAX):
        if matches(entry):
            if len(found) == size:
                return found, entry
            found.append(entry)
    return found, next(looked, None)


def fitting(entries: Iterable[_T], view: Callable[[_T], _M]) -> list[_M]:
    """Views of as many entries as fit a page, from the first one on."""
    shown: list[_M] = []
    left = PAGE_BYTES_MAX
    for entry in entries:
        made = view(entry)
        left -= made.ByteSize()
        if left < 0 and shown:
            break
        shown.append(made)
    return shown


def task_filter(text: str) -> _Test:
    """`state=PENDING AND type=NAME AND priority=N AND label.KEY=VALUE`; empty = all."""
    if not text.strip():
        return lambda _: True
    terms = [term.strip() for term in text.split(" AND ")]
    if len(terms) > FILTER_TERMS_MAX:
        raise errors.invalid("filter", f"must have at most {FILTER_TERMS_MAX} terms")
    tests = [_test(term) for term in terms]
    return lambda task: all(test(task) for test in tests)


def _test(term: str) -> _Test:
    key, equals, value = term.partition("=")
    key, value = key.strip(), value.strip().strip('"')
    if not equals:
        raise errors.invalid("filter", f"has a term without '=': {term[:100]!r}")
    if key == "state":
        try:
            state = tasks.TaskState[value]
        except KeyError:
            raise errors.invalid("filter", f"names no state: {value[:40]!r}") from None
        return lambda task: task.state is state
    if key == "type":
        return lambda task: task.type == value
    if key == "priority":
        try:
            priority = int(value)
        except ValueError:
            raise errors.invalid("filter", f"priority must be a number: {value[:40]!r}") from None
        return lambda task: task.priority == priority
    if key.startswith("label."):
        label = key.removeprefix("label.")
        return lambda task: task_pb2.Task.FromString(task.body).labels.get(label) == value
    raise errors.invalid("filter", f"knows state, type, priority and label.KEY, not {key[:40]!r}")
