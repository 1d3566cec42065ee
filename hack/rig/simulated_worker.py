"""The workers of the simulation, and the links that they speak on.

The session is the real one. What is made here is what a machine may do to it: links that break with
frames on them, processes that end.
"""

import collections
import dataclasses
from collections.abc import Callable

from penstock.v1 import task_pb2, worker_service_pb2
from penstock_dispatcher.core import units
from penstock_worker import session

POOL = "namespaces/default/pools/sim"
UID = "uid-sim"


@dataclasses.dataclass(eq=False)
class Link:
    """One stream: ordered, and whatever is on it may be lost when it breaks."""

    up: collections.deque[bytes] = dataclasses.field(default_factory=collections.deque)
    down: collections.deque[bytes] = dataclasses.field(default_factory=collections.deque)
    session_id: str = ""
    served: bool = True
    """The dispatcher's end is open."""
    held: bool = True
    """The worker's end is open."""


class WorkerProcess:
    """One worker process: the real session, and a runner whose tasks end when they are told to."""

    def __init__(
        self,
        pod_uid: str,
        *,
        slots: int,
        revision: str,
        on_start: Callable[[worker_service_pb2.Assignment], None],
        types: tuple[str, ...] = (),
    ) -> None:
        self.pod_uid = pod_uid
        self.session = session.Session(
            session.Identity(
                pool=POOL,
                pool_uid=UID,
                pod_name=pod_uid,
                pod_uid=pod_uid,
                slots=slots,
                task_types=types,
                revision=revision,
                sdk_version="",
            )
        )
        self.link: Link | None = None
        self.running: dict[str, task_pb2.Task] = {}
        self.stopped: set[str] = set()
        """Leases whose attempts were told to stop and have not ended yet."""
        self._on_start = on_start

    def connect(self) -> Link:
        """Open a new stream."""
        self.link = Link()
        self.session.opened()
        return self.link

    def broke(self) -> None:
        """Notice that the stream is over."""
        if self.link is not None:
            self.link.held = False
            self.link = None
            self.session.broke()

    def write(self, now: int) -> bool:
        """Send the next frame, if there is one."""
        if self.link is None:
            return False
        frame = self.session.next_frame(now / units.SECOND)
        if frame is None:
            return False
        self.link.up.append(frame.SerializeToString())
        return True

    def read(self, now: int) -> bool:
        """Take one frame; a stream that has ended is noticed after its last one."""
        if self.link is None:
            return False
        if not self.link.down:
            if not self.link.served:
                self.broke()
            return False
        frame = worker_service_pb2.WorkResponse.FromString(self.link.down.popleft())
        self._obey(self.session.received(frame, now / units.SECOND))
        return True

    def save(self, lease_id: str, checkpoint: bytes) -> None:
        """An attempt saves what the next one shall begin with."""
        self.session.progressed(lease_id, task_pb2.Progress(checkpoint=checkpoint))

    def end(self, lease_id: str, outcome: worker_service_pb2.TaskOutcome) -> None:
        """An attempt ends."""
        del self.running[lease_id]
        self.stopped.discard(lease_id)
        self._obey(self.session.ended(lease_id, outcome))

    def _obey(self, commands: list[session.Command]) -> None:
        for command in commands:
            match command:
                case session.Start():
                    lease = command.assignment.lease
                    assert lease.lease_id not in self.running
                    assert not self.session.drained, "a drained worker starts nothing more"
                    self.running[lease.lease_id] = command.assignment.task
                    taken = sum(max(1, task.slots) for task in self.running.values())
                    room = self.session.identity.slots
                    assert taken <= room, "a worker runs what it has slots for"
                    self._on_start(command.assignment)
                case session.Stop():
                    if command.lease_id in self.running:
                        self.stopped.add(command.lease_id)
                case session.BecomeUnready():
                    assert not self.running, "a worker that runs something stays ready"
                    self.session.unready()
