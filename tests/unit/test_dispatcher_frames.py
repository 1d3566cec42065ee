"""Where a field of a serialized message lies."""

from typing import Any

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
PAYLOAD = task_pb2.Task.DESCRIPTOR.fields_by_name["payload"].number


@given(task=TASKS)
@settings(deadline=None)
def test_without_a_span_a_message_is_the_same_without_the_field(task: task_pb2.Task) -> None:
    body = task.SerializeToString(deterministic=True)
    start, end = frames.span_of(body, PAYLOAD)
    assert (end > start) == bool(task.payload)
    task.ClearField("payload")
    assert frames.without(body, PAYLOAD) == task.SerializeToString(deterministic=True)
