"""Plays histories with a bug of `rig.bugs` in them, to see that the simulation finds it."""

import dataclasses
from collections.abc import Callable
from typing import Final

from rig import bugs, keyed, operated, replacing, simulation

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
class Finding:
    """The history that is broken, and the promise."""

    seed: int
    promise: str


def hunt(bug: bugs.Bug, seeds: int = SEEDS_MAX) -> Finding | None:
    """Plant the bug and play its world's histories until a promise is broken."""
    with replacing.replaced(bug.owner, bug.name, bug.replace):
        for seed in range(seeds):
            try:
                WORLDS[bug.world](seed)
            except AssertionError as broken:
                return Finding(seed, str(broken))
    return None
