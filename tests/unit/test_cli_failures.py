"""Every error is one line with what to do next, and its own exit status."""

import pytest

import penstock
from penstock import errors
from penstock.cli import failures

EACH = [
    (errors.Unavailable("connection refused\n(111)"), failures.UNREACHABLE, "--address"),
    (errors.DeadlineExceeded("late"), failures.UNREACHABLE, "PENSTOCK_ADDRESS"),
    (errors.Starting("it still loads", reason="STARTING"), failures.UNREACHABLE, "try again"),
    (errors.QueueFull("5 wait", retry_after_seconds=1.25), failures.REFUSED, "1.25 s"),
    (errors.QueueFull("5 wait"), failures.REFUSED, "--retry-for"),
    (errors.QueueFull("5 wait"), failures.REFUSED, "--max-wait"),
    (errors.AdmissionTimeout("no room"), failures.REFUSED, "--retry-for"),
    (errors.KeyQueueFull("5 of key a wait", retry_after_seconds=2), failures.REFUSED, "in 2 s"),
    (
        errors.DeadlineUnreachable("too late", metadata={"estimated_wait": "12.5s"}),
        failures.REFUSED,
        "--max-queue-time (it would wait 12.5 s)",
    ),
    (errors.DeadlineUnreachable("too late"), failures.REFUSED, "leave it out"),
    (errors.Unschedulable("takes 9 slots"), failures.OTHER, "--slots"),
    (errors.PoolNotFound("no pool x"), failures.MISSING, "penstock pools"),
    (errors.TaskNotFound("no task x"), failures.MISSING, "penstock list"),
    (errors.Unauthenticated("no token"), failures.FORBIDDEN, "--token-file"),
    (errors.PermissionDenied("may not"), failures.FORBIDDEN, "another token"),
    (
        errors.InvalidField("bad", violations=[penstock.errors.Violation("task.type", "is empty")]),
        failures.USAGE,
        "task.type: is empty",
    ),
    (errors.WrongTaskState("it has ended"), failures.OTHER, "it has ended"),
    (errors.WaitTimeout("not over after 1 s"), failures.TIMED_OUT, "--timeout"),
    (failures.InputError("--label 'x' is not KEY=VALUE"), failures.USAGE, "KEY=VALUE"),
    (ValueError("which pool? Name one"), failures.USAGE, "which pool"),
    (FileNotFoundError(2, "No such file", "tasks.jsonl"), failures.USAGE, "tasks.jsonl"),
]


@pytest.mark.parametrize(("error", "status", "words"), EACH, ids=lambda each: repr(each)[:40])
def test_one_line_and_a_status(error: Exception, status: int, words: str) -> None:
    failure = failures.of(error, address="127.0.0.1:1")
    assert failure.status == status
    assert words in failure.line
    assert "\n" not in failure.line


def test_the_docstring_lists_every_status() -> None:
    statuses = {
        value for name, value in vars(failures).items() if name.isupper() and isinstance(value, int)
    }
    table = (failures.__doc__ or "").split("\n\n")[1].splitlines()
    listed = {int(line.split()[0]) for line in table}
    assert listed == statuses | {0}
