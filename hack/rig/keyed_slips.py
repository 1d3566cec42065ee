"""Methods with a bug in each, of what concerns keys, sizes, terms and checkpoints; see
`rig.bugs` and `rig.slips`.
"""

import dataclasses
from typing import Any

from penstock_dispatcher.core import (
    control,
    effects,
    flows,
    heads,
    key_counts,
    key_rates,
    lanes,
    ledger,
    waiting_room,
)
from penstock_dispatcher.core import task as tasks
from penstock_dispatcher.core import workers as working

# ------------------------------------------------------------ the journal


def forget_checkpoints(right: Any) -> Any:
    def restore(self: ledger.Ledger, task: tasks.Task, *given: Any) -> None:
        task.keep_checkpoint(b"")
        right(self, task, *given)

    return restore


def assign_without_checkpoint(right: Any) -> Any:
    def assignment(prefix: bytes, task: tasks.Task, *given: Any) -> Any:
        kept, task.checkpoint = task.checkpoint, b""
        try:
            return right(prefix, task, *given)
        finally:
            task.checkpoint = kept

    return assignment


def unwritten_update(_: Any) -> Any:
    def update(book: ledger.Ledger, task: tasks.Task, wanted: control.Terms, _: int) -> None:
        previous, held = task.state, task.place is tasks.Place.HELD
        if not held:
            book.withdraw(task)
        if wanted.schedule_time != task.schedule_time:
            task.schedule_time = task.not_before = wanted.schedule_time
        task.priority, task.expire_time = wanted.priority, wanted.expire_time
        if not held:
            book.commit_then_queue(task, effects.TaskChanged(task, previous, task.state))

    return update


# ------------------------------------------------------------ bounds, rates, caps


def one_more_of_a_key(right: Any) -> Any:
    def look_at_lane(self: lanes.Lanes, lane: Any) -> heads.Place | None:
        kept = self._cap
        if kept:
            self._cap += 1
        try:
            place: heads.Place | None = right(self, lane)
            return place
        finally:
            self._cap = kept

    return look_at_lane


def full_again(right: Any) -> Any:
    def init(self: key_rates.KeyRates, *given: Any, **named: Any) -> None:
        right(self, *given, **{**named, "full": True})

    return init


def key_full_but_one(right: Any) -> Any:
    def no_room(new: Any, *, book: ledger.Ledger, config: Any, now: int) -> Any:
        if config.max_pending_per_key and book.committing:
            more = config.max_pending_per_key + 1
            config = dataclasses.replace(config, max_pending_per_key=more)
        return right(new, book=book, config=config, now=now)

    return no_room


def forget_freed_keys(right: Any) -> Any:
    def best(self: waiting_room.WaitingRoom, config: Any) -> Any:
        self._book.by_key.take_freed()
        return right(self, config)

    return best


# ------------------------------------------------------------ order and room


def one_slot_each(right: Any) -> Any:
    def pick(self: working.WorkerTable, type_: str, *_: int) -> Any:
        return right(self, type_)

    return pick


def never_unpark(right: Any) -> Any:
    def wake(self: lanes.Lanes, now: int) -> None:
        kept, self._in_flight = self._in_flight, key_counts.KeyCounts()
        try:
            right(self, now)
        finally:
            self._in_flight = kept

    return wake


def never_age(right: Any) -> Any:
    def rank(task: tasks.Task, *_: int) -> Any:
        return right(task, 0)

    return rank


def turns_before_priorities(right: Any) -> Any:
    def place(flow: flows.Flow, entry: Any) -> heads.Place:
        whole: heads.Place = right(flow, entry)
        return whole if flow.share is None else (0, *whole[1:])

    return place
