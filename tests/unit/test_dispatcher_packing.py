"""What goes to the journal's process, and what comes from it, arrives as it was."""

import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_dispatcher.core import records
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.journal import interface, packing

KINDS: tuple[type[typing.Any], ...] = typing.get_args(records.Record)
FAILURES = st.none() | st.builds(
    tasks.Failure, code=st.integers(), reason=st.text(), message=st.text(), status=st.binary()
)


def records_of(kind: type[typing.Any]) -> st.SearchStrategy[typing.Any]:
    """With what is not told by the fields' types: of compiled classes they tell little."""
    fields = {}
    if kind is records.TaskMoved:
        changes = (records_of(records.TaskRequeued), records_of(records.TaskEnded))
        fields = {
            "accepted": records_of(records.TaskAccepted),
            "deleted": records_of(records.TaskDeleted),
            "change": st.one_of(st.none(), *changes),
            "checkpoint": st.none() | records_of(records.TaskCheckpointed),
        }
    elif "failure" in kind._fields:  # type: ignore[attr-defined]
        fields = {"failure": FAILURES}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_every_kind_of_record(kind: type[typing.Any], data: st.DataObject) -> None:
    batch = data.draw(st.lists(records_of(kind), min_size=1, max_size=3))
    found = packing.from_batch(packing.batch(batch))
    assert found == batch
    # Named tuples are equal if their fields are.
    assert [type(record) for record in found] == [kind] * len(batch)
    if kind is records.TaskMoved:
        assert [list(map(type, record.parts)) for record in found] == [  # type: ignore[union-attr]
            list(map(type, record.parts)) for record in batch
        ]


@given(batch=st.lists(st.one_of(list(map(records_of, KINDS))), max_size=20))
@settings(max_examples=20, deadline=None)
def test_a_batch_keeps_its_order(batch: list[records.Record]) -> None:
    assert packing.from_batch(packing.batch(batch)) == batch


@given(opened=st.from_type(interface.Opened), uids=st.dictionaries(st.integers(), st.text()))
@settings(max_examples=50, deadline=None)
def test_what_opening_tells(opened: interface.Opened, uids: dict[int, str]) -> None:
    found, found_uids = packing.from_opened(packing.opened(opened, uids))
    assert (found, found_uids) == (opened, uids)
    for pool in found.pools:
        assert type(pool.configured) is records.PoolConfigured
        assert type(pool.latched) is records.PoolLatched
        assert {type(session) for session in pool.sessions} <= {records.SessionOpened}
        assert {type(worker) for worker in pool.drained} <= {records.WorkerDrained}
