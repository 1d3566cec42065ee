"""What the client says in a filter is what the dispatcher understands."""

from hypothesis import given
from hypothesis import strategies as st

from penstock import _calls, _task
from penstock_dispatcher.services import filters

ODD = st.text(alphabet='"\\= .AND\n\tx') | st.sampled_from([" AND ", '" AND "', '\\" AND type=x'])
TEXT = st.text(max_size=40) | ODD
LABELS = st.dictionaries(st.text(min_size=1, max_size=20) | ODD.filter(bool), TEXT, max_size=6)


@given(
    state=st.none() | st.sampled_from(_task.TaskState),
    task_type=st.none() | TEXT,
    priority=st.none() | st.integers(-(2**31), 2**31 - 1),
    labels=LABELS,
)
def test_any_text_comes_back(
    state: _task.TaskState | None,
    task_type: str | None,
    priority: int | None,
    labels: dict[str, str],
) -> None:
    said = _calls.task_filter(state=state, task_type=task_type, priority=priority, labels=labels)
    meant = [
        ("state", None if state is None else state.value),
        ("type", task_type),
        ("priority", None if priority is None else str(priority)),
        *((f"label.{key}", value) for key, value in labels.items()),
    ]
    assert filters.terms(said) == [(field, value) for field, value in meant if value is not None]
