"""What the local fleet looks like at one moment: values for whoever shows them. Pure."""

import dataclasses
import enum
from collections.abc import Iterable, Mapping

from penstock_operator import demand, reconcile, status
from penstock_operator.local import workers


class Stage(enum.Enum):
    """Of the whole fleet."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolPicture:
    """One pool. Workers are counted once: starting, ready (idle), busy, or draining."""

    name: str
    load: demand.Demand
    known: bool
    """False while there is no word from the dispatcher: `load` is what was last heard."""
    starting: int
    ready: int
    busy: int
    draining: int
    wanted: int
    scales: tuple[status.LastScale, ...]
    """The last few changes of the number of workers, oldest first."""
    problem: str

    @property
    def processes(self) -> int:
        """All that run."""
        return self.starting + self.ready + self.busy + self.draining


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The fleet. `problem` is the dispatcher's; `seconds` since the start, `now` of the epoch."""

    stage: Stage
    seconds: float
    now: float
    address: str
    pools: tuple[PoolPicture, ...]
    problem: str = ""


def of_pool(
    *,
    name: str,
    load: demand.Demand,
    known: bool,
    processes: Iterable[workers.Process],
    plan: reconcile.Plan | None,
    scales: Iterable[status.LastScale],
    problem: str,
) -> PoolPicture:
    """Count the pool's processes by what the dispatcher says of each."""
    starting = ready = busy = draining = 0
    for each in processes:
        worker = load.workers.get(each.uid)
        if each.leaving or (worker is not None and worker.leaving):
            draining += 1
        elif worker is None or not each.connected:
            starting += 1
        elif worker.slots_used or worker.state is demand.WorkerState.BUSY:
            busy += 1
        else:
            ready += 1
    return PoolPicture(
        name=name,
        load=load,
        known=known,
        starting=starting,
        ready=ready,
        busy=busy,
        draining=draining,
        wanted=plan.wanted if plan is not None else 0,
        scales=tuple(scales),
        problem=problem or load.config_error,
    )


def by_priority(pending: Mapping[int, int], *, shown_max: int = 4) -> str:
    """`3 (10: 1, 0: 2)`: how many wait, and of which priority, highest first."""
    total = sum(pending.values())
    if not set(pending) - {0}:
        return str(total)
    levels = sorted(pending.items(), reverse=True)
    words = ", ".join(f"{priority}: {count}" for priority, count in levels[:shown_max])
    return f"{total} ({words}{', …' if len(levels) > shown_max else ''})"
