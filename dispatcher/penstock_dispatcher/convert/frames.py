"""Frames to workers and answers to batches, byte by byte, and where a field of a message lies.

The submitted part of a task is kept serialized and goes to the worker as it came: in the protocol
buffer encoding, fields may be appended to a serialized message, and the last value counts. So an
assignment is joined from ready-made pieces, without a message object for it, and so is what a
client is told of a task that was accepted. The tests read everything back with the generated code.
"""

import functools
from collections.abc import Iterable
from typing import Final

from penstock_dispatcher.core import leases, units
from penstock_dispatcher.core import task as tasks

_SHORT: Final = tuple(bytes((number,)) for number in range(128))
_PAIRS: Final = tuple(bytes((number & 127 | 128, number >> 7)) for number in range(2048))
"""What takes two bytes, as most sizes do: from 128 on."""
# Tags: field number * 8 + wire type (0 = varint, 2 = length-delimited).
_FRAME_ASSIGNMENTS: Final = b"\x12"
_FRAME_ACKS: Final = b"\x2a"
_ITEM: Final = b"\x0a"
_TASK_NAME: Final = b"\x0a"
_TASK_ATTEMPT: Final = b"\xb8\x01"
_LEASE: Final = b"\x12"
_LEASE_ID: Final = b"\x12"
_LEASE_TOKEN: Final = b"\x18"
_LEASE_ATTEMPT: Final = b"\x20"
_LEASE_STARTED: Final = b"\x2a"
_DEADLINE: Final = b"\x1a"
_CHECKPOINT: Final = b"\x22"
_TIME_SECONDS: Final = b"\x08"
_TIME_NANOS: Final = b"\x10"
_ACK_ACCEPTED: Final = b"\x10\x01"
_OUTCOME_REQUEST_ID: Final = b"\x0a"
_OUTCOME_RESPONSE: Final = b"\x12"
_OUTCOME_ERROR: Final = b"\x1a"
_TASK_UID: Final = b"\x12"
_TASK_STATE: Final = b"\x18"
_TASK_PRIORITY: Final = b"\x40"
_TASK_EXPIRES: Final = b"\x5a"
_TASK_CREATED: Final = b"\xa2\x01"
_UNSIGNED: Final = 2**64 - 1
_NUMBER_BITS_MAX: Final = 70
_DELAYED: Final = _SHORT[tasks.TaskState.DELAYED.value]
_PENDING: Final = _SHORT[tasks.TaskState.PENDING.value]


def varint(number: int) -> bytes:
    """A number >= 0 in base 128, lowest digits first."""
    if number < 128:
        return _SHORT[number]
    if number < len(_PAIRS):
        return _PAIRS[number]
    digits = bytearray()
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


@functools.lru_cache(maxsize=1024)
def _varint_again(number: int) -> bytes:
    """The same, for numbers that come again and again."""
    return varint(number)


def _varint_of_token(token: int) -> bytes:
    """Tokens grow one by one: all but their last 14 bits come again."""
    if token < 1 << 14:
        return varint(token)
    return bytes((token & 127 | 128, token >> 7 & 127 | 128)) + _varint_again(token >> 14)


@functools.lru_cache(maxsize=1024)
def _time(tag: bytes, ns: int) -> bytes:
    """A time with its tag, both parts explicit; what is done in one turn mostly has the same."""
    seconds, nanos = divmod(ns, units.SECOND)
    return _sized(tag, _TIME_SECONDS + varint(seconds) + _TIME_NANOS + varint(nanos))


def _sized(tag: bytes, content: bytes) -> bytes:
    return b"".join((tag, varint(len(content)), content))


def assignment(pool_prefix: bytes, task: tasks.Task, lease: leases.Lease) -> bytes:
    """One item of `Assignments`. `pool_prefix` = b"namespaces/…/pools/…/tasks/"."""
    name = pool_prefix + task.id.encode()
    attempt = varint(task.attempt)
    named = _sized(_TASK_NAME, name)
    lease_id = lease.id.encode()
    held = b"".join(
        (
            named,  # field 1 of a Lease is the task's name, as in a Task
            _LEASE_ID,
            varint(len(lease_id)),
            lease_id,
            _LEASE_TOKEN,
            _varint_of_token(lease.token),
            _LEASE_ATTEMPT,
            attempt,
            _time(_LEASE_STARTED, lease.start_time),
        )
    )
    body_size = _varint_again(len(task.body) + len(named) + len(_TASK_ATTEMPT) + len(attempt))
    content = b"".join(
        (
            _ITEM,
            body_size,
            task.body,
            named,
            _TASK_ATTEMPT,
            attempt,
            _LEASE,
            varint(len(held)),
            held,
            _time(_DEADLINE, lease.start_time + task.execution_timeout_ns),
        )
    )
    if task.checkpoint:
        content += _sized(_CHECKPOINT, task.checkpoint)
    return _ITEM + varint(len(content)) + content


def assignments(items: Iterable[bytes]) -> bytes:
    """A WorkResponse with these assignments."""
    return _sized(_FRAME_ASSIGNMENTS, b"".join(items))


def ack(lease_id: str, accepted: bool) -> bytes:
    """One item of `OutcomeAcks`."""
    content = lease_id.encode()
    size = varint(len(content))
    verdict = _ACK_ACCEPTED if accepted else b""
    whole = varint(len(_ITEM) + len(size) + len(content) + len(verdict))
    return b"".join((_ITEM, whole, _ITEM, size, content, verdict))


def acks(items: Iterable[bytes]) -> bytes:
    """A WorkResponse with these acknowledgements."""
    return _sized(_FRAME_ACKS, b"".join(items))


def accepted(submitted: bytes, pool_prefix: bytes, task: tasks.Task) -> bytes:
    """A SubmitTaskResponse: the task as it was accepted (what became of it meanwhile, GetTask
    tells). `submitted`: what its caller said of it, without the payload, or nothing.
    """
    delayed = task.not_before > task.create_time
    shown = b"".join(
        (
            submitted,
            _sized(_TASK_NAME, pool_prefix + task.id.encode()),
            _sized(_TASK_UID, task.uid.encode()),
            _TASK_STATE,
            _DELAYED if delayed else _PENDING,
            _TASK_PRIORITY,
            varint(task.priority & _UNSIGNED),
            _time(_TASK_CREATED, task.create_time),
        )
    )
    if task.expire_time:  # the pool's, if it has none of its own
        shown += _time(_TASK_EXPIRES, task.expire_time)
    return _sized(_ITEM, shown)


def submit_response(request_id: str, response: bytes) -> bytes:
    """One item of a BatchSubmitTasksResponse: that answer."""
    return _submit_outcome(request_id, _OUTCOME_RESPONSE, response)


def submit_error(request_id: str, error: bytes) -> bytes:
    """The same: a google.rpc.Status."""
    return _submit_outcome(request_id, _OUTCOME_ERROR, error)


def span_of(message: bytes, wanted: int) -> tuple[int, int]:
    """Where field `wanted` of a serialized message lies, its tag included: from, to. It is there
    once; (0, 0) = it is not. Only looks as far as that.
    """
    at = 0
    while at < len(message):
        number, end = _field(message, at)
        if number == wanted:
            return at, end
        at = end
    return 0, 0


def without(message: bytes, unwanted: int) -> bytes:
    """A serialized message without that field, which nobody has read."""
    start, end = span_of(message, unwanted)
    return message[:start] + message[end:]


def _field(message: bytes, at: int) -> tuple[int, int]:
    """The number of the field at `at`, and where the next one begins."""
    tag, at = number_at(message, at)
    number, kind = tag >> 3, tag & 7
    if kind == 2:
        size, at = number_at(message, at)
        return number, at + size
    if kind == 0:
        return number, number_at(message, at)[1]
    if kind == 1:
        return number, at + 8
    if kind == 5:
        return number, at + 4
    raise ValueError(f"a field of the unknown kind {kind}")


def number_at(message: bytes, at: int) -> tuple[int, int]:
    """A varint, and what comes after it. Raises ValueError if it is longer than any can be."""
    digit = message[at]
    if digit < 128:
        return digit, at + 1
    number, shift = digit & 127, 7
    while shift < _NUMBER_BITS_MAX:
        at += 1
        digit = message[at]
        number |= (digit & 127) << shift
        if digit < 128:
            return number, at + 1
        shift += 7
    raise ValueError("a number of more than ten bytes")


def _submit_outcome(request_id: str, tag: bytes, content: bytes) -> bytes:
    of = _sized(_OUTCOME_REQUEST_ID, request_id.encode()) if request_id else b""
    size = varint(len(content))
    whole = varint(len(of) + len(tag) + len(size) + len(content))
    return b"".join((_ITEM, whole, of, tag, size, content))
