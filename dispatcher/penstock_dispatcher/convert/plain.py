"""The two messages in which every task comes and goes, read byte by byte where they are plain.

A batch of submissions with a type, a payload and a few simple fields, and a frame of outcomes that
were successes, are nearly all that a busy dispatcher reads. To read them so takes a third of what
message objects and their attributes do.

Only what is exactly as our own serializer would write it is taken: fields once and in order,
numbers in as few bytes as they need, defaults left out, texts that are UTF-8, sizes within their
bounds. For everything else, and for everything that is wrong, there is `None`, and the caller reads
the message with the generated code: what is refused, and how, stands in one place. The tests hold
both ways against each other.
"""

import sys
from typing import Final

from penstock_dispatcher.convert import frames, submission, times, worker_side
from penstock_dispatcher.core import outcome, units
from penstock_dispatcher.core import task as tasks

# Tags: field number * 8 + wire type (0 = varint, 2 = length-delimited).
_BATCH_PARENT: Final = 0x0A
_BATCH_REQUEST: Final = 0x12
_REQUEST_TASK: Final = 0x12
_REQUEST_ID: Final = 0x22
_TASK_TYPE: Final = 0x22
_TASK_PAYLOAD: Final = 0x2A
_TASK_CONTENT_TYPE: Final = 0x32
_TASK_PRIORITY: Final = 0x40
_TASK_FAIRNESS_KEY: Final = 0x4A
_FRAME_OUTCOMES: Final = 0x2A
_OUTCOMES_ITEM: Final = 0x0A
_OUTCOMES_CREDIT: Final = 0x10
_LEASE_ID: Final = 0x0A
_TOKEN: Final = 0x10
_EXECUTION_TIME: Final = 0x1A
_OUTCOME_COMPLETED: Final = 0x22
_SECONDS: Final = 0x08
_NANOS: Final = 0x10
_RESULT: Final = 0x0A
_CONTENT_TYPE: Final = 0x12
_POSITIVE_MAX: Final = 2**31 - 1
"""Of 32 bits with a sign."""
_NUMBER_BYTES_MAX: Final = 9
"""Of 63 bits: with a tenth one it would be negative."""
_COMPLETED: Final = outcome.OutcomeKind.COMPLETED


class _NotPlain(ValueError):  # noqa: N818 - it says what was found
    """To be read with the generated code."""


class Batch:
    """A batch of submissions, checked; not to be all or none."""

    __slots__ = ("parent", "wanted")

    def __init__(self, parent: str, wanted: list[tasks.Submission]) -> None:
        self.parent = parent
        self.wanted = wanted


class Ended:
    """A frame of outcomes, checked. `credit`: slots that are free again."""

    __slots__ = ("credit", "outcomes")

    def __init__(self, outcomes: list[outcome.Outcome], credit: int) -> None:
        self.outcomes = outcomes
        self.credit = credit


def batch(message: bytes, ids: submission.TaskIds) -> Batch | None:
    """A serialized BatchSubmitTasksRequest, if it is plain."""
    try:
        return _batch(message, ids)
    except (ValueError, IndexError):  # not plain, not UTF-8, or cut off
        return None


def ended(message: bytes) -> Ended | None:
    """A serialized WorkRequest, if it is a plain one with outcomes."""
    try:
        return _ended(message)
    except (ValueError, IndexError):  # not plain, not UTF-8, or cut off
        return None


# ------------------------------------------------------------ submissions


def _batch(message: bytes, ids: submission.TaskIds) -> Batch:
    end = len(message)
    at, parent = 0, ""
    if message[at] == _BATCH_PARENT:
        start, at = _content(message, at + 1, end)
        parent = _text(message, start, at)
    wanted: list[tasks.Submission] = []
    while at < end:
        if message[at] != _BATCH_REQUEST:
            raise _NotPlain
        start, at = _span(message, at + 1, end)
        wanted.append(_submission(message, start, at, ids))
    return Batch(parent, wanted)


def _submission(message: bytes, at: int, end: int, ids: submission.TaskIds) -> tasks.Submission:
    if at == end or message[at] != _REQUEST_TASK:
        raise _NotPlain
    body, at = _span(message, at + 1, end)
    body_end, request_id = at, ""
    if at < end and message[at] == _REQUEST_ID:
        start, at = _content(message, at + 1, end)
        request_id = _text(message, start, at)
    if at != end or len(request_id) > submission.REQUEST_ID_CHARS_MAX:
        raise _NotPlain
    # The task.
    at, size, priority, fairness_key = body, 0, None, ""
    if at == body_end or message[at] != _TASK_TYPE:
        raise _NotPlain
    start, at = _content(message, at + 1, body_end)
    type_ = _text(message, start, at)
    if len(type_) > submission.TYPE_CHARS_MAX:
        raise _NotPlain
    if at < body_end and message[at] == _TASK_PAYLOAD:
        start, at = _content(message, at + 1, body_end)
        size = at - start
    if at < body_end and message[at] == _TASK_CONTENT_TYPE:
        start, at = _content(message, at + 1, body_end)
        if len(_text(message, start, at)) > submission.CONTENT_TYPE_CHARS_MAX:
            raise _NotPlain
    if at < body_end and message[at] == _TASK_PRIORITY:
        priority, at = _number(message, at + 1)
        if priority > _POSITIVE_MAX:
            raise _NotPlain
    if at < body_end and message[at] == _TASK_FAIRNESS_KEY:
        start, at = _content(message, at + 1, body_end)
        if at - start > submission.KEY_BYTES_MAX:
            raise _NotPlain
        fairness_key = sys.intern(_text(message, start, at))
    if at != body_end:
        raise _NotPlain
    content, made = message[body:body_end], ids.next()
    return tasks.Submission(
        task_id=made,
        uid=made,
        type=sys.intern(type_),
        body=content,
        size=size,
        priority=priority,
        request_id=request_id,
        fingerprint=submission.fingerprint(content) if request_id else 0,
        fairness_key=fairness_key,
    )


# ------------------------------------------------------------ outcomes


def _ended(message: bytes) -> Ended:
    end = len(message)
    if message[0] != _FRAME_OUTCOMES:
        raise _NotPlain
    at, inner = _span(message, 1, end)
    if inner != end:
        raise _NotPlain
    outcomes: list[outcome.Outcome] = []
    while at < end and message[at] == _OUTCOMES_ITEM:
        start, at = _span(message, at + 1, end)
        outcomes.append(_outcome(message, start, at))
    credit = 0
    if at < end and message[at] == _OUTCOMES_CREDIT:
        credit, at = _number(message, at + 1)
    if at != end or credit > _POSITIVE_MAX:
        raise _NotPlain
    return Ended(outcomes, credit)


def _outcome(message: bytes, at: int, end: int) -> outcome.Outcome:
    if at == end or message[at] != _LEASE_ID:
        raise _NotPlain
    start, at = _content(message, at + 1, end)
    lease_id = _text(message, start, at)
    if at == end or message[at] != _TOKEN:
        raise _NotPlain
    token, at = _number(message, at + 1)
    execution_ns = 0
    if at < end and message[at] == _EXECUTION_TIME:
        start, at = _span(message, at + 1, end)
        execution_ns = _duration_ns(message, start, at)
    if at == end or message[at] != _OUTCOME_COMPLETED:
        raise _NotPlain
    start, at = _span(message, at + 1, end)
    if at != end:
        raise _NotPlain
    result, content_type, at = b"", "", start
    if at < end and message[at] == _RESULT:
        start, at = _content(message, at + 1, end)
        result = message[start:at]
    if at < end and message[at] == _CONTENT_TYPE:
        start, at = _content(message, at + 1, end)
        content_type = _text(message, start, at)
    if (
        at != end
        or len(result) > worker_side.RESULT_BYTES_MAX
        or len(content_type) > worker_side.CONTENT_TYPE_CHARS_MAX
    ):
        raise _NotPlain
    return outcome.Outcome(lease_id, token, _COMPLETED, execution_ns, result, content_type)


def _duration_ns(message: bytes, at: int, end: int) -> int:
    seconds = nanos = 0
    if at < end and message[at] == _SECONDS:
        seconds, at = _number(message, at + 1)
    if at < end and message[at] == _NANOS:
        nanos, at = _number(message, at + 1)
    if at != end or seconds >= times.DURATION_SECONDS_MAX or nanos >= units.SECOND:
        raise _NotPlain
    return seconds * units.SECOND + nanos


# ------------------------------------------------------------ fields


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A varint of at most 63 bits in as few bytes as it needs, and what comes after it."""
    number, after = frames.number_at(message, at)
    size = after - at
    if size > _NUMBER_BYTES_MAX or (size > 1 and not message[after - 1]):
        raise _NotPlain
    return number, after


def _span(message: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the content of a field with a size lies, which may be empty; `at`: its size."""
    size, at = _number(message, at)
    if at + size > end:
        raise _NotPlain
    return at, at + size


def _content(message: bytes, at: int, end: int) -> tuple[int, int]:
    """The same, where empty is the default."""
    start, stop = _span(message, at, end)
    if start == stop:
        raise _NotPlain
    return start, stop


def _text(message: bytes, start: int, stop: int) -> str:
    return message[start:stop].decode()
