"""A disk for simulated dispatchers: what was synced is there after a crash, and nothing else is.

It checks what every journal relies on: a sequence number is used once, nothing becomes of a task
that is not there, an outcome is recorded once, and no number is too large for a row.
"""

import itertools
from collections.abc import Iterable

from penstock_dispatcher.core import records
from penstock_dispatcher.journal import interface

Change = records.TaskRequeued | records.TaskCancelling | records.TaskEnded
_Fate = records.TaskEnded | records.TaskRedriven


class Disk:
    """Records of one pool in their order. `synced` survive a crash; a prefix of the others may."""

    def __init__(self, uid: str) -> None:
        self._uid = uid
        self.synced: list[records.Record] = []
        self.epoch = 0

    def sync(self, batch: Iterable[records.Record]) -> None:
        """Make records durable. A recorded outcome is never recorded again."""
        whole = (each.parts if isinstance(each, records.TaskMoved) else (each,) for each in batch)
        for record in itertools.chain.from_iterable(whole):
            for value in record:
                assert not isinstance(value, int) or abs(value) < 2**63, f"not for a disk: {record}"
            if record[0] != self._uid:
                continue  # nobody looks at the neighbours' afterwards
            if isinstance(record, Change):
                assert record.sequence not in self.ended(), f"recorded twice: {record}"
            self.synced.append(record)

    def ended(self) -> dict[int, records.TaskEnded]:
        """Recorded outcomes by sequence, but for those of tasks that were queued again."""
        last = {record.sequence: record for record in self.synced if isinstance(record, _Fate)}
        return {
            sequence: record
            for sequence, record in last.items()
            if isinstance(record, records.TaskEnded)
        }

    def stored_tasks(self) -> list[interface.StoredTask]:
        """Every task with the last thing that became of it."""
        accepted: dict[int, records.TaskAccepted] = {}
        change: dict[int, Change] = {}
        for record in self.synced:
            if isinstance(record, records.TaskAccepted):
                assert record.sequence not in accepted, "a sequence number is used once"
                accepted[record.sequence] = record
            elif isinstance(record, Change):
                assert record.sequence in accepted, "nothing becomes of a task that is not there"
                change[record.sequence] = record
            elif isinstance(record, records.TaskRedriven):
                accepted[record.sequence] = accepted[record.sequence]._replace(
                    token_min=record.token_min, expire_time=0
                )
                change[record.sequence] = records.TaskRequeued(
                    self._uid, record.sequence, record.task_id, 0, 0, 0, record.failure
                )
            elif isinstance(record, records.TaskDeleted):
                del accepted[record.sequence]
        return [
            interface.StoredTask(number, record, change.get(number))
            for number, record in accepted.items()
        ]

    def sessions(self) -> dict[str, str]:
        """Sessions that may run something: session id → pod UID."""
        found: dict[str, str] = {}
        for record in self.synced:
            if isinstance(record, records.SessionOpened):
                found[record.session_id] = record.pod_uid
            elif isinstance(record, records.SessionClosed):
                found.pop(record.session_id, None)
        return found

    def tombstones(self) -> list[str]:
        """Drained pods."""
        found: dict[str, None] = {}
        for record in self.synced:
            if isinstance(record, records.WorkerDrained):
                found[record.pod_uid] = None
            elif isinstance(record, records.WorkerForgotten):
                found.pop(record.pod_uid, None)
        return list(found)
