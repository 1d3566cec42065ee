"""What a pool wants done: values that the shell acts on, in order.

An effect that tells somebody about a change is held back by the pool until the change is durable;
what comes out of `Pool.take_effects` may be carried out at once.
"""

import dataclasses
from typing import NamedTuple

from penstock_dispatcher import compiling
from penstock_dispatcher.core import admission, leases
from penstock_dispatcher.core import task as tasks


class Welcomed(NamedTuple):
    """The session may work; it must stop the revoked leases."""

    session_id: str
    revoked: tuple[str, ...]


@compiling.mypyc_attr(acyclic=True)
@dataclasses.dataclass(slots=True, init=False)
class Assigned:
    """Send the task to the worker."""

    session_id: str
    task: tasks.Task
    lease: leases.Lease

    def __init__(self, session_id: str, task: tasks.Task, lease: leases.Lease) -> None:
        self.session_id = session_id
        self.task = task
        self.lease = lease


class CancelRequested(NamedTuple):
    """Ask the worker to stop this lease's work."""

    session_id: str
    lease_id: str
    reason: str


class LeasesLost(NamedTuple):
    """Tell the worker that these are no longer its own."""

    session_id: str
    lease_ids: tuple[str, ...]


@compiling.mypyc_attr(acyclic=True)
@dataclasses.dataclass(slots=True, init=False)
class OutcomeAcked:
    """The outcome is durable (accepted), or somebody else's counts (not accepted)."""

    session_id: str
    lease_id: str
    accepted: bool

    def __init__(self, session_id: str, lease_id: str, accepted: bool) -> None:
        self.session_id = session_id
        self.lease_id = lease_id
        self.accepted = accepted


class DrainRequested(NamedTuple):
    """Ask the worker to confirm that it runs nothing, and give it nothing more."""

    session_id: str
    reservation_id: str


class DrainRevoked(NamedTuple):
    """The worker may grant credit again."""

    session_id: str
    reservation_id: str


class SessionReplaced(NamedTuple):
    """A newer stream speaks for this session: end the older one."""

    session_id: str


class WaiterAnswered(NamedTuple):
    """Whoever waited for room has an answer; like any other one it is told once it is durable."""

    waiter: admission.Waiter
    answer: admission.Admission


@compiling.mypyc_attr(acyclic=True)
@dataclasses.dataclass(slots=True, init=False)
class TaskChanged:
    """A state that people may see now; wakes those who wait for it. `task` may be in another one
    already, which may not be durable.
    """

    task: tasks.Task
    previous: tasks.TaskState | None
    state: tasks.TaskState

    def __init__(
        self, task: tasks.Task, previous: tasks.TaskState | None, state: tasks.TaskState
    ) -> None:
        self.task = task
        self.previous = previous
        self.state = state


Effect = (
    Welcomed
    | Assigned
    | CancelRequested
    | LeasesLost
    | OutcomeAcked
    | DrainRequested
    | DrainRevoked
    | SessionReplaced
    | WaiterAnswered
    | TaskChanged
)
