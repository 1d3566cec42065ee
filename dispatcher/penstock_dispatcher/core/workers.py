"""The workers of one pool: who is there, who has credit, who is leaving.

A *session* is a worker as the dispatcher knows it, from its first Hello until it says Goodbye, is
reported gone, or has been away for the reconnect grace. A session outlives its streams: while
disconnected it keeps its leases and has no credit.

Leaving happens in steps that only go forward, but for one: a *reserved* worker gets no more work
and is asked to drain; until it has confirmed, the reservation can be revoked. Once *drained* its
pod is a tombstone for good. A *stopping* worker (SIGTERM seen) gets no work either.

A session is *silent* from the moment at which a lease of it ended because nothing was heard of it,
until its next frame, of whatever kind. Meanwhile it gets no work, which it would lose as well, and
nothing is known of it: it is shown as lost, and not chosen to leave. It keeps its credit, which a
worker grants once.

Assignment picks the worker with the fewest busy slots, and among equals the one that became free
last: work spreads over slots, and workers that are not needed stay idle long enough to be removed.

A task may take several slots, of one worker. One that fits nowhere at the moment has a worker *set
aside* for it, for the length of a turn of dispatch: see `turn`.
"""

import dataclasses
import enum
from collections.abc import Iterable
from typing import Final

from penstock_dispatcher.core import kinds
from penstock_dispatcher.core import leases as leasing

SESSIONS_MAX: Final = 10_000
TOMBSTONES_MAX: Final = 10_000
CHANGES_MAX: Final = 1_000
"""Changed sessions that are remembered for the operator; when there are more, or nobody asks, the
next message has all of them.
"""


class WorkerState(enum.Enum):
    """Values are the wire's numbers (`penstock.v1.Worker.State`)."""

    READY = 1
    BUSY = 2
    DRAINING = 3
    DRAINED = 4
    LOST = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedLease:
    """A lease as a worker names it in its Hello: its outcome has not been acknowledged.
    `start_time` 0 = it does not say (a worker of an earlier version).
    """

    task_id: str
    lease_id: str
    token: int
    attempt: int
    start_time: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """A worker's Hello. `session_id` is the one it names, or a new one made by the shell."""

    session_id: str
    pod_name: str
    pod_uid: str
    slots: int
    task_types: frozenset[str] = frozenset()
    revision: str = ""
    sdk_version: str = ""
    draining: bool = False
    running: tuple[ClaimedLease, ...] = ()


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One session. Times in nanoseconds since the epoch."""

    session_id: str
    pod_name: str
    pod_uid: str
    slots: int
    task_types: frozenset[str]
    revision: str
    sdk_version: str
    connect_time: int
    last_heartbeat: int
    idle_since: int
    connected: bool = True
    disconnect_time: int = 0
    credit: int = 0
    stopping: bool = False
    silent: bool = False
    """A lease of it ended by silence, and it has said nothing since; see the module."""
    drained: bool = False
    reservation_id: str = ""
    room: int = 0
    """Its slots as far as the table counts them: none while it takes no work."""
    leases: dict[str, leasing.Lease] = dataclasses.field(default_factory=dict)
    slots_used: int = 0
    """What its leases take."""
    awaited: bool = False
    """It was set aside, and was given nothing since."""
    open_at: int = -1
    """Under how many busy slots the table offers it for work, -1 = it does not."""
    kind: kinds.Kind = kinds.UNKNOWN
    """As the table knows it."""

    @property
    def free(self) -> int:
        """Slots that can be given out now."""
        return min(self.credit, self.slots - self.slots_used)

    @property
    def takes_work(self) -> bool:
        """May be given a task, credit permitting."""
        return self.present and not (self.stopping or self.drained or self.reservation_id)

    @property
    def present(self) -> bool:
        """It has a stream, and is heard on it."""
        return self.connected and not self.silent

    @property
    def state(self) -> WorkerState:
        """For people and for the operator."""
        if self.drained:
            return WorkerState.DRAINED
        if not self.present:
            return WorkerState.LOST
        if self.reservation_id or self.stopping:
            return WorkerState.DRAINING
        return WorkerState.BUSY if self.leases else WorkerState.READY

    def idle_for(self, now: int) -> int:
        """How long it has had nothing to do; -1 while it has."""
        return -1 if self.leases else now - self.idle_since


class WorkerTable:
    """Sessions of one pool, and an index of those with credit and a free slot.

    Both are asked for: a worker may have a free slot, and say so, while the dispatcher still counts
    leases whose outcomes are on their way.
    """

    def __init__(self) -> None:
        self._by_session: dict[str, Worker] = {}
        self._by_pod: dict[str, Worker] = {}
        # Workers that can take a task now, by busy slots; inside, the one that became free last is
        # last.
        self._open: dict[int, dict[str, Worker]] = {}
        self.kinds = kinds.Kinds()
        self.slots = 0
        """Of workers that take work."""
        self.tombstones: dict[str, None] = {}
        self.changed: dict[str, Worker] = {}
        """Sessions that changed since the last demand message, by session id."""
        self.all_changed = False
        """Too many did: `changed` does not have them."""

    def __len__(self) -> int:
        return len(self._by_session)

    def all(self) -> Iterable[Worker]:
        """Every session."""
        return self._by_session.values()

    def get(self, session_id: str) -> Worker | None:
        """The session, if it is known."""
        return self._by_session.get(session_id)

    def of_pod(self, pod_uid: str) -> Worker | None:
        """The newest session of a pod."""
        return self._by_pod.get(pod_uid)

    def add(self, worker: Worker) -> None:
        """A new session; its pod's newest."""
        self._by_session[worker.session_id] = worker
        self._by_pod[worker.pod_uid] = worker
        self.touch(worker)

    def introduce(self, intro: Introduction, now: int) -> Worker:
        """Add the session that begins with this Hello."""
        worker = Worker(
            session_id=intro.session_id,
            pod_name=intro.pod_name,
            pod_uid=intro.pod_uid,
            slots=intro.slots,
            task_types=intro.task_types,
            revision=intro.revision,
            sdk_version=intro.sdk_version,
            connect_time=now,
            last_heartbeat=now,
            idle_since=now,
        )
        self.add(worker)
        return worker

    def forget(self, worker: Worker) -> None:
        """The session is over and holds no lease."""
        assert not worker.leases, "leases are ended before a session is forgotten"
        self._close(worker)
        self.kinds.leave(worker.kind)
        worker.kind = kinds.UNKNOWN
        self.slots -= worker.room
        worker.room = 0
        worker.connected = False
        del self._by_session[worker.session_id]
        if self._by_pod.get(worker.pod_uid) is worker:
            del self._by_pod[worker.pod_uid]
        self._change(worker)

    def knows(self, worker: Worker) -> bool:
        """Not forgotten."""
        return self._by_session.get(worker.session_id) is worker

    def silence(self, session_id: str) -> None:
        """A lease of the session ended because nothing was heard of it."""
        worker = self._by_session.get(session_id)
        if worker is not None and not worker.silent:
            worker.silent = True
            self.touch(worker)

    def heard(self, session_id: str) -> Worker | None:
        """The session, if it is known; it has just said something, and is not silent any more."""
        worker = self._by_session.get(session_id)
        if worker is not None and worker.silent:
            worker.silent = False
            self.touch(worker)
        return worker

    def touch(self, worker: Worker) -> None:
        """Something about the worker changed: index it anew, and let the operator know."""
        self._close(worker)
        room = worker.slots if worker.takes_work else 0
        self.slots += room - worker.room
        worker.room = room
        kind = worker.kind
        known = kind is not kinds.UNKNOWN
        if not known or kind.slots != worker.slots or kind.types != worker.task_types:
            if known:
                self.kinds.leave(kind)
            worker.kind = self.kinds.join(worker.task_types, worker.slots)
        self._open_if_free(worker)
        self._change(worker)

    def loaded(self, worker: Worker) -> None:
        """The same, where nothing but its load and its credit changed."""
        busy = worker.slots_used
        stays = worker.open_at >= 0 and worker.credit > 0 and busy < worker.slots
        if stays and busy not in self._open and len(self._open[worker.open_at]) == 1:
            # It takes its place along, which spares a fleet of few workers most of the work.
            self._open[busy] = self._open.pop(worker.open_at)
            worker.open_at = busy
        else:
            self._close(worker)
            self._open_if_free(worker)
        self._change(worker)

    def _open_if_free(self, worker: Worker) -> None:
        busy = worker.slots_used
        if worker.credit > 0 and busy < worker.slots and worker.takes_work:
            bucket = self._open.get(busy)
            if bucket is None:
                bucket = self._open[busy] = {}
            bucket[worker.session_id] = worker
            worker.open_at = busy
            kind = worker.kind
            if not kind.open:
                self.kinds.opened(kind)
            kind.open += 1

    def _change(self, worker: Worker) -> None:
        if self.all_changed:
            return
        self.changed[worker.session_id] = worker
        if len(self.changed) > CHANGES_MAX:
            self.changed, self.all_changed = {}, True

    def take_changed(self) -> dict[str, Worker] | None:
        """Sessions that changed since the last call, by id; None = too many to tell."""
        taken = None if self.all_changed else self.changed
        self.changed, self.all_changed = {}, False
        return taken

    def _close(self, worker: Worker) -> None:
        busy = worker.open_at
        if busy < 0:
            return
        worker.open_at = -1
        bucket = self._open[busy]
        del bucket[worker.session_id]
        if not bucket:
            del self._open[busy]
        kind = worker.kind
        kind.open -= 1
        if not kind.open:
            self.kinds.closed(kind)

    def open_types(self) -> Iterable[str] | None:
        """Types that some worker with credit can run; None = any, empty = no worker has credit."""
        return None if self.kinds.open_any else self.kinds.open_by_type.keys()

    @property
    def any_open(self) -> bool:
        """Some worker can take something."""
        return bool(self._open)

    def pick(self, type_: str, slots: int = 1) -> Worker | None:
        """The worker that should take a task of that type and so many slots, None = it fits on
        none.
        """
        if slots == 1 and self._open:
            worker = next(reversed(self._open[min(self._open)].values()))
            if not worker.task_types or type_ in worker.task_types:
                return worker
        for busy in sorted(self._open):
            for worker in reversed(self._open[busy].values()):
                if slots > 1 and worker.free < slots:
                    continue
                if not worker.task_types or type_ in worker.task_types:
                    return worker
        return None

    def widest(self, type_: str, slots: int) -> Worker | None:
        """The worker that should make room for such a task: of those that are large enough and
        could take something now, the one with the most room. Among equals the one that was chosen
        before: or two could take turns, and neither ever have room enough. Then the smallest:
        larger ones are left for larger tasks.
        """
        large = (
            worker
            for open_ in self._open.values()
            for worker in open_.values()
            if worker.slots >= slots and (not worker.task_types or type_ in worker.task_types)
        )
        return max(large, key=_nearest, default=None)

    def set_aside(self, worker: Worker) -> None:
        """Nothing is given to it, until `touch` or `reopen`."""
        worker.awaited = True
        self._close(worker)

    def reopen(self, worker: Worker) -> None:
        """It was set aside, and takes work again."""
        self._close(worker)
        self._open_if_free(worker)

    def entomb(self, pod_uid: str) -> str | None:
        """The pod never gets work again. Returns the oldest tombstone if it had to make room."""
        self.tombstones[pod_uid] = None
        if len(self.tombstones) > TOMBSTONES_MAX:
            oldest = next(iter(self.tombstones))
            del self.tombstones[oldest]
            return oldest
        return None

    def reservable(self, *, idle_for_ns: int | None, revision: str, now: int) -> list[Worker]:
        """Workers that could be reserved: longest idle first, then (idle_for_ns None) the least
        busy ones.
        """
        found = [
            worker
            for worker in self._by_session.values()
            if worker.takes_work
            and (not revision or worker.revision == revision)
            and (idle_for_ns is None or worker.idle_for(now) >= idle_for_ns)
        ]
        found.sort(key=lambda worker: (worker.slots_used, worker.idle_since))
        return found


def _nearest(worker: Worker) -> tuple[int, bool, int]:
    return worker.free, worker.awaited, -worker.slots
