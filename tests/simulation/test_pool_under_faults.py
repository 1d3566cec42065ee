"""Seeds of the simulated worlds: what is promised, and what may go wrong, stand in `rig.simulation`
and `rig.fleet_simulation`.

PENSTOCK_SIM_SEEDS  how many seeds of each scenario (500)
PENSTOCK_SIM_SEED   only this one
"""

import os

import pytest

from rig import fleet_simulation, simulation

SEEDS = int(os.environ.get("PENSTOCK_SIM_SEEDS", "500"))
ONLY = os.environ.get("PENSTOCK_SIM_SEED")
#: Histories that break a promise when a fault of before is put back.
REGRESSIONS = (21, 42, 95, 111, 156, 188, 205, 1015)
SCENARIOS = {
    "harsh": simulation.Scenario(),
    "gentle": simulation.Scenario(gentle=True),
    "crowded": simulation.Scenario(crowded=True),
    "controlled": simulation.Scenario(controlled=True),
}


def seeds(count: int = SEEDS) -> list[int]:
    return [int(ONLY)] if ONLY else [*REGRESSIONS, *range(count)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_promises_hold_in_every_history(scenario: str) -> None:
    for seed in seeds():
        try:
            simulation.World(seed, SCENARIOS[scenario]).run()
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
