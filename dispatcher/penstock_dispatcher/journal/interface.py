"""What a journal is: few verbs, one writer, and the only place where `durable` is decided.

A journal keeps tables of live state, fed by the core's records in their order (`core.records`);
last one wins. `append` is answered when its records survive the loss of power, and not before.
Loading reads what is alive: pools first, then tasks in pages, so that neither side ever holds a
second copy of everything.

Verbs are done one at a time, in the order of the calls. Whoever implements one keeps blocking work
off the event loop: heartbeats go on while a disk is slow.

Two failures are told apart. `StorageFull`: nothing was written, the same records may be given
again when there is room. `JournalFailed`: what is on the disk is unknown, or not ours to use; the
process must end, and nothing may be retried (a second fsync after a failed one proves nothing).
"""

import dataclasses
from collections.abc import Awaitable, Sequence
from typing import Final, NamedTuple, Protocol

from penstock_dispatcher.core import idempotency, records

COMMIT_RECORDS_MAX: Final = 512
"""Records in one commit: beyond it the time of a commit grows with no gain in throughput."""
COMMIT_BYTES_MAX: Final = 1024 * 1024
"""Payload and result bytes in one commit; a single larger record goes alone."""
LOAD_TASKS_MAX: Final = 5_000
"""Tasks in one page of loading."""
LOAD_BYTES_MAX: Final = 16 * 1024 * 1024
"""A page of loading ends with the task that reaches so many bytes of payloads, of results, or of
checkpoints."""
LOAD_REQUESTS_MAX: Final = 10_000
"""Request ids in one page of loading."""


class JournalFailed(Exception):  # noqa: N818 - a state of the journal, named as the documents name it
    """The journal cannot be trusted any more, or never could; the message says what to do."""


class StorageFull(Exception):  # noqa: N818
    """No room: nothing of this call was written."""


class StoredTask(NamedTuple):
    """A task as kept: how it came, and the last thing that became of it, if any. `key` orders
    pages.
    """

    key: int
    accepted: records.TaskAccepted
    change: records.TaskRequeued | records.TaskCancelling | records.TaskEnded | None
    checkpoint: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StoredPool:
    """A pool as kept, without tasks and request ids. `sequence_max`: the highest admission sequence
    that is still in use.
    """

    configured: records.PoolConfigured
    latched: records.PoolLatched
    sessions: tuple[records.SessionOpened, ...]
    drained: tuple[records.WorkerDrained, ...]
    sequence_max: int


class StoredRequest(NamedTuple):
    """An idempotency key whose task is deleted already. `key` orders pages."""

    key: int
    pool_uid: str
    request_id: str
    request: idempotency.Request


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What opening tells. `epoch` is larger than in every earlier run on the same data; where that
    cannot be had, an earlier run has taken at most `tokens_taken` fencing tokens of this epoch.
    """

    epoch: int
    operator_epoch: int
    pools: tuple[StoredPool, ...]
    tokens_taken: int = 0


class Journal(Protocol):
    """See the module's docstring."""

    async def open(self) -> Opened:
        """Check, migrate, begin a new epoch. Raises JournalFailed."""
        ...

    async def load_tasks(self, after: int) -> Sequence[StoredTask]:
        """The next page of tasks with a key above `after` (-1 to begin with); empty at the end."""
        ...

    async def load_requests(self, after: int) -> Sequence[StoredRequest]:
        """The same for request ids; those of one pool come oldest first."""
        ...

    def append(
        self, batch: Sequence[records.Record], *, follows: bool = False
    ) -> Awaitable[object]:
        """Make the records durable, all or none. The next may be given before this is answered: it
        `follows`, and is done only if the one before it was; if that found no room, nor does it.
        Raises StorageFull, JournalFailed.
        """
        ...

    async def compact(self, now: int) -> bool:
        """One bounded step of giving back room; True = there is more. Raises JournalFailed."""
        ...

    def full(self) -> bool:
        """Storage runs low: admission should be closed; what completes tasks may still be
        appended.
        """
        ...

    async def close(self) -> None:
        """Give the file back. Idempotent."""
        ...
