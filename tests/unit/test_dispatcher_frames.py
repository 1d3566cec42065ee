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


def kinds(**of: int) -> bytes:
    found = {NUMBERS[name]: kind for name, kind in of.items()}
    return bytes(found.get(number, frames.NO_KIND) for number in range(16))


KINDS = kinds(type=2, payload=2, priority=0, slots=0)
SIMPLE = {name: VALUES[name] for name in ("type", "payload", "priority", "slots")}
SIMPLE_TASKS = st.fixed_dictionaries({}, optional=SIMPLE).map(
    lambda fields: task_pb2.Task(**fields)
)


@given(task=SIMPLE_TASKS)
@settings(deadline=None)
def test_fields_are_those_that_are_set(task: task_pb2.Task) -> None:
    found = frames.fields_in(task.SerializeToString(), KINDS)
    assert found == bits(*(field.number for field, _ in task.ListFields()))


@given(task=TASKS)
@settings(deadline=None)
def test_one_that_is_not_expected_is_enough(task: task_pb2.Task) -> None:
    found = frames.fields_in(task.SerializeToString(), KINDS)
    expected = {field.name for field, _ in task.ListFields()} <= set(SIMPLE)
    assert (found == 0) == (not expected or task == task_pb2.Task())


@given(task=TASKS)
@settings(deadline=None)
def test_a_span_is_what_the_message_would_be_without(task: task_pb2.Task) -> None:
    body = task.SerializeToString(deterministic=True)
    tag, content, end = frames.span_of(body, NUMBERS["payload"])
    without = task_pb2.Task.FromString(body)
    without.ClearField("payload")
    if (tag, content, end) == frames.NOWHERE:
        assert task.payload == b""
        assert body == without.SerializeToString(deterministic=True)
    else:
        assert body[content:end] == task.payload
        assert body[:tag] + body[end:] == without.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "field",
    [
        b"\xfa\x3e\x02hi",  # field 1007 in each kind
        b"\xf8\x3e\xff\xff\x03",
        b"\xf9\x3e12345678",
        b"\xfd\x3e1234",
        b"\xfb\x3e\xfc\x3e",
        b"\x72\x02hi",  # slots, but length-delimited
        b"\x28\x05",  # payload, but a number
        b"\x2b\x2c",  # payload, but a group
        b"\x7a\x01x",  # number 15, which this caller does not expect
    ],
)
def test_what_lies_hidden_is_found(field: bytes) -> None:
    task = task_pb2.Task(type="t", slots=3)
    for content in (task.SerializeToString() + field, field + task.SerializeToString()):
        assert frames.fields_in(content, KINDS) == 0
        kept = task_pb2.Task.FromString(content).SerializeToString()
        assert frames.fields_in(kept, KINDS) == 0
