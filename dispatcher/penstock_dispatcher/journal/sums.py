"""A checksum for each row, so that a damaged one is never taken for a task.

SQLite checks the frames of its log, but not the pages of its file: `quick_check` finds a broken
structure, and passes over a flipped bit inside a payload, a priority or a state. So every row has a
sum over all its columns, its key among them. It is computed where rows are written (a
microsecond, and a millisecond for each MiB of payload), and compared where they are read.

What may change without the row's other columns being at hand has a sum of its own: a request id
lives in its task's row, is copied from there into `requests`, or is blanked, all inside SQLite.

CRC-32: it is about bits that flip and writes that go astray, not about somebody who forges.
"""

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

_seven: Final = struct.Struct("<7q").pack
_eight: Final = struct.Struct("<8q").pack
_three: Final = struct.Struct("<3q").pack
_crc = zlib.crc32

TASK_COLUMNS: Final = 17
"""Columns of `tasks` that `task` takes, in the table's order; its sums come after them."""
CHANGE_COLUMNS: Final = 15
REQUEST_COLUMNS: Final = 5
CHECKPOINT_COLUMNS: Final = 2
"""These are summed up by `row`."""


def task(columns: tuple[Any, ...]) -> tuple[int, int]:
    """The sums of a row of `tasks`: without its request id, and of that (0 = it has none), which is
    also the sum of its later row of `requests`.
    """
    key, task_id, uid, type_, priority, body, size, created = columns[:8]
    not_before, expires, timeout, request_id, fingerprint, token_min = columns[8:14]
    fairness_key, concurrency_key, slots = columns[14:]
    numbers = _crc(_three(key, fingerprint, created))
    request = _crc(f"{request_id}\0{task_id}".encode(), numbers) if request_id else 0
    numbers = _crc(_seven(priority, size, not_before, expires, timeout, token_min, slots), numbers)
    text = f"{task_id}\0{uid}\0{type_}\0{fairness_key}\0{concurrency_key}"
    return _crc(body, _crc(text.encode(), numbers)), request


def request(columns: tuple[Any, ...]) -> int:
    """The sum of a row of `requests`."""
    key, request_id, task_id, fingerprint, time = columns
    return _crc(f"{request_id}\0{task_id}".encode(), _crc(_three(key, fingerprint, time)))


def change(columns: tuple[Any, ...]) -> int:
    """The sum of a row of `changes`."""
    key, state, attempt, losses, not_before, start, end, execution, worker = columns[:9]
    code, reason, message, status, result, content_type = columns[9:]
    text = f"{worker}\0{code}\0{reason}\0{message}\0{content_type}"
    numbers = _crc(_eight(key, state, attempt, losses, not_before, start, end, execution))
    return _crc(result, _crc(status or b"", _crc(text.encode(), numbers)))


def row(columns: tuple[Any, ...]) -> int:
    """The sum of a row of one of the small tables: numbers, texts, bytes."""
    found = 0
    for column in columns:
        data = column if isinstance(column, bytes) else str(column).encode()
        found = _crc(data, _crc(b"%d\0" % len(data), found))
    return found


def fits(sum_of: Callable[[tuple[Any, ...]], Any], columns: tuple[Any, ...], found: Any) -> bool:
    """Is this the columns' sum? Damaged ones may have another type."""
    try:
        return bool(sum_of(columns) == found)
    except (TypeError, ValueError, struct.error):
        return False
