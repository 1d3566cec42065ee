"""What a command is told, and what each end of it means."""

import json
import signal
import time
from typing import Any

import pytest
from google.rpc import error_details_pb2

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import Task, command_terms, outcomes

KILLED, EXITED = int(signal.SIGKILL), 256


def told(status: int, **fields: Any) -> wire.TaskOutcome:
    terms = fields.pop("terms", command_terms.Terms())
    ended = command_terms.Ended(status=status, seconds=1.5, **fields)
    return command_terms.outcome_of(ended, terms)


def reason(outcome: wire.TaskOutcome) -> str:
    info = error_details_pb2.ErrorInfo()
    assert outcome.failed.error.details[0].Unpack(info)
    return str(info.reason)


def test_status_0_completes() -> None:
    done = told(0, result=b"out", terms=command_terms.Terms(content_type="text/csv"))
    assert (done.completed.result, done.completed.content_type) == (b"out", "text/csv")
    assert told(0).completed.content_type == "", "of nothing"


@pytest.mark.parametrize(
    ("status", "retryable", "delay"), [(1, True, 0), (65, False, 0), (75, True, 60), (127, True, 0)]
)
def test_other_statuses_fail(status: int, retryable: bool, delay: int) -> None:
    failed = told(status * EXITED, stderr="so it was").failed
    assert failed.retryable == retryable
    assert failed.retry_delay.ToSeconds() == delay
    assert failed.error.message == (
        f"the command exited with status {status}; its standard error ends:\nso it was"
    )
    assert reason(told(status * EXITED)) == f"EXIT_{status}"


def test_which_statuses_are_not_retried_can_be_chosen() -> None:
    terms = command_terms.Terms(no_retry=frozenset({2, 75}), retry_later_seconds=5)
    assert not told(2 * EXITED, terms=terms).failed.retryable
    assert told(65 * EXITED, terms=terms).failed.retryable
    assert not told(75 * EXITED, terms=terms).failed.retryable


def test_a_signal_of_its_own_is_a_failure_and_sigkill_a_loss() -> None:
    crashed = told(int(signal.SIGSEGV) | 0x80)
    assert (reason(crashed), crashed.failed.worker_loss) == ("SIGSEGV", False)
    assert reason(told(40)) == "SIGNAL_40"
    killed = told(KILLED)
    assert (reason(killed), killed.failed.worker_loss) == ("PROCESS_KILLED", True)
    assert outcomes.kind(killed) == "lost"
    starved = told(KILLED, memory_kills=1)
    assert (reason(starved), starved.failed.worker_loss) == ("OUT_OF_MEMORY", True)


def test_a_shell_tells_of_a_kill_with_137() -> None:
    assert reason(told(137 * EXITED, memory_kills=1)) == "OUT_OF_MEMORY"
    assert reason(told(137 * EXITED)) == "EXIT_137", "anybody may exit so"
    assert reason(told(1 * EXITED, memory_kills=1)) == "EXIT_1"


@pytest.mark.parametrize("status", [0, KILLED, int(signal.SIGTERM), 143 * EXITED])
def test_what_was_stopped_was_stopped_whatever_its_status(status: int) -> None:
    assert told(status, stopped_for="cancelled", memory_kills=1).HasField("cancelled")
    late = told(status, stopped_for=outcomes.TIMEOUT_REASON, stderr="nearly")
    assert reason(late) == "EXECUTION_TIMEOUT"
    assert late.failed.error.message.endswith("nearly")


def test_too_much_is_refused_for_good() -> None:
    for status in (0, KILLED, int(signal.SIGPIPE)):
        flood = told(status, too_large=True)
        assert (reason(flood), flood.failed.retryable) == ("RESULT_TOO_LARGE", False)
    assert told(KILLED, too_large=True, stopped_for="cancelled").HasField("cancelled")


def test_a_long_error_ends_with_what_was_said_last() -> None:
    message = told(
        EXITED, stderr="x" * command_terms.STDERR_CHARACTERS_MAX + "!"
    ).failed.error.message
    assert message.endswith("!"), "it fits"


def test_what_a_task_is_in_the_environment() -> None:
    task = Task(
        name="namespaces/n/pools/p/tasks/t-1",
        type="resize",
        content_type="image/png",
        attempt=2,
        labels={"b.c": "2", "a": "ü=\n", "B-C": "3"},
        trace_context={"traceparent": "00-1", "tracestate": "v=1", "other": "x"},
        deadline=time.time() + 30,
    )
    found = command_terms.environment(task, -3)
    deadline, remaining = (
        found.pop(f"PENSTOCK_TASK_{name}") for name in ("DEADLINE", "REMAINING_SECONDS")
    )
    assert float(deadline) == pytest.approx(task.deadline, abs=0.001)
    assert int(remaining) in (29, 30)
    assert json.loads(found.pop("PENSTOCK_TASK_LABELS")) == task.labels
    assert found == {
        "PENSTOCK_TASK_NAME": task.name,
        "PENSTOCK_TASK_ID": "t-1",
        "PENSTOCK_TASK_TYPE": "resize",
        "PENSTOCK_TASK_ATTEMPT": "2",
        "PENSTOCK_TASK_SLOTS": "1",
        "PENSTOCK_TASK_CONTENT_TYPE": "image/png",
        "PENSTOCK_TASK_PRIORITY": "-3",
        "PENSTOCK_TASK_LABEL_A": "ü=\n",
        "PENSTOCK_TASK_LABEL_B_C": "3",
        "TRACEPARENT": "00-1",
        "TRACESTATE": "v=1",
    }


def test_what_is_not_known_is_not_set_and_what_cannot_be_said_left_out() -> None:
    found = command_terms.environment(Task(labels={"nul": "a\0b"}), None)
    assert not {"PENSTOCK_TASK_PRIORITY", "PENSTOCK_TASK_DEADLINE", "TRACEPARENT"} & set(found)
    assert "PENSTOCK_TASK_LABEL_NUL" not in found
    assert json.loads(found["PENSTOCK_TASK_LABELS"]) == {"nul": "a\0b"}
