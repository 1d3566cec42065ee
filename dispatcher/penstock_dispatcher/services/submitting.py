"""Admission for TaskService: one request, a batch, or a stream of batches.

What all have in common: decide at once, in order; keep silent until the last accepted record is
durable; then answer each request with its own outcome. Only a request of its own may wait for room:
a batch that waited would hold up what it has decided already, and its answers.
"""

import dataclasses
from collections.abc import Sequence, Sized
from typing import Final

from penstock.v1 import task_pb2, task_service_pb2
from penstock_dispatcher import auth, errors, pump
from penstock_dispatcher.convert import frames, names, plain, submission, task_view
from penstock_dispatcher.core import admission, settings, units
from penstock_dispatcher.core import pool as pools
from penstock_dispatcher.core import task as tasks

BATCH_REQUESTS_MAX: Final = 1_000
ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
"""An answer that would be larger names its tasks, and says no more of them: what was accepted must
not be made unknown by an answer that cannot be sent."""
_REQUEST_ID_MAX: Final = submission.REQUEST_ID_CHARS_MAX
# By name in an Enum they are found anew each time.
_DUPLICATE: Final = admission.AdmissionReason.DUPLICATE
_Decision = admission.Admission | errors.Refusal
_Batch = task_service_pb2.BatchSubmitTasksRequest


@dataclasses.dataclass(frozen=True, slots=True)
class Decided:
    """A batch that was decided. `lsn`: be silent until it is durable."""

    pool: pools.Pool
    request_ids: Sequence[str]
    decisions: Sequence[_Decision]
    lsn: int


class Submitting:
    """Decides and answers; knows no calls."""

    def __init__(self, pump_: pump.Pump) -> None:
        self._pump = pump_
        self._ids = submission.TaskIds()

    def pool_of(self, parent: str) -> pools.Pool:
        """The pool to submit to. Raises Refusal."""
        pool = self._pump.registry.named(parent)
        auth.check_namespace(names.namespace_of(parent))
        return pool

    def read_batch(self, message: bytes) -> task_service_pb2.BatchSubmitTasksRequest | plain.Batch:
        """A serialized BatchSubmitTasksRequest. Raises DecodeError."""
        return plain.batch(message, self._ids) or _Batch.FromString(message)

    # ------------------------------------------------------------ deciding

    def validate(
        self, pool: pools.Pool, request: task_service_pb2.SubmitTaskRequest
    ) -> task_service_pb2.SubmitTaskResponse:
        """Check everything, admit nothing. Raises Refusal."""
        wanted = self._wanted(pool, request)
        judged = pool.judge(wanted, self._pump.now())
        if judged is not None and not judged.admitted:
            full = judged.reason in admission.NO_ROOM
            # Whether a caller would wait in vain cannot be told.
            if not (full and submission.waits(request)):
                raise refusal_of(judged, pool)
        return task_service_pb2.SubmitTaskResponse(task=_without_payload(request.task))

    def _wanted(
        self, pool: pools.Pool, request: task_service_pb2.SubmitTaskRequest
    ) -> tasks.Submission:
        wanted = submission.submission(request, pool.config, self._ids)
        if request.HasField("max_queue_time"):
            wanted.start_by = submission.start_by(request, self._pump.now())
        return wanted

    async def decide_one(
        self, pool: pools.Pool, request: task_service_pb2.SubmitTaskRequest
    ) -> admission.Admission:
        """One request, which may wait for room. Raises Refusal unless it is admitted."""
        wanted = self._wanted(pool, request)
        if submission.waits(request):
            _without_payload(request.task)  # or it would be kept twice while the call waits
            wait_ns = submission.wait_ns(request, pool.config)
            decision = await self._pump.submit_or_wait(pool, wanted, wait_ns)
        else:
            decision = pool.submit(wanted, self._pump.now())
            self._pump.mark(pool)
        if not decision.admitted:
            raise refusal_of(decision, pool)
        return decision

    def _of_batch(
        self, pool: pools.Pool, request: task_service_pb2.SubmitTaskRequest
    ) -> tasks.Submission:
        if request.parent and request.parent != pool.name:
            raise errors.invalid("parent", f"must be the batch's, {pool.name}, or empty")
        if submission.waits(request):
            raise errors.invalid(
                "admission", "must not be WAIT in a batch: submit a task by itself to wait for room"
            )
        return self._wanted(pool, request)

    def _of_batch_or_refused(
        self, pool: pools.Pool, request: task_service_pb2.SubmitTaskRequest
    ) -> tasks.Submission | errors.Refusal:
        try:
            return self._of_batch(pool, request)
        except errors.Refusal as refusal:
            return refusal

    def decide(
        self, pool: pools.Pool, requests: Sequence[task_service_pb2.SubmitTaskRequest]
    ) -> Decided:
        """Each request by itself."""
        asked = [self._of_batch_or_refused(pool, request) for request in requests]
        # One that is too long is among those that are refused.
        request_ids = [request.request_id[:_REQUEST_ID_MAX] for request in requests]
        return self._decide_each(pool, request_ids, asked)

    def decide_plainly(self, pool: pools.Pool, batch: plain.Batch) -> Decided:
        """The same; nothing is wrong with what is plain."""
        request_ids = [wanted.request_id for wanted in batch.wanted]
        return self._decide_each(pool, request_ids, batch.wanted)

    def _decide_each(
        self,
        pool: pools.Pool,
        request_ids: Sequence[str],
        asked: Sequence[tasks.Submission | errors.Refusal],
    ) -> Decided:
        now = self._pump.now()
        decisions: list[_Decision] = []
        lsn = 0
        self._pump.mark(pool)  # first: a fault in one submission must not strand those before it
        for wanted in asked:
            if isinstance(wanted, errors.Refusal):
                decisions.append(wanted)
                continue
            decision = pool.submit(wanted, now)
            lsn = max(lsn, decision.lsn)
            decisions.append(decision)
        return Decided(pool, request_ids, decisions, lsn)

    def decide_atomically(
        self, pool: pools.Pool, requests: Sequence[task_service_pb2.SubmitTaskRequest]
    ) -> Decided:
        """All or none. Raises Refusal if a field of any is bad."""
        found: list[settings.Violation] = []
        wanted: list[tasks.Submission] = []
        for number, request in enumerate(requests):
            try:
                wanted.append(self._of_batch(pool, request))
            except errors.Refusal as refusal:
                found.extend(
                    settings.Violation(f"requests[{number}].{bad.field}", bad.description)
                    for bad in refusal.details.fields
                )
        if found:
            raise errors.invalid_fields(found)
        decisions = pool.submit_atomically(wanted, self._pump.now())
        self._pump.mark(pool)
        lsn = max((decision.lsn for decision in decisions), default=0)
        return Decided(pool, [each.request_id for each in wanted], decisions, lsn)

    # ------------------------------------------------------------ answering

    def answer(self, pool: pools.Pool, decision: admission.Admission) -> bytes:
        """The answer to a request that was admitted, once that is durable: a serialized
        SubmitTaskResponse.
        """
        return _answer(pool, _prefix(pool), decision, brief=False)

    def outcomes(self, decided: Decided) -> bytes:
        """The answers to a batch, once it is durable: a serialized BatchSubmitTasksResponse."""
        answers = _outcomes(decided, brief=False)
        if sum(map(len, answers)) > ANSWER_BYTES_MAX:
            answers = _outcomes(decided, brief=True)
        return b"".join(answers)


def _prefix(pool: pools.Pool) -> bytes:
    return f"{pool.name}/tasks/".encode()


def _outcomes(decided: Decided, *, brief: bool) -> list[bytes]:
    pool, prefix = decided.pool, _prefix(decided.pool)
    answers = []
    for request_id, decision in zip(decided.request_ids, decided.decisions, strict=True):
        if isinstance(decision, errors.Refusal):
            error = decision.status().SerializeToString()
            answers.append(frames.submit_error(request_id, error))
        elif decision.admitted:
            response = _answer(pool, prefix, decision, brief=brief)
            answers.append(frames.submit_response(request_id, response))
        else:
            error = refusal_of(decision, pool).status().SerializeToString()
            answers.append(frames.submit_error(request_id, error))
    return answers


def _answer(
    pool: pools.Pool,
    prefix: bytes,
    decision: admission.Admission,
    *,
    brief: bool,
) -> bytes:
    if decision.reason is _DUPLICATE:
        return _duplicate(pool, decision, brief=brief).SerializeToString()
    assert decision.task is not None, "an accepted task is there"
    return frames.accepted(b"" if brief else _shown(decision.task), prefix, decision.task)


def _shown(task: tasks.Task) -> bytes:
    """What its caller said of it, without the payload."""
    return frames.without(task.body, task_view.PAYLOAD)


def _duplicate(
    pool: pools.Pool, decision: admission.Admission, *, brief: bool
) -> task_service_pb2.SubmitTaskResponse:
    task = decision.task
    if task is None:
        shown = task_pb2.Task(name=f"{pool.name}/tasks/{decision.task_id}")
    else:
        shown = task_view.view(task, pool.name, payload=False, result=False)
        if brief:
            shown = task_pb2.Task(name=shown.name, uid=shown.uid, state=shown.state)
    return task_service_pb2.SubmitTaskResponse(task=shown, deduplicated=True)


def _without_payload(task: task_pb2.Task) -> task_pb2.Task:
    task.ClearField("payload")
    return task


def check_length(requests: Sized) -> None:
    """Raises Refusal if the batch is too long."""
    if len(requests) > BATCH_REQUESTS_MAX:
        raise errors.invalid("requests", f"must be at most {BATCH_REQUESTS_MAX}")


def check_batch(request: task_service_pb2.BatchSubmitTasksRequest) -> None:
    """The same, or if it tries what only a single request may."""
    check_length(request.requests)
    for number, single in enumerate(request.requests):
        if single.validate_only:
            raise errors.invalid(f"requests[{number}].validate_only", "must be unset in a batch")


def check_admits(pool: pools.Pool, task_id: str = "") -> None:
    """Raises Refusal if the pool takes no task at all, `task_id` or any."""
    refusal = pool.shut(task_id)
    if refusal is not None:
        raise refusal_of(refusal, pool)


def refusal_of(decision: admission.Admission, pool: pools.Pool) -> errors.Refusal:
    """A core's refusal, as it travels."""
    reason = errors.Reason(decision.reason.value)
    details = errors.Details()
    match decision.reason:
        case admission.AdmissionReason.QUEUE_FULL:
            details = errors.Details(
                quota_subject=pool.name, retry_after_ns=decision.retry_after_ns
            )
        case admission.AdmissionReason.KEY_QUEUE_FULL:
            details = errors.Details(
                # Tasks without a key have the pool's name to go by.
                quota_subject=decision.key or pool.name,
                retry_after_ns=decision.retry_after_ns,
            )
        case (
            admission.AdmissionReason.TOO_MANY_WAITERS | admission.AdmissionReason.ADMISSION_TIMEOUT
        ):
            details = errors.Details(retry_after_ns=decision.retry_after_ns)
        case admission.AdmissionReason.DEADLINE_UNREACHABLE:
            seconds = decision.estimated_wait_ns / units.SECOND
            details = errors.Details(
                retry_after_ns=decision.retry_after_ns,
                metadata=(("estimated_wait", f"{seconds:.3f}s"),) if seconds >= 0 else (),
            )
        case admission.AdmissionReason.PAYLOAD_TOO_LARGE:
            bad = settings.Violation("task.payload", decision.message)
            details = errors.Details(fields=(bad,))
        case admission.AdmissionReason.TASK_EXISTS:
            name = f"{pool.name}/tasks/{decision.task_id}"
            details = errors.Details(resource=("penstock.dev/Task", name))
        case admission.AdmissionReason.POOL_CLOSED | admission.AdmissionReason.UNSCHEDULABLE:
            details = errors.Details(precondition_subject=pool.name)
        case admission.AdmissionReason.DRAINING:
            details = errors.Details(retry_after_ns=errors.RETRY_AFTER_START_NS)
        case _:
            pass
    return errors.Refusal(reason, decision.message, details)
