"""Whether there is room for more tasks: bounds on what waits in one pool, and the refusals.

A pool bounds its waiting tasks, their payload bytes, and, if it wants, the waiting tasks of each
fairness key; tasks without a key share the bound of the empty key. All pools together have a budget
of memory (see `budget`). All are exact: nothing is refused while there is room.
"""

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from penstock_dispatcher.core import admission, budget, settings
from penstock_dispatcher.core import task as tasks

if TYPE_CHECKING:
    from penstock_dispatcher.core import ledger

_Reason = admission.AdmissionReason
NEVER_IN_TIME: Final = "leaves no time to start: schedule_time must come before expire_time"
_MIB: Final = 1024 * 1024


def never_fits(
    wanted: tasks.Submission, config: settings.PoolSettings
) -> admission.Admission | None:
    """The refusal of what could not be taken, or not be run, however much room there were."""
    if wanted.size > config.max_payload_bytes:
        text = f"payload has {wanted.size} bytes, the pool takes at most {config.max_payload_bytes}"
        return admission.Admission(_Reason.PAYLOAD_TOO_LARGE, wanted.task_id, message=text)
    if 0 < config.slots_per_worker < wanted.slots:
        text = (
            f"the task takes {wanted.slots} slots, a worker of this pool has"
            f" {config.slots_per_worker}: ask for fewer, or give the workers more"
        )
        return admission.Admission(_Reason.UNSCHEDULABLE, wanted.task_id, message=text)
    if 0 < wanted.expire_time <= wanted.not_before:
        text = f"expire_time {NEVER_IN_TIME}"
        return admission.Admission(_Reason.UNSCHEDULABLE, wanted.task_id, message=text)
    return None


def never_fit_together(
    new: Sequence[tasks.Submission], config: settings.PoolSettings
) -> admission.Admission | None:
    """The refusal of tasks that would come together, and are too many or too large for an empty
    pool.
    """
    text, size = "", sum(wanted.size for wanted in new)
    if len(new) > config.max_pending:
        text = f"{len(new)} tasks, the pool holds at most {config.max_pending} (max_pending)"
    elif size > config.max_pending_bytes:
        bound = config.max_pending_bytes
        text = f"{size} payload bytes, the pool holds at most {bound} (max_pending_bytes)"
    elif config.max_pending_per_key:
        key, most = collections.Counter(wanted.fairness_key for wanted in new).most_common(1)[0]
        bound = config.max_pending_per_key
        if most > bound:
            text = (
                f"{most} tasks {_whose(key)}, the pool holds at most {bound} (max_pending_per_key)"
            )
    if not text:
        return None
    return admission.Admission(
        _Reason.UNSCHEDULABLE,
        new[0].task_id,
        message=f"the batch, which is all or nothing, has {text}: send smaller ones",
    )


def no_room(
    new: Sequence[tasks.Submission],
    *,
    book: "ledger.Ledger",
    config: settings.PoolSettings,
    now: int,
    ahead: int = 0,
) -> admission.Admission | None:
    """The refusal of these tasks (at least one), which would come together; None = there is room
    for all. It names the task that finds no room, or the first one where the pool has none.
    `ahead`: callers who wait for room already.
    """
    size, taken = new[0].size, memory_bytes(new[0])
    for wanted in new[1:]:
        size += wanted.size
        taken += memory_bytes(wanted)
    text, places = "", 1
    if book.waiting + len(new) > config.max_pending:
        text = f"{book.waiting} tasks are waiting, the bound is {config.max_pending}"
        places = book.waiting + len(new) - config.max_pending
    elif book.waiting_bytes + size > config.max_pending_bytes:
        bound = config.max_pending_bytes
        text = (
            f"{book.waiting_bytes} payload bytes are waiting, {size} more would be beyond the bound"
            f" of {bound}"
        )
    elif not book.memory.budget.has_room(taken):
        return admission.Admission(
            _Reason.QUEUE_FULL,
            new[0].task_id,
            message=no_memory(book.memory.budget, taken),
            # Nobody knows which pool will give some back, and when.
            retry_after_ns=max(book.retry_after_ns(now), admission.RETRY_AFTER_UNKNOWN_NS),
        )
    if text:
        delay = book.retry_after_ns(now, ahead + places)
        return admission.Admission(
            _Reason.QUEUE_FULL, new[0].task_id, message=text, retry_after_ns=delay
        )
    if not config.max_pending_per_key:
        return None
    coming: dict[str, int] = {}
    for wanted in new:
        key = wanted.fairness_key
        coming[key] = coming.get(key, 0) + 1
        if book.by_key.of(key) + coming[key] > config.max_pending_per_key:
            return _key_full(wanted, book=book, config=config, now=now)
    return None


def memory_bytes(wanted: tasks.Submission) -> int:
    """What the task would take of the budget."""
    return budget.task_bytes(len(wanted.body))


def no_memory(memory: budget.Budget, wanted: int) -> str:
    """Why there is no room for so many bytes."""
    limit = f"{memory.limit // _MIB} MiB (--task-memory)"
    if wanted > memory.limit:
        return f"{-(-wanted // _MIB)} MiB at once are more than the memory for tasks, {limit}"
    return (
        f"the memory for tasks is full: waiting and running tasks of all pools, dead letters and"
        f" request ids take {memory.stays // 1024:,} KiB of {limit}: give the dispatcher more"
        " memory, or bound its pools (max_pending, max_pending_bytes, max_dead_letters)"
    )


def key_has_room(key: str, *, book: "ledger.Ledger", config: settings.PoolSettings) -> bool:
    """One more task of that fairness key would be within its bound."""
    return not config.max_pending_per_key or book.by_key.of(key) < config.max_pending_per_key


def _whose(key: str) -> str:
    return f"of the fairness key {key!r}" if key else "without a fairness key"


def _key_full(
    wanted: tasks.Submission,
    *,
    book: "ledger.Ledger",
    config: settings.PoolSettings,
    now: int,
) -> admission.Admission:
    key = wanted.fairness_key
    waiting = book.by_key.of(key)
    return admission.Admission(
        _Reason.KEY_QUEUE_FULL,
        wanted.task_id,
        message=f"{waiting} tasks {_whose(key)} are waiting,"
        f" the bound for each key is {config.max_pending_per_key}",
        retry_after_ns=book.forecast.key_retry_after_ns(key, now),
        key=key,
    )
