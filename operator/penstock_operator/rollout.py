"""From one revision to the next without stopping a busy worker.

A rollout is a scale-up of the new revision's Deployment and a scale-down of the old ones, in the
same three phases. `step` says how far to go now, from the present fleet alone:

* new workers come up as far as the surge and the pool's maximum allow;
* old ones are reserved, busy ones too (they finish what they run), as many as new ones that take
  work make up for; whether an old one's pod is ready does not matter, it takes work all the same;
* where the maximum leaves no room for a surge, a surge's worth of workers may be missing
  meanwhile.

Old workers that hold nothing and do not start (a bad image), or that the dispatcher does not know
(a wrong address), count for nothing and may go at once: they are what a new revision is often
meant to mend. New ones that do not become ready, or do not connect, stop the rollout where it is.
Pure.
"""

import dataclasses
import math
from typing import Final

from penstock_operator import fleet

SURGE_PERCENT: Final = 25


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Raise the new revision by `grow`; reserve the counts in `drain`, by revision hash."""

    grow: int
    drain: tuple[tuple[str, int], ...]


def step(workers: fleet.Fleet, *, wanted: int, maximum: int) -> Step:
    """The next step towards `wanted` workers of the new revision and none of an old one."""
    surge = max(1, math.ceil(wanted * SURGE_PERCENT / 100)) if wanted else 0
    room = max(0, min(maximum, wanted + surge) - workers.replicas)
    grow = min(room, max(0, wanted - workers.current.staying))
    spare = 0 if maximum > wanted else surge
    available = workers.current.serving + sum(revision.serving for revision in workers.old)
    surplus = max(0, available - (wanted - spare))
    drain = []
    for revision in workers.old:
        # Those that do not take work yet make nobody miss them; they are drained as soon as they
        # can be.
        count = min(surplus, revision.serving) if wanted > spare else revision.serving
        if count > 0:
            drain.append((revision.hash, count))
            surplus -= count
    return Step(grow=grow, drain=tuple(drain))
