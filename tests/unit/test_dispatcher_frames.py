"""What a serialized message has, read from its bytes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.v1 import task_pb2
from penstock_dispatcher.convert import frames

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "type": st.text(max_size=20),
    "payload": st.binary(max_size=300),
    "labels": st.dictionaries(st.text(max_size=4), st.text(max_size=150), max_size=3),
    "priority": st.integers(-(2**31), 2**31 - 1),
    "schedule_time": st.builds(dict, seconds=st.integers(0, 2**40)),
    "slots": st.integers(0, 2**31 - 1),
    "queue_position": st.integers(0, 2**62),
    "execution_time": st.builds(dict, nanos=st.integers(0, 999_999_999)),
}
TASKS = st.fixed_dictionaries({}, optional=VALUES).map(lambda fields: task_pb2.Task(**fields))
NUMBERS = {name: field.number for name, field in task_pb2.Task.DESCRIPTOR.fields_by_name.items()}


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


@given(task=TASKS)
@settings(deadline=None)
def test_fields_are_those_that_are_set(task: task_pb2.Task) -> None:
    found = frames.fields_in(task.SerializeToString())
    assert found == bits(*(field.number for field, _ in task.ListFields()))


@given(task=TASKS)
@settings(deadline=None)
def test_a_span_is_what_the_message_would_be_without(task: task_pb2.Task) -> None:
    body = task.SerializeToString(deterministic=True)
    span = frames.span_of(body, NUMBERS["payload"])
    without = task_pb2.Task.FromString(body)
    without.ClearField("payload")
    if span is None:
        assert task.payload == b""
        assert body == without.SerializeToString(deterministic=True)
    else:
        assert body[span.content : span.end] == task.payload
        assert body[: span.tag] + body[span.end :] == without.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("field", "number"),
    [
        (b"\xfa\x3e\x02hi", 1007),  # length-delimited
        (b"\xf8\x3e\xff\xff\x03", 1007),  # varint
        (b"\xf9\x3e12345678", 1007),  # fixed64
        (b"\xfd\x3e1234", 1007),  # fixed32
        (b"\x8a\x01\x02hi", 17),
        (b"\xe2\x03\x02hi", frames.BEYOND),
    ],
)
def test_fields_that_nobody_knows_are_found_too(field: bytes, number: int) -> None:
    known = task_pb2.Task(type="t", slots=3)
    wanted = bits(NUMBERS["type"], NUMBERS["slots"], min(number, frames.BEYOND))
    assert frames.fields_in(field + known.SerializeToString()) == wanted
    assert frames.fields_in(known.SerializeToString() + field) == wanted


def test_what_cannot_be_read_is_said() -> None:
    with pytest.raises(ValueError, match="unknown kind 3"):
        frames.fields_in(b"\x23")
