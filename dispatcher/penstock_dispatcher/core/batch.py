"""All or none: a batch that is admitted as a whole, or not at all.

Each submission is judged against the pool as it is, then against those before it in the batch: the
same request id asks for the same task once, and everything else must be told apart.
"""

import dataclasses
from collections.abc import Sequence

from penstock_dispatcher.core import admission, bounds, ledger, settings
from penstock_dispatcher.core import task as tasks

_Reason = admission.AdmissionReason
_Judged = admission.Admission | None


def refusals(
    batch: Sequence[tasks.Submission],
    judged: Sequence[_Judged],
    *,
    book: ledger.Ledger,
    config: settings.PoolSettings,
    now: int,
    ahead: int,
) -> list[admission.Admission]:
    """Empty = every one will be admitted, one after the other. Otherwise a refusal for each: its
    own, or that of the first which has one. `judged`: what each would be answered by itself, None =
    it would be accepted. `ahead`: callers who wait for room already.
    """
    new, found = _apart(batch, judged)
    first = next((answer for answer in found if answer is not None), None)
    if first is None:
        if new:
            first = bounds.never_fit_together(new, config) or bounds.no_room(
                new, book=book, config=config, now=now, ahead=ahead
            )
        if first is None:
            return []
    return [
        answer or dataclasses.replace(first, task_id=wanted.task_id)
        for wanted, answer in zip(batch, found, strict=True)
    ]


def _apart(
    batch: Sequence[tasks.Submission], judged: Sequence[_Judged]
) -> tuple[list[tasks.Submission], list[_Judged]]:
    """The submissions that would make a task each if there were room, and for each of the batch its
    refusal. Room is for all of them to find, together.
    """
    new: list[tasks.Submission] = []
    found: list[_Judged] = []
    requests: dict[str, tasks.Submission] = {}
    ids: set[str] = set()
    for wanted, answer in zip(batch, judged, strict=True):
        refusal: _Judged = None
        if answer is not None and answer.reason not in admission.NO_ROOM:
            refusal = None if answer.admitted else answer
        elif (earlier := requests.get(wanted.request_id)) is not None:
            if earlier.fingerprint != wanted.fingerprint:
                refusal = admission.Admission(
                    _Reason.REQUEST_ID_REUSED,
                    wanted.task_id,
                    message=f"the batch uses request_id {wanted.request_id} for different tasks",
                )
        elif wanted.task_id in ids:
            refusal = admission.Admission(
                _Reason.TASK_EXISTS,
                wanted.task_id,
                message=f"the batch names the task_id {wanted.task_id} twice",
            )
        else:
            new.append(wanted)
            ids.add(wanted.task_id)
            if wanted.request_id:
                requests[wanted.request_id] = wanted
        found.append(refusal)
    return new, found
