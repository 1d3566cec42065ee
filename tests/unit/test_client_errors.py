"""Errors: one table, decoded from what really travels, picklable."""

import pathlib
import pickle
import re

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

import penstock
from penstock import _calls, _status, _task, errors
from penstock.v1 import task_pb2

REFERENCE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "errors.md"


def packed(*details: object) -> list[any_pb2.Any]:
    made = []
    for detail in details:
        item = any_pb2.Any()
        item.Pack(detail)  # type: ignore[arg-type]
        made.append(item)
    return made


def refusal(*details: object, code: int = 8, message: str = "no") -> status_pb2.Status:
    return status_pb2.Status(code=code, message=message, details=packed(*details))


def info(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="penstock.dev", metadata=metadata)


@pytest.mark.parametrize("reason", sorted(errors.REASONS))
def test_every_reason_makes_its_class_with_everything_it_carries(reason: str) -> None:
    kind = errors.REASONS[reason]
    error = _status.error_from(
        refusal(
            info(reason, key="value"),
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000)),
        )
    )
    assert type(error) is kind
    assert error.reason == reason
    assert error.message == str(error) == "no"
    assert error.metadata == {"key": "value"}
    assert error.retry_after_seconds == 0.25
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_each_reason_has_a_class_of_its_own_below_the_class_of_its_code() -> None:
    assert len(set(errors.REASONS.values())) == len(errors.REASONS)
    bases = set(errors.CODES.values())
    for kind in errors.REASONS.values():
        assert bases & set(kind.__mro__), kind


def test_the_reference_lists_exactly_the_table() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| `?([A-Z_]+)`? \| `(\w+)` \|", REFERENCE.read_text(), re.MULTILINE
    )
    assert {reason: name for reason, _, name in rows} == {
        reason: kind.__name__ for reason, kind in errors.REASONS.items()
    }
    for reason, code, _ in rows:
        assert issubclass(errors.REASONS[reason], errors.CODES[grpc.StatusCode[code]]), reason


@pytest.mark.parametrize("code", sorted(errors.CODES, key=lambda code: code.name))
def test_an_unknown_reason_falls_back_to_its_code(code: grpc.StatusCode) -> None:
    error = _status.error_from(refusal(info("SOMETHING_NEW"), code=code.value[0]))
    assert type(error) is errors.CODES[code]
    assert error.reason == "SOMETHING_NEW"


def test_an_unknown_code_is_the_base_class() -> None:
    assert type(_status.error_from(status_pb2.Status(code=15))) is penstock.PenstockError


def test_violations_come_from_every_kind_of_detail() -> None:
    error = _status.error_from(
        refusal(
            info("INVALID_FIELD"),
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field="task.type", description="a")
                ]
            ),
            error_details_pb2.QuotaFailure(
                violations=[error_details_pb2.QuotaFailure.Violation(subject="q", description="b")]
            ),
            error_details_pb2.PreconditionFailure(
                violations=[
                    error_details_pb2.PreconditionFailure.Violation(subject="p", description="c")
                ]
            ),
            error_details_pb2.ResourceInfo(resource_name="r", description="d"),
            error_details_pb2.Help(),
        )
    )
    assert error.violations == (
        errors.Violation("task.type", "a"),
        errors.Violation("q", "b"),
        errors.Violation("p", "c"),
        errors.Violation("r", "d"),
    )


def test_a_call_s_end_carries_details_and_push_back_in_its_trailers() -> None:
    status = refusal(info("QUEUE_FULL"))
    error = _status.from_status(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        message="full",
        trailers=(
            ("grpc-status-details-bin", status.SerializeToString()),
            ("grpc-retry-pushback-ms", "1500"),
        ),
    )
    assert isinstance(error, penstock.QueueFull)
    assert error.retry_after_seconds == 1.5


def test_a_negative_push_back_forbids_what_the_details_would_allow() -> None:
    status = refusal(
        info("QUEUE_FULL"),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1)),
    )
    error = _status.from_status(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        message="full",
        trailers=(
            ("grpc-retry-pushback-ms", "-1"),
            ("grpc-status-details-bin", status.SerializeToString()),
        ),
    )
    assert error.retry_after_seconds is None


@pytest.mark.parametrize("damaged", [b"\xff\xff\xff", b"\x08"])
def test_damaged_details_do_not_hide_the_refusal(damaged: bytes) -> None:
    error = _status.from_status(
        code=grpc.StatusCode.NOT_FOUND,
        message="gone",
        trailers=(("grpc-status-details-bin", damaged), ("grpc-retry-pushback-ms", "soon")),
    )
    assert type(error) is errors.NotFound
    assert error.message == "gone"


def test_one_damaged_detail_leaves_the_others() -> None:
    status = refusal(info("QUEUE_FULL"))
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff")
    status.details.append(broken)
    assert isinstance(_status.error_from(status), errors.QueueFull)


@pytest.mark.parametrize(
    ("said", "seconds"), [("12.5s", 12.5), ("3", 3.0), ("soon", None), (None, None)]
)
def test_the_estimate_of_an_unreachable_deadline(said: str | None, seconds: float | None) -> None:
    metadata = {} if said is None else {"estimated_wait": said}
    error = errors.DeadlineUnreachable("late", metadata=metadata)
    assert error.estimated_wait_seconds == seconds


def test_errors_survive_pickling() -> None:
    error = errors.QueueFull(
        "full", reason="QUEUE_FULL", retry_after_seconds=2.0, metadata={"pool": "p"}
    )
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.QueueFull
    assert vars(copy) == vars(error)
    timeout = pickle.loads(pickle.dumps(errors.WaitTimeout("late", task=None)))
    assert isinstance(timeout, TimeoutError)
    assert timeout.message == "late"


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (task_pb2.Task.SUCCEEDED, None),
        (task_pb2.Task.FAILED, errors.TaskFailed),
        (task_pb2.Task.DEAD_LETTERED, errors.TaskDeadLettered),
        (task_pb2.Task.CANCELLED, errors.TaskCancelled),
        (task_pb2.Task.EXPIRED, errors.TaskExpired),
    ],
)
def test_a_task_that_is_over_says_why_it_has_no_result(
    state: task_pb2.Task.State.ValueType, kind: type[errors.TaskError] | None
) -> None:
    message = task_pb2.Task(name="namespaces/a/pools/b/tasks/c", state=state, attempt=3)
    message.error.CopyFrom(refusal(info("ValueError"), code=2, message="not a picture"))
    failure = _calls.failure_of(_task.from_wire(message))
    if kind is None:
        assert failure is None
        return
    assert type(failure) is kind
    assert failure.task is not None
    assert failure.task.name == message.name
    if issubclass(kind, errors.TaskFailed):
        assert failure.reason == "ValueError"
        assert "attempt 3: ValueError: not a picture" in str(failure)
