"""When what was told to stop is killed, and what children inherit."""

import pytest

from penstock_worker import supervisor


@pytest.mark.parametrize(("grace", "seconds"), [(0, 0), (1, 0.8), (5, 4), (10, 9), (600, 599)])
def test_the_end_of_a_stopped_child_is_told_within_the_grace(grace: float, seconds: float) -> None:
    assert supervisor.kill_after_seconds(grace) == pytest.approx(seconds)


def test_only_a_task_says_what_a_task_is() -> None:
    given = {
        "PATH": "/bin",
        "PENSTOCK_POOL": "p",
        "PENSTOCK_TASK_NAME": "of a worker inside a task",
        "TRACEPARENT": "00",
        "TRACESTATE": "v",
    }
    assert supervisor.common_environment(given) == {"PATH": "/bin", "PENSTOCK_POOL": "p"}
