"""A soak's verdict: growth is told from noise, and a run says what it could not have shown."""

import random

import pytest

from rig import soak_judge

MINUTES_20 = 20 * 60


def series(
    seconds: int,
    *,
    per_hour: float = 0.0,
    noise: float = 0.1,
    step_at: float = 0.0,
    seed: int = 1,
    every: int = 5,
) -> list[tuple[float, float]]:
    draw = random.Random(seed)
    return [
        (
            float(at),
            100 + per_hour * at / 3600 + draw.gauss(0, noise) + (1.0 if 0 < step_at < at else 0.0),
        )
        for at in range(0, seconds, every)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("minutes", "per_hour", "noise", "failed", "said"),
    [
        (180, 0.0, 0.1, False, "within 1 MiB/h"),
        (180, 0.5, 0.1, False, "within 1 MiB/h"),
        (180, 2.0, 0.1, True, "it grows"),
        (20, 0.0, 0.1, False, "a longer run must show"),
        (20, 12.0, 0.1, True, "it grows"),
        (20, 60.0, 2.0, True, "it grows"),
        (20, 3.0, 2.0, False, "a longer run must show"),
        (20, 0.0, 5.0, False, "a longer run must show"),
    ],
)
def test_growth_is_told_from_noise(
    seed: int, minutes: int, per_hour: float, noise: float, failed: bool, said: str
) -> None:
    every = max(5, minutes // 3)  # hundreds of samples, as in a run
    samples = series(minutes * 60, per_hour=per_hour, noise=noise, seed=seed, every=every)
    verdict = soak_judge.judge_memory(samples, slope_max=1.0)
    assert (verdict.failed, said in verdict.text) == (failed, True), verdict.text


def test_a_single_step_is_no_slope() -> None:
    samples = series(MINUTES_20, noise=0.02, step_at=800)
    assert not soak_judge.judge_memory(samples, slope_max=1.0).failed


def test_what_happens_during_warm_up_does_not_count() -> None:
    samples = [(float(at), min(at, 300) / 3 + at % 2 / 50) for at in range(0, MINUTES_20, 5)]
    assert not soak_judge.judge_memory(samples, slope_max=1.0).failed


def test_a_short_run_looks_for_gross_growth_only() -> None:
    mild = soak_judge.judge_memory(series(120, per_hour=60), slope_max=1.0)
    assert not mild.failed
    assert "too short for a slope" in mild.text
    gross = [(float(at), 50.0 + at) for at in range(120)]
    assert soak_judge.judge_memory(gross, slope_max=1.0).failed


def test_what_is_bounded_stays_where_it_was() -> None:
    saw = [(float(at), float(at % 50)) for at in range(1_000)]
    assert not soak_judge.judge_bounded("calls", saw, factor=1.0, slack=2).failed
    up = [(float(at), float(at)) for at in range(1_000)]
    assert soak_judge.judge_bounded("calls", up, factor=1.2, slack=2).failed


def test_the_plot_goes_from_the_lowest_to_the_highest() -> None:
    line = soak_judge.plot("memory", [(float(at), float(at)) for at in range(100)], width=10)
    assert line.startswith("memory")
    assert line.endswith("█ 99.0")
    flat = soak_judge.plot("flat", [(0.0, 5.0), (1.0, 5.0)], width=4)
    assert "▁" in flat


def test_the_interval_holds_the_true_slope_in_95_of_100_runs() -> None:
    held = 0
    for seed in range(400):
        samples = series(24 * 60, per_hour=3.0, noise=0.5, seed=seed, every=60)
        found = soak_judge.trend(samples)
        assert found.low <= found.per_hour <= found.high
        held += found.low <= 3.0 <= found.high
    assert 368 <= held <= 392, held


def test_a_window_shorter_than_a_step_takes_never_shows_that_nothing_grows() -> None:
    quiet = series(MINUTES_20, noise=0.001)
    assert soak_judge.trend(quiet).high < 1.0
    assert "a longer run must show" in soak_judge.judge_memory(quiet, slope_max=1.0).text
