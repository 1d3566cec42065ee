"""What the operator reads out of the demand that the dispatcher pushes."""

import pytest

from penstock_operator import demand


@pytest.mark.parametrize(
    ("known", "mean"),
    [
        ({}, 1.0),
        ({"in_flight": 4, "slots_in_use": 4}, 1.0),
        ({"in_flight": 4, "slots_in_use": 10, "pending": 9, "runnable_slots": 9}, 2.5),
        ({"pending": 5, "runnable_slots": 15}, 3.0),
        # A cap leaves most of the pending ones out of what is runnable.
        ({"pending": 100, "runnable_slots": 12}, 1.0),
    ],
)
def test_slots_of_a_task_on_average(known: dict[str, int], mean: float) -> None:
    assert demand.Demand(**known).slots_per_task == mean
