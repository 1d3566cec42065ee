"""What workers say: Hello and outcomes, checked, into the core's values; what a Hello is answered
with; and workers as people see them.
"""

import contextlib
from typing import Final

from google.protobuf import message
from google.rpc import error_details_pb2

from penstock.v1 import pool_service_pb2, task_pb2, worker_service_pb2
from penstock_dispatcher import errors
from penstock_dispatcher.convert import names, times
from penstock_dispatcher.core import effects, outcome, settings, workers
from penstock_dispatcher.core import task as tasks

PROTOCOL_VERSION: Final = 1
SLOTS_MAX: Final = settings.SLOTS_MAX
TYPES_MAX: Final = 1_000
TYPE_CHARS_MAX: Final = 128
RUNNING_MAX: Final = 100_000
ID_CHARS_MAX: Final = 253
TASK_NAME_CHARS_MAX: Final = 256
REASON_CHARS_MAX: Final = 256
MESSAGE_CHARS_MAX: Final = 4096
TASKS_SHOWN_MAX: Final = 100
ERROR_BYTES_MAX: Final = 64 * 1024
RESULT_BYTES_MAX: Final = 4 * 1024 * 1024
CONTENT_TYPE_CHARS_MAX: Final = 256
CHECKPOINT_BYTES_MAX: Final = 64 * 1024
PROGRESS_MESSAGE_BYTES_MAX: Final = 1024
RESULT_TOO_LARGE: Final = "RESULT_TOO_LARGE"
CODE_RESOURCE_EXHAUSTED: Final = 8

_Kind = outcome.OutcomeKind
# By name in an Enum they are found anew each time.
_COMPLETED: Final = _Kind.COMPLETED


def check_hello(hello: worker_service_pb2.Hello) -> None:
    """Raises Refusal naming every bad field."""
    found: list[settings.Violation] = []

    def want(condition: bool, field: str, description: str) -> None:
        if not condition:
            found.append(settings.Violation(f"hello.{field}", description))

    names.check_pool(hello.pool, "hello.pool")
    want(
        hello.protocol_version == PROTOCOL_VERSION,
        "protocol_version",
        f"must be {PROTOCOL_VERSION}, is {hello.protocol_version}",
    )
    want(
        names.POD.fullmatch(hello.pod_name) is not None,
        "pod_name",
        f"must have 1 to {ID_CHARS_MAX} characters, no '/' and no control character among them",
    )
    want(
        1 <= len(hello.pod_uid) <= ID_CHARS_MAX,
        "pod_uid",
        f"must have 1 to {ID_CHARS_MAX} characters",
    )
    for field in ("session_id", "revision", "sdk_version", "pool_uid"):
        want(
            len(getattr(hello, field)) <= ID_CHARS_MAX,
            field,
            f"must have at most {ID_CHARS_MAX} characters",
        )
    want(1 <= hello.slots <= SLOTS_MAX, "slots", f"must be 1 to {SLOTS_MAX}, is {hello.slots}")
    want(len(hello.task_types) <= TYPES_MAX, "task_types", f"must be at most {TYPES_MAX}")
    want(
        all(len(type_) <= TYPE_CHARS_MAX for type_ in hello.task_types),
        "task_types",
        f"must have at most {TYPE_CHARS_MAX} characters each",
    )
    want(len(hello.running) <= RUNNING_MAX, "running", f"must be at most {RUNNING_MAX}")
    want(
        all(
            len(lease.task) <= TASK_NAME_CHARS_MAX and len(lease.lease_id) <= ID_CHARS_MAX
            for lease in hello.running
        ),
        "running",
        f"must name tasks of at most {TASK_NAME_CHARS_MAX} and leases of at most {ID_CHARS_MAX}"
        " characters",
    )
    if found:
        raise errors.invalid_fields(found)


def introduction(hello: worker_service_pb2.Hello, session_id: str) -> workers.Introduction:
    """A checked Hello as the core takes it. Leases whose task lies in another pool are left out,
    which revokes them nowhere: they were never this pool's.
    """
    prefix = f"{hello.pool}/tasks/"
    return workers.Introduction(
        session_id=session_id,
        pod_name=hello.pod_name,
        pod_uid=hello.pod_uid,
        slots=hello.slots,
        task_types=frozenset(hello.task_types),
        revision=hello.revision,
        sdk_version=hello.sdk_version,
        draining=hello.draining,
        running=tuple(
            workers.ClaimedLease(
                task_id=lease.task.removeprefix(prefix),
                lease_id=lease.lease_id,
                token=lease.fencing_token,
                attempt=lease.attempt,
                start_time=times.time_ns(lease.start_time),
            )
            for lease in hello.running
        ),
    )


def outcome_of(ended: worker_service_pb2.TaskOutcome) -> outcome.Outcome:
    """One outcome. Raises Refusal if it says nothing."""
    lease_id, token = ended.lease_id, ended.fencing_token
    execution_ns = times.duration_ns_within(ended.execution_time)
    match ended.WhichOneof("outcome"):
        case "completed":
            completed = ended.completed
            too_large = _too_large(completed)
            if too_large is not None:
                # Not a broken stream: the worker would send the same outcome again, for ever.
                return outcome.Outcome(
                    lease_id=lease_id,
                    token=token,
                    kind=_Kind.FAILED,
                    execution_time_ns=execution_ns,
                    failure=too_large,
                    retryable=False,
                )
            return outcome.Outcome(
                lease_id,
                token,
                _COMPLETED,
                execution_ns,
                completed.result,
                completed.content_type,
            )
        case "failed":
            failed = ended.failed
            delay = (
                times.duration_ns_within(failed.retry_delay)
                if failed.HasField("retry_delay")
                else None
            )
            return outcome.Outcome(
                lease_id=lease_id,
                token=token,
                kind=_Kind.LOST if failed.worker_loss else _Kind.FAILED,
                execution_time_ns=execution_ns,
                failure=_failure(failed),
                retryable=failed.retryable,
                retry_delay_ns=delay,
            )
        case "released":
            kind = _Kind.RELEASED
        case "cancelled":
            kind = _Kind.CANCELLED
        case _:
            raise errors.invalid("outcomes.outcome", "must be set")
    return outcome.Outcome(
        lease_id=lease_id, token=token, kind=kind, execution_time_ns=execution_ns
    )


def progress_of(frame: worker_service_pb2.TaskProgress, now: int) -> tuple[bytes, bytes]:
    """What people are shown (a serialized Progress; empty = nothing was told but a checkpoint), and
    the checkpoint. Raises Refusal.
    """
    told, found = frame.progress, list[settings.Violation]()
    if len(told.checkpoint) > CHECKPOINT_BYTES_MAX:
        found.append(
            settings.Violation(
                "progress.progress.checkpoint", f"must have at most {CHECKPOINT_BYTES_MAX} bytes"
            )
        )
    if len(told.message.encode()) > PROGRESS_MESSAGE_BYTES_MAX:
        found.append(
            settings.Violation(
                "progress.progress.message", f"must have at most {PROGRESS_MESSAGE_BYTES_MAX} bytes"
            )
        )
    if not 0 <= told.fraction <= 1:
        found.append(settings.Violation("progress.progress.fraction", "must be 0 to 1"))
    if found:
        raise errors.invalid_fields(found)
    if told.checkpoint and not told.fraction and not told.message:
        return b"", told.checkpoint
    shown = task_pb2.Progress(
        fraction=told.fraction, message=told.message, update_time=times.timestamp(now)
    )
    return shown.SerializeToString(), told.checkpoint


def _too_large(completed: worker_service_pb2.TaskOutcome.Completed) -> tasks.Failure | None:
    """Why the result cannot be kept, if it cannot."""
    size = len(completed.result)
    if size > RESULT_BYTES_MAX:
        text = (
            f"the result has {size} bytes, at most {RESULT_BYTES_MAX} are kept:"
            " return a reference to the data instead"
        )
    elif len(completed.content_type) > CONTENT_TYPE_CHARS_MAX:
        text = f"the result's content type has more than {CONTENT_TYPE_CHARS_MAX} characters"
    else:
        return None
    return tasks.Failure(CODE_RESOURCE_EXHAUSTED, RESULT_TOO_LARGE, text)


def _failure(failed: worker_service_pb2.TaskOutcome.Failed) -> tasks.Failure:
    status = failed.error
    reason = ""
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            # One that cannot be read is no reason to refuse the outcome.
            with contextlib.suppress(message.DecodeError):
                detail.Unpack(info)
            reason = info.reason[:REASON_CHARS_MAX]
            break
    kept = status.SerializeToString()
    if len(kept) > ERROR_BYTES_MAX:
        # The message alone, cut: a stack trace of megabytes helps nobody.
        kept = b""
    return tasks.Failure(
        status.code or outcome.CODE_UNKNOWN,
        reason or "UNKNOWN",
        status.message[:MESSAGE_CHARS_MAX],
        kept,
    )


def welcome(
    effect: effects.Welcomed, config: settings.PoolSettings, *, dispatcher_id: str, epoch: int
) -> worker_service_pb2.WorkResponse:
    """The first frame to a worker."""
    return worker_service_pb2.WorkResponse(
        welcome=worker_service_pb2.Welcome(
            session_id=effect.session_id,
            heartbeat_interval=times.duration(config.heartbeat_ns),
            lease_duration=times.duration(config.lease_ns),
            revoked_lease_ids=effect.revoked,
            dispatcher_id=dispatcher_id,
            dispatcher_epoch=epoch,
            cancel_grace=times.duration(config.cancel_grace_ns),
        )
    )


def worker_view(
    worker: workers.Worker, pool_name: str, *, gone: bool = False
) -> pool_service_pb2.Worker:
    """A session as the operator sees it: thousands of them are told at once."""
    shown = pool_service_pb2.Worker(
        name=f"{pool_name}/workers/{worker.pod_name}",
        state=worker.state.value,  # type: ignore[arg-type]
        pod_uid=worker.pod_uid,
        revision=worker.revision,
        slots_total=worker.slots,
        slots_used=worker.slots_used,
        last_heartbeat_time=times.timestamp_if(worker.last_heartbeat),
        connect_time=times.timestamp_if(worker.connect_time),
        sdk_version=worker.sdk_version,
        reservation_id=worker.reservation_id,
        gone=gone,
    )
    for lease in list(worker.leases.values())[:TASKS_SHOWN_MAX]:
        shown.tasks.append(f"{pool_name}/tasks/{lease.task.id}")
    if not worker.leases:
        shown.idle_since_time.CopyFrom(times.timestamp(worker.idle_since))
    return shown


def worker_in_full(worker: workers.Worker, pool_name: str) -> pool_service_pb2.Worker:
    """A session as people see it."""
    shown = worker_view(worker, pool_name)
    shown.task_types.extend(sorted(worker.task_types))
    return shown
