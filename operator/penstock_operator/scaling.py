"""How many workers a pool should have, and why: DESIGN section 6 as one function.

`decide` takes the spec, the load that the dispatcher reported (None while it is unknown) and what
the fleet looks like, and answers with a frozen `ScaleDecision`; somebody else acts on it. The
same input always gives the same answer, and acting on an answer makes the next one "Steady":
there is no state here to get out of step.

* Demand is slots in use plus tasks that could run now; capacity is ready plus starting workers,
  so that a burst during start-up counts, and pods that are on their way are not started twice.
* Up: only when demand has reached the threshold's share of capacity, then to the target in one
  step.
* A rate limit needs only so many workers, however long the queue: tasks per second x seconds per
  task x slots per task x 1.25.
* A task that takes several slots takes them in one worker: of 4 slots tasks of 3 can use only 3.
* Down: workers above the target go once they have been idle for the idle timeout. Which ones, the
  dispatcher says; here it is only how many.
* Unknown demand holds. Nothing here ever asks for more than the maximum, or shrinks below the
  minimum.

Pure. Times are float seconds since the epoch.
"""

import dataclasses
import enum
import math
from typing import Final

from penstock_operator import sections, spec

RATE_HEADROOM: Final = 1.25
"""Over the bare product of rate and time, so that the rate is the limit and not the fleet."""
ROUNDING: Final = 1e-9


class Reason(enum.Enum):
    """Why the number of workers is what it is; the value is what people read."""

    STEADY = "Steady"
    DEMAND = "Demand"
    BELOW_MINIMUM = "BelowMinimum"
    ABOVE_MAXIMUM = "AboveMaximum"
    IDLE = "Idle"
    WAITING_FOR_IDLE = "WaitingForIdle"
    BELOW_THRESHOLD = "BelowThreshold"
    DEMAND_UNKNOWN = "DemandUnknown"
    PAUSED = "Paused"
    MANUAL = "Manual"
    EXTERNAL = "External"


class Limit(enum.Enum):
    """What keeps the target from what demand alone would ask for."""

    NONE = "DesiredWithinRange"
    MAXIMUM = "TooManyReplicas"
    MINIMUM = "TooFewReplicas"
    RATE = "RateLimited"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the dispatcher reports. `idle_since`: of every worker that could leave, since when it is
    idle. `slots_per_task` is the mean.
    """

    runnable_slots: int = 0
    slots_in_use: int = 0
    mean_execution_seconds: float | None = None
    tokens: float = 0.0
    slots_per_task: float = 1.0
    idle_since: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Workers there are. `current` = replicas wanted so far without those that are leaving.

    `ready` and `starting` are the part of it that counts as capacity. `held` is the number to
    stay at while nothing may be decided; `exists` is False before the pool's first Deployment.
    """

    current: int
    ready: int
    starting: int
    expendable: int = 0
    held: int | None = None
    exists: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScaleDecision:
    """From `current` to `desired` workers. `target`: what it is heading for, idle time-outs left
    aside.
    """

    current: int
    desired: int
    target: int
    reason: Reason
    message: str
    limit: Limit = Limit.NONE
    busy_may_go: bool = False
    """A decrease does not wait for idle workers: busy ones finish what they run and leave."""
    recheck_after_seconds: float | None = None
    """When the answer changes by the passing of time alone; None = it does not."""


def decide(
    pool: spec.WorkerPoolSpec, *, load: Load | None, fleet: Fleet, now: float
) -> ScaleDecision:
    """The number of workers that the pool should have now."""
    scaling = pool.scaling
    floor = max(scaling.min_replicas, scaling.warm_replicas)
    if scaling.paused and fleet.exists:
        held = fleet.current if fleet.held is None else fleet.held
        return ScaleDecision(
            current=fleet.current,
            desired=fleet.current,
            target=held,
            reason=Reason.PAUSED,
            message=f"spec.scaling.paused holds the fleet at {_workers(fleet.current)}",
        )
    if scaling.mode is not sections.Mode.AUTO:
        return _by_hand(pool, load=load, fleet=fleet, floor=floor)
    if load is None:
        return _without_demand(fleet=fleet, floor=floor)
    return _by_demand(pool, load=load, fleet=fleet, floor=floor, now=now)


def _by_hand(
    pool: spec.WorkerPoolSpec, *, load: Load | None, fleet: Fleet, floor: int
) -> ScaleDecision:
    manual = pool.scaling.mode is sections.Mode.MANUAL
    reason = Reason.MANUAL if manual else Reason.EXTERNAL
    if pool.replicas is None:
        # External, and nobody has written the first value yet.
        wanted, words = (fleet.current if fleet.exists else floor), "spec.replicas is not set yet"
    else:
        wanted, words = pool.replicas, f"spec.replicas asks for {pool.replicas}"
    limit = Limit.NONE
    if wanted > pool.scaling.max_replicas:
        wanted, limit = pool.scaling.max_replicas, Limit.MAXIMUM
        words += f", spec.scaling.maxReplicas allows {wanted}"
    if load is None and wanted < fleet.current:
        return ScaleDecision(
            current=fleet.current,
            desired=fleet.current,
            target=wanted,
            reason=Reason.DEMAND_UNKNOWN,
            message=f"{words}; the decrease waits until the dispatcher can be reached",
            limit=limit,
        )
    return ScaleDecision(
        current=fleet.current,
        desired=wanted,
        target=wanted,
        reason=Reason.STEADY if wanted == fleet.current else reason,
        message=words,
        limit=limit,
        busy_may_go=wanted < fleet.current,
    )


def _without_demand(*, fleet: Fleet, floor: int) -> ScaleDecision:
    if fleet.current < floor:
        return ScaleDecision(
            current=fleet.current,
            desired=floor,
            target=floor,
            reason=Reason.BELOW_MINIMUM,
            message=f"demand is unknown; the pool starts with its minimum of {_workers(floor)}",
            limit=Limit.MINIMUM,
        )
    return ScaleDecision(
        current=fleet.current,
        desired=fleet.current,
        target=fleet.current if fleet.held is None else fleet.held,
        reason=Reason.DEMAND_UNKNOWN,
        message=f"demand is unknown; the fleet is held at {_workers(fleet.current)}",
    )


def _by_demand(
    pool: spec.WorkerPoolSpec, *, load: Load, fleet: Fleet, floor: int, now: float
) -> ScaleDecision:
    scaling = pool.scaling
    runnable = 0 if pool.suspend else load.runnable_slots
    demand = load.slots_in_use + runnable
    target, limit, words = _target(pool, load=load, runnable=runnable, floor=floor)
    steady = ScaleDecision(
        current=fleet.current,
        desired=fleet.current,
        target=target,
        reason=Reason.STEADY,
        message=words,
        limit=limit,
    )
    if target > fleet.current:
        capacity = (fleet.ready + fleet.starting) * _usable(pool, load=load)
        percent = scaling.utilization_threshold_percent
        if capacity == 0 or demand * 100 >= percent * capacity:
            reason = Reason.DEMAND if target > floor else Reason.BELOW_MINIMUM
            return dataclasses.replace(steady, desired=target, reason=reason)
        if fleet.current < floor:
            return dataclasses.replace(steady, desired=floor, reason=Reason.BELOW_MINIMUM)
        return dataclasses.replace(
            steady,
            reason=Reason.BELOW_THRESHOLD,
            message=f"{words}; but {demand} of {capacity} slots is below "
            f"utilizationThresholdPercentage {percent}",
        )
    if target < fleet.current:
        return _down(pool, steady, load=load, fleet=fleet, now=now)
    return steady


def _target(
    pool: spec.WorkerPoolSpec, *, load: Load, runnable: int, floor: int
) -> tuple[int, Limit, str]:
    usable = _usable(pool, load=load)
    demand = load.slots_in_use + runnable
    need = math.ceil(demand / usable)
    over = _over(pool, usable=usable)
    words = f"{runnable} runnable + {load.slots_in_use} running {over} = {need}"
    limit = Limit.NONE
    cap, cap_words = _rate_cap(pool, load=load)
    if cap is not None and cap < need:
        need, limit = cap, Limit.RATE
        words += f", {cap_words} = {cap}"
    if pool.scaling.warm_replicas:
        need += pool.scaling.warm_replicas
        words += f", + {pool.scaling.warm_replicas} warm = {need}"
    if need > pool.scaling.max_replicas:
        return (
            pool.scaling.max_replicas,
            Limit.MAXIMUM,
            f"{words}, at most {pool.scaling.max_replicas}",
        )
    if need < floor:
        return floor, Limit.MINIMUM, f"{words}, at least {floor}"
    return need, limit, words


def _rate_cap(pool: spec.WorkerPoolSpec, *, load: Load) -> tuple[int | None, str]:
    """Workers that the rate limit can keep busy; None = it limits nothing."""
    limit = pool.rate_limit
    if not limit.tasks or not pool.scaling.rate_limit_aware:
        return None, ""
    usable = _usable(pool, load=load)
    if load.mean_execution_seconds is None:
        # Nothing has run yet: no more than could start this moment, and at least one to learn from.
        tokens = max(0, math.floor(load.tokens + ROUNDING))
        cap = math.ceil((load.slots_in_use + tokens * load.slots_per_task) / usable - ROUNDING)
        words = f"but only {tokens} tokens of the rate limit to start with"
    else:
        rate = limit.tasks / limit.period_seconds
        busy = rate * load.mean_execution_seconds * load.slots_per_task * RATE_HEADROOM
        cap = math.ceil(busy / usable - ROUNDING)
        each = f"{load.slots_per_task:.3g} slots x " if load.slots_per_task > 1 else ""
        words = (
            f"but {limit.tasks} tasks per {limit.period_seconds} s x "
            f"{load.mean_execution_seconds:.3g} s x {each}{RATE_HEADROOM} "
            f"{_over(pool, usable=usable)}"
        )
    return max(cap, math.ceil(load.slots_in_use / usable), 1), words


def _usable(pool: spec.WorkerPoolSpec, *, load: Load) -> int:
    """Slots of a worker that tasks of the mean size, rounded up, can fill. With tasks of one size
    that is exact; with mixed ones it leaves room for what does not fit.
    """
    slots = pool.slots_per_worker
    size = min(math.ceil(load.slots_per_task - ROUNDING), slots)
    return slots // size * size


def _over(pool: spec.WorkerPoolSpec, *, usable: int) -> str:
    whole = pool.slots_per_worker
    return f"over {_slots(whole)}" if usable == whole else f"over {usable} of {_slots(whole)}"


def _down(
    pool: spec.WorkerPoolSpec, steady: ScaleDecision, *, load: Load, fleet: Fleet, now: float
) -> ScaleDecision:
    current, target, maximum = steady.current, steady.target, pool.scaling.max_replicas
    if current > maximum:
        return dataclasses.replace(
            steady,
            desired=maximum,
            reason=Reason.ABOVE_MAXIMUM,
            message=(
                f"{current} is above spec.scaling.maxReplicas {maximum}; the surplus is drained"
            ),
            limit=Limit.MAXIMUM,
            busy_may_go=True,
        )
    timeout = pool.scaling.idle_timeout_seconds
    due = sorted(since + timeout for since in load.idle_since)
    idle = sum(moment <= now for moment in due)
    going = min(current - target, idle + fleet.expendable)
    later = [moment for moment in due if moment > now]
    words = f"{steady.message}; "
    if not going:
        words += f"{current} now, surplus leaves when idle for {timeout} s"
    elif going <= fleet.expendable:
        words += f"{going} of {current} do not start"
    else:
        words += f"{going} of {current} idle for {timeout} s"
    return dataclasses.replace(
        steady,
        desired=current - going,
        reason=Reason.IDLE if going else Reason.WAITING_FOR_IDLE,
        message=words,
        recheck_after_seconds=(
            max(0.0, later[0] - now) if later and going < current - target else None
        ),
    )


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


def _slots(count: int) -> str:
    return f"{count} slot" if count == 1 else f"{count} slots"
