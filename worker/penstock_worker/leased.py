"""A lease that a worker answers for: from its assignment until its outcome is acknowledged.

What is kept here outlives any one stream: the outcome, and the newest of what the attempt has told.
Pure.
"""

import dataclasses
import enum
from collections.abc import Iterable
from typing import Final

from penstock.v1 import worker_service_pb2 as wire
from penstock_worker import reporting

OUTCOMES_PER_FRAME: Final = 256
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
    sent: bool = False
    report: reporting.Report = dataclasses.field(default_factory=reporting.Report)

    def end(self, outcome: wire.TaskOutcome) -> None:
        """Its attempt ended; `outcome` needs no lease id or token."""
        outcome.lease_id = self.lease.lease_id
        outcome.fencing_token = self.lease.fencing_token
        self.place, self.outcome, self.sent = Place.ENDED, outcome, False
        self.report.hurry()

    def again(self) -> None:
        """A new stream: what went out on the last one may have been lost with it."""
        self.sent = False
        self.report.again()


def take_outcomes(leases: Iterable[Leased]) -> list[wire.TaskOutcome]:
    """Outcomes that have not gone out, as many as go in one frame."""
    found: list[wire.TaskOutcome] = []
    size = 0
    for each in leases:
        if each.outcome is None or each.sent:
            continue
        size += each.outcome.ByteSize()
        if found and size > OUTCOME_BYTES_PER_FRAME:
            break
        each.sent = True
        found.append(each.outcome)
        if len(found) >= OUTCOMES_PER_FRAME:
            break
    return found


def take_report(telling: dict[str, Leased], now: float) -> wire.TaskProgress | None:
    """One report that is due. Takes out of `telling` those that have nothing to report."""
    for lease_id, each in list(telling.items()):
        due = each.report.due
        if due is None or each.place is Place.DISOWNED:
            del telling[lease_id]
        elif due <= now:
            return wire.TaskProgress(lease_id=lease_id, progress=each.report.take(now))
    return None
