"""Filters and pages for lists of tasks and workers.

A page looks at a bounded number of entries, so that a list over a million tasks never holds the
loop: a page may be short, or empty, while `next_page_token` says that there is more. It is bounded
in bytes, too (`fitting`), and so small that clients with gRPC's defaults can read it.
"""

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
