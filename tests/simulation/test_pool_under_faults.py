"""Seeds of the simulated worlds: what is promised, and what may go wrong, stand in
`rig.simulation`, `rig.operated`, `rig.keyed` and `rig.fleet_simulation`.

PENSTOCK_SIM_SEEDS  how many seeds of each scenario (500)
PENSTOCK_SIM_SEED   only this one
"""

import os

import pytest

from rig import fleet_simulation, keyed, operated, simulation

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "500"))
ONLY = os.environ.get("PENSTOCK_SIM_SEED")
#: Histories that break a promise when a fault of before is put back.
REGRESSIONS = (21, 42, 65, 95, 108, 111, 156, 188, 205, 234, 1015)
SCENARIOS: dict[str, tuple[type[simulation.World], simulation.Scenario]] = {
    "harsh": (simulation.World, simulation.Scenario()),
    "gentle": (simulation.World, simulation.Scenario(gentle=True)),
    "crowded": (simulation.World, simulation.Scenario(crowded=True)),
    "operated": (operated.OperatedWorld, simulation.Scenario()),
    "operated, crowded": (operated.OperatedWorld, simulation.Scenario(crowded=True)),
    "tight": (simulation.World, simulation.Scenario(crowded=True, tight=True)),
    "keyed": (keyed.KeyedWorld, simulation.Scenario()),
}
SHARES = {"operated, crowded": 5, "tight": 5, "keyed": 2}
"""Of these, one in so many: another one of the same kind plays them all, or they take longer."""


def seeds(count: int = SEEDS) -> list[int]:
    return [int(ONLY)] if ONLY else [*REGRESSIONS, *range(count)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_promises_hold_in_every_history(scenario: str) -> None:
    world, kind = SCENARIOS[scenario]
    for seed in seeds(SEEDS // SHARES.get(scenario, 1)):
        try:
            world(seed, kind).run()
        except AssertionError as error:
            raise AssertionError(
                f"{error}\nreplay: PENSTOCK_SIM_SEED={seed} make sim ({scenario})"
            ) from error


def test_no_busy_pod_is_stopped_in_any_history() -> None:
    """Two of `removal.confirm`'s three guards have to fail before one is: each of them suffices."""
    scenario = simulation.Scenario(steps=1500, clients=150)
    removed = 0
    # One of these histories takes as long as five of the others.
    chosen = seeds(SEEDS // 5)
    for seed in chosen:
        try:
            world = fleet_simulation.FleetWorld(seed, scenario)
            world.run()
        except AssertionError as error:
            raise AssertionError(
                f"{error}\nreplay: PENSTOCK_SIM_SEED={seed} make sim (fleet)"
            ) from error
        removed += world.removed
    assert removed > len(chosen), "pods did leave"
