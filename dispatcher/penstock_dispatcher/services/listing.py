"""Filters and pages for lists of tasks and workers.

A page looks at a bounded number of entries, so that a list over a million tasks never holds the
loop: a page may be short, or empty, while `next_page_token` says that there is more. It is bounded
in bytes, too (`fitting`), and so small that clients with gRPC's defaults can read it.
"""

import array
import asyncio
import bisect
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from google.protobuf import message

from penstock.v1 import task_pb2
from penstock_dispatcher import errors, resuming
from penstock_dispatcher.convert import frames, names, task_view, worker_side
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.services import filters

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000
NAMES_MAX: Final = 1_000
"""Tasks that one call may name."""
LOOKED_AT_MAX: Final = 20_000
KEY_CHARS_MAX: Final = worker_side.ID_CHARS_MAX
"""Of a pool's name, and of a pod's uid: a page token has no longer one."""
STEP_TASKS: Final = 500
"""Tasks looked at in one go; then others have their turn."""
CAUGHT_UP_TASKS: Final = 10_000
"""The same, where a look costs little."""
STALE_MAX: Final = 1_024
"""Deleted tasks that an order may hold beside as many as there are tasks."""
PAGE_BYTES_MAX: Final = 2 * 1024 * 1024
"""An entry that passes it begins the next page, unless it is the only one."""
ORDER: Final = "create_time"


class Filtered(Protocol):
    """What a filter looks at: a task, or what it was in another moment."""

    @property
    def state(self) -> tasks.TaskState:
        """Its own, or the one that is shown."""

    @property
    def type(self) -> str:
        """Its handler's name."""

    @property
    def priority(self) -> int:
        """The one in force."""

    @property
    def body(self) -> bytes:
        """What was submitted, serialized."""


_T = TypeVar("_T")
_M = TypeVar("_M", bound=message.Message)
_Test = Callable[[Filtered], bool]


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
        found = int(page_token, 16)
    except ValueError:
        raise _no_token() from None
    if not 0 < found <= resuming.EVERY or f"{found:x}" != page_token:
        raise _no_token()
    return found


def key_token(key: str) -> str:
    """The token of a page that begins with the entry of that key."""
    return key.encode().hex()


def key_position(page_token: str) -> str:
    """The key that `key_token` made it of; empty = the first page. Raises Refusal."""
    try:
        found = bytes.fromhex(page_token).decode()
    except ValueError:
        raise _no_token() from None
    if len(found) > KEY_CHARS_MAX or key_token(found) != page_token:
        raise _no_token()
    return found


def _no_token() -> errors.Refusal:
    return errors.invalid("page_token", "must come from the page before")


def ids(pool: pools.Pool, task_names: Sequence[str], *, some_gone: bool = False) -> list[str]:
    """Ids of the pool's tasks of those names, each once. All must be there, with `some_gone` at
    least one. Raises Refusal.
    """
    if len(task_names) > NAMES_MAX:
        raise errors.invalid("names", f"must be at most {NAMES_MAX}")
    found: dict[str, str] = {}
    for name in task_names:
        child = names.task(name, "names")
        if child.pool != pool.name:
            raise errors.invalid("names", f"must be tasks of {pool.name}, {name[:256]!r} is not")
        found[child.id] = name
    gone = [name for id_, name in found.items() if id_ not in pool.book.tasks]
    if gone and not (some_gone and len(gone) < len(found)):
        raise errors.no_task(gone[0])
    return list(found)


class Order:
    """A pool's tasks by admission: a page finds its place without looking at those before it.

    It catches up with the ledger at each call, in parts, and costs nothing for pools that nobody
    lists. Tasks that were deleted meanwhile are passed over, and dropped when they are the larger
    half.
    """

    def __init__(self) -> None:
        self._sequences = array.array("q")
        self._ids: list[str] = []
        self._catching_up = asyncio.Lock()

    async def page(
        self, by_id: dict[str, tasks.Task], start: int, *, matches: _Test, size: int
    ) -> tuple[list[tasks.Task], tasks.Task | None]:
        """The matching ones of the tasks from sequence `start` on, and the first task that the next
        page begins with. `by_id` is the ledger's, in the order of admission.
        """
        await self._catch_up(by_id)
        found: list[tasks.Task] = []
        for _ in range(LOOKED_AT_MAX // STEP_TASKS):
            part = self._part(by_id, start)
            for task in part:
                if matches(task):
                    if len(found) == size:
                        return found, task
                    found.append(task)
            if not part:
                return found, None
            start = part[-1].sequence + 1
            await asyncio.sleep(0)
        return found, next(iter(self._part(by_id, start)), None)

    async def walk(
        self, by_id: dict[str, tasks.Task], *, after: int = -1, last: int
    ) -> AsyncIterator[tasks.Task]:
        """The tasks after sequence `after` up to `last` that are still there when their turn comes.
        Holds a part of their ids, and no task; between two parts others have their turn.
        """
        await self._catch_up(by_id)
        sequence = after
        while True:
            index = bisect.bisect_right(self._sequences, sequence)
            part = self._entries(index)
            for sequence, id_ in part:
                if sequence > last:
                    return
                task = by_id.get(id_)
                if task is not None and task.sequence == sequence:
                    yield task
            if not part:
                return
            await asyncio.sleep(0)

    def _entries(self, index: int) -> list[tuple[int, str]]:
        """The next `STEP_TASKS` of the order, of tasks that may have been deleted; another task may
        have the id of one that was.
        """
        end = index + STEP_TASKS
        return list(zip(self._sequences[index:end], self._ids[index:end], strict=True))

    def _part(self, by_id: dict[str, tasks.Task], start: int) -> list[tasks.Task]:
        """The next tasks from that sequence on, at most `STEP_TASKS`; none = there are no more."""
        index = bisect.bisect_left(self._sequences, start)
        found: list[tasks.Task] = []
        while index < len(self._ids) and not found:
            for sequence, id_ in self._entries(index):
                task = by_id.get(id_)
                if task is not None and task.sequence == sequence:
                    found.append(task)
            index += STEP_TASKS
        return found

    async def _catch_up(self, by_id: dict[str, tasks.Task]) -> None:
        async with self._catching_up:
            sequences, ids = self._sequences, self._ids
            if len(ids) > 2 * len(by_id) + STALE_MAX:
                # Made anew beside the old ones: others may be in the middle of a page.
                sequences, ids = array.array("q"), []
            last = sequences[-1] if sequences else -1
            newest = next(reversed(by_id.values()), None)
            # Only the end of it, which is what may have come since: others wait meanwhile.
            coming = 0 if newest is None else max(0, newest.sequence - last)
            there = list(itertools.islice(reversed(by_id.values()), coming))
            there.reverse()
            begin = bisect.bisect_right(there, last, key=lambda task: task.sequence)
            for first in range(begin, len(there), CAUGHT_UP_TASKS):
                part = there[first : first + CAUGHT_UP_TASKS]
                sequences.extend([task.sequence for task in part])
                ids.extend([task.id for task in part])
                if first + CAUGHT_UP_TASKS < len(there):
                    await asyncio.sleep(0)
            self._sequences, self._ids = sequences, ids


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


def check_order(order_by: str) -> None:
    """Raises Refusal unless tasks are wanted in the only order there is."""
    if order_by.strip() not in ("", ORDER):
        raise errors.invalid(
            "order_by",
            f"must be {ORDER} or empty, is {order_by[:40]!r}: tasks are listed as they came",
        )


def task_filter(text: str) -> _Test:
    """`state=PENDING AND type=NAME AND priority=N AND label.KEY="VALUE"`; empty = all. The grammar
    is that of `filters`. Raises Refusal.
    """
    tests = [_test(term) for term in filters.terms(text)]
    return lambda task: all(test(task) for test in tests)


def _test(term: filters.Term) -> _Test:
    field, value = term
    if field == "state":
        try:
            state = tasks.TaskState[value]
        except KeyError:
            raise errors.invalid("filter", f"names no state: {value[:40]!r}") from None
        return lambda task: task.state is state
    if field == "type":
        return lambda task: task.type == value
    if field == "priority":
        try:
            priority = int(value)
        except ValueError:
            raise errors.invalid("filter", f"priority must be a number: {value[:40]!r}") from None
        return lambda task: task.priority == priority
    label = field.removeprefix(filters.LABEL)
    return lambda task: _labels(task).get(label) == value


def _labels(task: Filtered) -> Mapping[str, str]:
    return task_pb2.Task.FromString(frames.without(task.body, task_view.PAYLOAD)).labels
