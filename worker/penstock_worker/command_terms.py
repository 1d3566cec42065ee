"""What a command is told, and what its end means. Pure.

A command gets the payload on standard input, everything else about its task in the environment, and
answers with its standard output and its exit status. The names of the variables and the meaning of
each status are promises: `docs/reference/worker.md` lists them.
"""

import dataclasses
import json
import os
import re
import signal
from typing import Final

from google.protobuf import duration_pb2

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import outcomes
from penstock_worker import task as tasks

EX_DATAERR, EX_TEMPFAIL = 65, 75
"""From sysexits.h: the input is wrong; try again later."""
TEMPFAIL_SECONDS_DEFAULT: Final = 60.0
CONTENT_TYPE_DEFAULT: Final = "application/octet-stream"
STDERR_CHARACTERS_MAX: Final = 3800
"""Kept for the error; with the words around them they fit its bound of 4096."""
KILLED_BY_KERNEL_STATUS: Final = 128 + signal.SIGKILL
"""How a shell ends whose own child was killed."""
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_]")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the operator of the worker chose. `no_retry` are exit statuses."""

    no_retry: frozenset[int] = frozenset({EX_DATAERR})
    retry_later_seconds: float = TEMPFAIL_SECONDS_DEFAULT
    content_type: str = CONTENT_TYPE_DEFAULT


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How it went. `status` is a wait status; `stopped_for` is set only if it was stopped before it
    ended; `memory_kills` is how often the kernel killed for want of memory meanwhile.
    """

    status: int
    seconds: float
    result: bytes = b""
    too_large: bool = False
    stderr: str = ""
    stopped_for: str = ""
    memory_kills: int = 0


def environment(task: tasks.Task, priority: int | None) -> dict[str, str]:
    """The variables of one attempt. One whose value no variable can hold is left out."""
    remaining = task.remaining_seconds
    found = {
        "PENSTOCK_TASK_NAME": task.name,
        "PENSTOCK_TASK_ID": task.name.rpartition("/")[2],
        "PENSTOCK_TASK_TYPE": task.type,
        "PENSTOCK_TASK_ATTEMPT": str(task.attempt),
        "PENSTOCK_TASK_SLOTS": str(task.slots),
        "PENSTOCK_TASK_CONTENT_TYPE": task.content_type,
        "PENSTOCK_TASK_LABELS": json.dumps(dict(sorted(task.labels.items())), ensure_ascii=False),
    }
    if task.deadline is not None and remaining is not None:
        found["PENSTOCK_TASK_DEADLINE"] = f"{task.deadline:.3f}"
        found["PENSTOCK_TASK_REMAINING_SECONDS"] = str(int(remaining))
    if priority is not None:
        found["PENSTOCK_TASK_PRIORITY"] = str(priority)
    for key, value in sorted(task.labels.items()):
        found.setdefault(f"PENSTOCK_TASK_LABEL_{_NOT_IN_NAMES.sub('_', key).upper()}", value)
    for key in ("traceparent", "tracestate"):
        if key in task.trace_context:
            found[key.upper()] = task.trace_context[key]
    return {name: value for name, value in found.items() if "\0" not in value}


def outcome_of(ended: Ended, terms: Terms) -> wire.TaskOutcome:
    """What the dispatcher is told."""
    tail = f"; its standard error ends:\n{ended.stderr}" if ended.stderr else ""
    if ended.stopped_for and ended.stopped_for != outcomes.TIMEOUT_REASON:
        return outcomes.stopped("", ended.stopped_for, ended.seconds)
    if ended.too_large:
        return outcomes.too_large(f"more than {outcomes.RESULT_BYTES_MAX} bytes")
    if ended.stopped_for:
        return outcomes.stopped("", ended.stopped_for, ended.seconds, tail)
    if os.WIFSIGNALED(ended.status):
        return _killed(os.WTERMSIG(ended.status), ended.memory_kills, tail)
    return _exited(os.WEXITSTATUS(ended.status), ended, terms, tail)


def _killed(number: int, memory_kills: int, tail: str) -> wire.TaskOutcome:
    if number == signal.SIGKILL:
        return outcomes.killed("the command", memory_kills, tail)
    name = outcomes.signal_name(number)
    return outcomes.failed(
        outcomes.CODE_UNKNOWN, name, f"the command was ended by {name}{tail}", retryable=True
    )


def _exited(status: int, ended: Ended, terms: Terms, tail: str) -> wire.TaskOutcome:
    if status == 0:
        return wire.TaskOutcome(
            completed=wire.TaskOutcome.Completed(
                result=ended.result, content_type=terms.content_type if ended.result else ""
            )
        )
    if status == KILLED_BY_KERNEL_STATUS and ended.memory_kills:
        return outcomes.killed("the command", ended.memory_kills, tail)
    outcome = outcomes.failed(
        outcomes.CODE_UNKNOWN,
        f"EXIT_{status}",
        f"the command exited with status {status}{tail}",
        retryable=status not in terms.no_retry,
    )
    if status == EX_TEMPFAIL and outcome.failed.retryable:
        delay: duration_pb2.Duration = outcomes.duration(terms.retry_later_seconds)
        outcome.failed.retry_delay.CopyFrom(delay)
    return outcome


def not_started(command: str, error: OSError) -> wire.TaskOutcome:
    """The system would not start it."""
    return outcomes.failed(
        outcomes.CODE_UNKNOWN,
        "COMMAND_NOT_STARTED",
        f"cannot start {command!r}: {error.strerror or error}",
        retryable=True,
    )
