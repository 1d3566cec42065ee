"""A lease that a worker answers for: from its assignment until its outcome is acknowledged.

What is kept here outlives any one stream: the outcome, and the newest of what the attempt has told.
Pure.
"""

import dataclasses
import enum
import math
from collections.abc import Iterable
from typing import Final

from penstock.v1 import task_pb2
from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import reporting

OUTCOMES_PER_FRAME: Final = 512
OUTCOME_BYTES_PER_FRAME: Final = 1024 * 1024
"""An outcome that is larger travels alone; the dispatcher takes frames of 16 MiB."""


class Place(enum.Enum):
    """Where its attempt is."""

    RUNNING = enum.auto()
    ENDED = enum.auto()
    """Its outcome is not acknowledged yet."""
    DISOWNED = enum.auto()
    """Revoked or lost while it runs: it still takes its slots, and its outcome goes nowhere."""


@dataclasses.dataclass(slots=True)
class Leased:
    """One lease, and its attempt. `slots` is how many it takes while it runs."""

    lease: wire.Lease
    slots: int = 1
    place: Place = Place.RUNNING
    outcome: wire.TaskOutcome | None = None
    report: reporting.Report = dataclasses.field(default_factory=reporting.Report)


class Leases:
    """All leases of one worker, and what is counted of them as they come and go: nothing here looks
    at each of them for one that changes.
    """

    def __init__(self) -> None:
        self.slots_used = 0
        """By attempts that have not ended, disowned ones included."""
        self._by_id: dict[str, Leased] = {}
        self._telling: dict[str, Leased] = {}
        """With progress that has not gone out."""
        self._unsent: dict[str, Leased] = {}
        """With an outcome that has not gone out."""

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, lease_id: str) -> Leased | None:
        """The lease, if it is answered for."""
        return self._by_id.get(lease_id)

    def ids(self, *places: Place) -> list[str]:
        """Lease ids of those whose attempt is in one of these places."""
        return [lease_id for lease_id, each in self._by_id.items() if each.place in places]

    def of(self, lease_ids: Iterable[str]) -> list[wire.Lease]:
        """As the wire names them."""
        return [self._by_id[lease_id].lease for lease_id in lease_ids]

    def add(self, lease: wire.Lease, slots: int) -> Leased:
        """A new one, which takes so many slots."""
        made = self._by_id[lease.lease_id] = Leased(lease, slots)
        self.slots_used += slots
        return made

    def tell(self, one: Leased, progress: task_pb2.Progress) -> None:
        """Its attempt, which runs, has told something."""
        one.report.tell(progress)
        self._telling[one.lease.lease_id] = one

    def end(self, one: Leased, outcome: wire.TaskOutcome) -> None:
        """Its attempt, which ran, has ended; `outcome` needs no lease id or token."""
        outcome.lease_id = one.lease.lease_id
        outcome.fencing_token = one.lease.fencing_token
        one.place, one.outcome = Place.ENDED, outcome
        one.report.hurry()
        self.slots_used -= one.slots
        self._unsent[one.lease.lease_id] = one

    def forget(self, lease_id: str) -> None:
        """Nobody asks for it any more."""
        one = self._by_id.pop(lease_id)
        if one.place is not Place.ENDED:
            self.slots_used -= one.slots
        self._telling.pop(lease_id, None)
        self._unsent.pop(lease_id, None)

    def again(self) -> None:
        """A new stream: everything is to be sent again."""
        for each in self._by_id.values():
            each.report.again()
        self._telling = dict(self._by_id)
        ended = self.ids(Place.ENDED)
        self._unsent = {lease_id: self._by_id[lease_id] for lease_id in ended}

    def report_due(self) -> float:
        """When the next report is due; infinity = there is none."""
        reports = (each.report.due for each in self._telling.values())
        return min((due for due in reports if due is not None), default=math.inf)

    def take_report(self, now: float) -> wire.TaskProgress | None:
        """One report that is due."""
        for lease_id, each in list(self._telling.items()):
            due = each.report.due
            if due is None or each.place is Place.DISOWNED:
                del self._telling[lease_id]
            elif due <= now:
                return wire.TaskProgress(lease_id=lease_id, progress=each.report.take(now))
        return None

    def take_outcomes(self) -> list[wire.TaskOutcome]:
        """Outcomes that have not gone out, as many as go in one frame."""
        found: list[wire.TaskOutcome] = []
        size = 0
        for each in self._unsent.values():
            assert each.outcome is not None, "what has ended has an outcome"
            size += each.outcome.ByteSize()
            if found and size > OUTCOME_BYTES_PER_FRAME:
                break
            found.append(each.outcome)
            if len(found) >= OUTCOMES_PER_FRAME:
                break
        for outcome in found:
            del self._unsent[outcome.lease_id]
        return found
