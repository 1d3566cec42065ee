"""Bugs planted on purpose, to see that the simulation finds them.

Each replaces one method for as long as a block lasts; nothing is rewritten. What a bug breaks is
said beside it, by the words of the promise. `hunt` plays histories until one is broken.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from penstock_dispatcher.convert import frames
from penstock_dispatcher.core import (
    backlog,
    bounds,
    control,
    fleet,
    flows,
    idempotency,
    key_rates,
    lanes,
    leases,
    ledger,
    pool,
    ready,
    reservations,
    turn,
    waiting_room,
    workers,
)
from rig import keyed, keyed_slips, operated, replacing, simulated, simulation, slips

Play = Callable[[int], None]

SEEDS_MAX: Final = 300


def _world(kind: type[simulation.World], **fields: bool) -> Play:
    scenario = simulation.Scenario(**fields)
    return lambda seed: kind(seed, scenario).run()


WORLDS: Final[dict[str, Play]] = {
    "harsh": _world(simulation.World),
    "gentle": _world(simulation.World, gentle=True),
    "crowded": _world(simulation.World, crowded=True),
    "operated": _world(operated.OperatedWorld),
    "keyed": _world(keyed.KeyedWorld),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Bug:
    """One planted bug. `breaks`: words of the promises that may notice it, any of them."""

    title: str
    world: str
    breaks: tuple[str, ...]
    owner: Any
    name: str
    replace: replacing.Replace


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The history that is broken, and the promise."""

    seed: int
    promise: str


def hunt(bug: Bug, seeds: int = SEEDS_MAX) -> Finding | None:
    """Plant the bug and play its world's histories until a promise is broken."""
    with replacing.replaced(bug.owner, bug.name, bug.replace):
        for seed in range(seeds):
            try:
                WORLDS[bug.world](seed)
            except AssertionError as broken:
                return Finding(seed, str(broken))
    return None


BUGS: Final = (
    Bug(
        "an outcome is acknowledged before the sync",
        "harsh",
        ("no acknowledgement before the sync",),
        ledger.Ledger,
        "tell_when_durable",
        slips.ack_at_once,
    ),
    Bug(
        "a submission is answered before the sync",
        "harsh",
        ("nobody is told of a task that a crash could take back",),
        ledger.Ledger,
        "_accept",
        slips.accept_at_once,
    ),
    Bug(
        "a task runs before its acceptance is durable",
        "harsh",
        ("nothing runs before it is durable",),
        ledger.Ledger,
        "commit_then_queue",
        slips.run_before_durable,
    ),
    Bug(
        "a restart refills the bucket",
        "harsh",
        ("the rate is exact",),
        pool.Pool,
        "__init__",
        slips.always_fresh,
    ),
    Bug(
        "after a restart, tasks that workers may still run are given out at once",
        "gentle",
        ("run twice", "max(attempts)"),
        pool.Pool,
        "restore",
        slips.release_held,
    ),
    Bug(
        "a restart forgets that the pool is paused",
        "operated",
        ("a paused pool gives nothing out", "latches are written"),
        pool.Pool,
        "restore",
        slips.forget_pause,
    ),
    Bug(
        "a restart forgets a cancel",
        "harsh",
        ("what was cancelled never starts again",),
        ledger.Ledger,
        "restore",
        slips.forget_cancel,
    ),
    Bug(
        "a restart forgets request ids",
        "harsh",
        ("what was accepted is never refused later", "one request id, one task"),
        idempotency.Requests,
        "restore",
        slips.forget_requests,
    ),
    Bug(
        "the tombstone of a drained pod is not written",
        "harsh",
        ("tombstones are written", "a pod that was shut out gets no work"),
        reservations.Reservations,
        "_entomb",
        slips.unwritten_tombstone,
    ),
    Bug(
        "a pod that is shut out gets no tombstone",
        "operated",
        ("a pod that was shut out gets no work",),
        reservations.Reservations,
        "shut_out",
        slips.no_tombstone,
    ),
    Bug(
        "one too many is admitted while records are being committed",
        "harsh",
        ("the bound is exact",),
        bounds,
        "no_room",
        slips.full_but_one,
    ),
    Bug(
        "a caller who went away still waits for room",
        "crowded",
        ("waiters are those who wait",),
        simulated.Server,
        "abandon",
        slips.forget_who_left,
    ),
    Bug(
        "the bytes of a caller who went away stay counted",
        "crowded",
        ("the bytes of waiters are counted",),
        waiting_room.WaitingRoom,
        "leave",
        slips.keep_bytes_of_who_left,
    ),
    Bug(
        "a requeue counts the task's bytes twice",
        "harsh",
        ("the bytes that wait are counted",),
        ledger.Ledger,
        "requeue",
        slips.count_bytes_twice,
    ),
    Bug(
        "a draining pool admits",
        "operated",
        ("a pool that is shut admits nothing",),
        pool.Pool,
        "shut",
        slips.admit_while_draining,
    ),
    Bug(
        "a pool that its manifest suspends gives tasks out",
        "operated",
        ("a suspended pool gives nothing out",),
        pool.Pool,
        "dispatching",
        slips.heed_only_pause,
    ),
    Bug(
        "a requeued task goes to the end of its priority",
        "harsh",
        ("a task keeps its place in the order", "nothing becomes of a task that is not there"),
        ledger.Ledger,
        "requeue",
        slips.last_again,
    ),
    Bug(
        "a high priority counts as none",
        "harsh",
        ("a task keeps its priority",),
        backlog.Backlog,
        "add",
        slips.first_priority_only,
    ),
    Bug(
        "a retry takes no token",
        "harsh",
        ("the rate is exact",),
        turn.Turn,
        "run_plainly",
        slips.retry_for_free,
    ),
    Bug(
        "one more than maxInFlight runs",
        "harsh",
        ("at most maxInFlight",),
        turn.Turn,
        "run_plainly",
        slips.one_more_in_flight,
    ),
    Bug(
        "a delayed task starts a second early",
        "harsh",
        ("delayed tasks wait for their time",),
        backlog.Backlog,
        "promote",
        slips.too_early,
    ),
    Bug(
        "a task starts after the time to start by",
        "harsh",
        ("in time or never", "a timer that is due does something"),
        pool.Pool,
        "_expire",
        slips.never_too_late,
    ),
    Bug(
        "a late outcome is recorded",
        "harsh",
        ("an attempt's outcome is recorded once", "who waits is counted", "may go is counted"),
        leases.LeaseTable,
        "end",
        slips.late_outcomes_count,
    ),
    Bug(
        "a worker that comes back is given a task whose attempt is recorded",
        "harsh",
        ("an attempt's outcome is recorded once",),
        fleet.Fleet,
        "_adopt",
        slips.adopt_what_is_recorded,
    ),
    Bug(
        "leases stay when their session is replaced",
        "harsh",
        ("a lease belongs to a session that is there",),
        fleet.Fleet,
        "_lose_all",
        slips.leases_of_nobody,
    ),
    Bug(
        "a lease never ends by itself",
        "harsh",
        ("a timer that is due does something", "a lease ends"),
        leases.LeaseTable,
        "take_due",
        slips.never_due,
    ),
    Bug(
        "a silent worker is given more work",
        "harsh",
        ("a silent worker gets no work",),
        workers.WorkerTable,
        "silence",
        slips.never_silent,
    ),
    Bug(
        "a stall of the dispatcher costs its workers their leases",
        "operated",
        ("a stall of its own costs nobody a lease", "silent only if nothing was heard"),
        leases.LeaseTable,
        "extend_all",
        slips.no_excuse,
    ),
    Bug(
        "a restart forgets checkpoints",
        "keyed",
        ("what is loaded is what was there", "an attempt begins with the newest"),
        ledger.Ledger,
        "restore",
        keyed_slips.forget_checkpoints,
    ),
    Bug(
        "a checkpoint does not go along with the next attempt's lease",
        "keyed",
        ("a worker gets the checkpoint",),
        frames,
        "assignment",
        keyed_slips.assign_without_checkpoint,
    ),
    Bug(
        "other terms of a task are not written",
        "keyed",
        ("has terms that nobody asked for", "what is loaded is what was there"),
        control,
        "update",
        keyed_slips.unwritten_update,
    ),
    Bug(
        "one more than maxInFlight of a key runs",
        "keyed",
        ("at most maxInFlight of each key",),
        lanes.Lanes,
        "_look_at_lane",
        keyed_slips.one_more_of_a_key,
    ),
    Bug(
        "a restart refills the buckets of keys",
        "keyed",
        ("the rate of each key is exact",),
        key_rates.KeyRates,
        "__init__",
        keyed_slips.full_again,
    ),
    Bug(
        "one too many of a key is admitted while records are being committed",
        "keyed",
        ("the bound is exact",),
        bounds,
        "no_room",
        keyed_slips.key_full_but_one,
    ),
    Bug(
        "a caller whose key has room again is not let in",
        "keyed",
        ("nobody waits while there is room",),
        waiting_room.WaitingRoom,
        "_best",
        keyed_slips.forget_freed_keys,
    ),
    Bug(
        "a task of several slots counts as one where it is placed",
        "keyed",
        ("a worker has a slot for each that it holds",),
        workers.WorkerTable,
        "pick",
        keyed_slips.one_slot_each,
    ),
    Bug(
        "a key stays parked when one of it has ended",
        "keyed",
        ("waits, and could run", "not over"),
        lanes.Lanes,
        "wake",
        keyed_slips.never_unpark,
    ),
    Bug(
        "tasks do not age",
        "keyed",
        ("the best task first",),
        ready,
        "rank",
        keyed_slips.never_age,
    ),
    Bug(
        "a turn comes before a higher priority",
        "keyed",
        ("the best task first",),
        flows,
        "place",
        keyed_slips.turns_before_priorities,
    ),
)
