"""A disk for simulated dispatchers: what was synced is there after a crash, and nothing else is.

It checks what every journal relies on: a sequence number is used once, nothing becomes of a task
that is not there, an outcome is recorded once, and no number is too large for a row. What was ever
written is remembered too, for those who were told of it.
"""

import itertools
from collections.abc import Iterable

from penstock_dispatcher.core import idempotency, records
from penstock_dispatcher.journal import interface

Change = records.TaskRequeued | records.TaskCancelling | records.TaskEnded


class Disk:
    """Tables of one pool, as records left them, in order."""

    def __init__(self, uid: str) -> None:
        self._uid = uid
        self.epoch = 0
        self.latched = records.PoolLatched(uid, False, 0)
        self.accepted_ever: set[int] = set()
        """Sequence numbers. The other sets say so of tasks that ended, or were to be stopped."""
        self.ended_ever: set[int] = set()
        self.stopped_ever: set[int] = set()
        self.sessions_ever: set[str] = set()
        self.requests: dict[str, records.TaskAccepted] = {}
        self._tasks: dict[int, tuple[records.TaskAccepted, Change | None]] = {}
        self._checkpoints: dict[int, bytes] = {}
        self._sessions: dict[str, str] = {}
        self._tombstones: dict[str, None] = {}

    def sync(self, batch: Iterable[records.Record]) -> None:
        """Make records durable. A recorded outcome is never recorded again."""
        whole = (each.parts if isinstance(each, records.TaskMoved) else (each,) for each in batch)
        for record in itertools.chain.from_iterable(whole):
            for value in record:
                assert not isinstance(value, int) or abs(value) < 2**63, f"not for a disk: {record}"
            if record[0] == self._uid:  # nobody looks at the neighbours' afterwards
                self._write(record)

    def _write(self, record: records.Record) -> None:
        match record:
            case records.TaskAccepted():
                assert record.sequence not in self.accepted_ever, "a sequence number is used once"
                self.accepted_ever.add(record.sequence)
                self._tasks[record.sequence] = record, None
                if record.request_id:
                    self.requests[record.request_id] = record
            case records.TaskRequeued() | records.TaskCancelling() | records.TaskEnded():
                self._change(record)
            case records.TaskRedriven():
                accepted, _ = self._tasks[record.sequence]
                self._tasks[record.sequence] = (
                    accepted._replace(token_min=record.token_min, not_before=0, expire_time=0),
                    records.TaskRequeued(
                        self._uid, record.sequence, record.task_id, 0, 0, 0, record.failure
                    ),
                )
            case records.TaskUpdated():
                self._update(record)
            case records.TaskCheckpointed():
                _, change = self._tasks[record.sequence]
                assert not isinstance(change, records.TaskEnded), "no attempt of it is to come"
                self._checkpoints[record.sequence] = record.checkpoint
            case records.TaskDeleted():
                del self._tasks[record.sequence]
                self._checkpoints.pop(record.sequence, None)
            case records.RequestForgotten():
                self.requests.pop(record.request_id, None)
            case records.SessionOpened():
                self.sessions_ever.add(record.session_id)
                self._sessions[record.session_id] = record.pod_uid
            case records.SessionClosed():
                self._sessions.pop(record.session_id, None)
            case records.WorkerDrained():
                self._tombstones[record.pod_uid] = None
            case records.WorkerForgotten():
                self._tombstones.pop(record.pod_uid, None)
            case records.PoolLatched():
                self.latched = record
            case _:
                raise AssertionError(f"no table is known for {record}")

    def _change(self, record: Change) -> None:
        assert record.sequence in self._tasks, "nothing becomes of a task that is not there"
        accepted, earlier = self._tasks[record.sequence]
        assert not isinstance(earlier, records.TaskEnded), f"recorded twice: {record}"
        self._tasks[record.sequence] = accepted, record
        if isinstance(record, records.TaskEnded):
            self._checkpoints.pop(record.sequence, None)
            self.ended_ever.add(record.sequence)
            self.stopped_ever.add(record.sequence)
        elif isinstance(record, records.TaskCancelling):
            self.stopped_ever.add(record.sequence)

    def _update(self, record: records.TaskUpdated) -> None:
        accepted, change = self._tasks[record.sequence]
        if isinstance(change, records.TaskRequeued):
            change = change._replace(not_before=record.not_before)
        accepted = accepted._replace(
            priority=record.priority,
            not_before=record.schedule_time,
            expire_time=record.expire_time,
        )
        self._tasks[record.sequence] = accepted, change

    def ended(self) -> dict[int, records.TaskEnded]:
        """Recorded outcomes by sequence, but for those of tasks that were queued again."""
        return {
            sequence: change
            for sequence, (_, change) in self._tasks.items()
            if isinstance(change, records.TaskEnded)
        }

    def stored_tasks(self) -> list[interface.StoredTask]:
        """Every task with the last thing that became of it."""
        return [
            interface.StoredTask(sequence, accepted, change, self._checkpoints.get(sequence, b""))
            for sequence, (accepted, change) in self._tasks.items()
        ]

    def checkpoint(self, sequence: int) -> bytes:
        """What the task's next attempt begins with after a crash; empty = from the beginning."""
        return self._checkpoints.get(sequence, b"")

    def outlived(self) -> list[tuple[str, idempotency.Request]]:
        """What was asked under each request id whose task is not there any more."""
        return [
            (request_id, _request(accepted))
            for request_id, accepted in self.requests.items()
            if accepted.sequence not in self._tasks
        ]

    def sessions(self) -> dict[str, str]:
        """Sessions that may run something: session id → pod UID."""
        return dict(self._sessions)

    def tombstones(self) -> dict[str, None]:
        """Drained pods."""
        return self._tombstones


def _request(accepted: records.TaskAccepted) -> idempotency.Request:
    return idempotency.Request(
        accepted.sequence, accepted.task_id, accepted.fingerprint, accepted.create_time
    )
