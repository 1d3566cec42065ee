"""What a run's samples say: is there growth, and could this run have shown it? Pure.

A slope is Theil and Sen's: the median over all pairs of samples, so that a single step, as when an
allocator takes its next megabyte, is hardly one. Where the true slope may lie beside it follows
from Kendall's variance of the number of pairs that rise (Sen, 1968: J. Am. Stat. Assoc. 63, 1379).
Growth counts when the whole of that interval is above zero, and when the line rises over the window
by more than one such step. That it is within a bound is said only when the whole interval is, and
when the window is so long that the bound is more than a step: for 1 MiB/h, more than two hours of
running.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence

HOUR = 3600.0
NORMAL_95 = 1.96
"""Standard deviations either side that hold 95 %."""
MEMORY_STEP_MIB = 1.5
"""Python takes memory from the system by the megabyte: one more is no growth, two may be."""
WARM_UP_SHARE = 1 / 3
BARS = "▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True, slots=True)
class Trend:
    """Of a series, after warm-up: units an hour. `low` to `high` holds the true slope in 95 of 100
    runs.
    """

    per_hour: float
    low: float
    high: float


def after_warm_up(samples: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """The last two thirds of the time."""
    if not samples:
        return samples
    begin, end = samples[0][0], samples[-1][0]
    return [one for one in samples if one[0] >= begin + (end - begin) * WARM_UP_SHARE]


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Of (seconds, value) pairs in order, at least three, all of them after warm-up."""
    slopes = sorted(
        (later - earlier) / (end - start) * HOUR
        for at, (start, earlier) in enumerate(samples)
        for end, later in samples[at + 1 :]
        if end > start
    )
    count = len(samples)
    apart = NORMAL_95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - apart) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + apart) / 2))
    return Trend(statistics.median(slopes), slopes[low], slopes[high])


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """`text` says what was found, and what it is worth."""

    failed: bool
    text: str


STRETCHES = 24
"""Of the window: what is judged is the level of each."""


def levels(samples: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """The median of each stretch, at its middle: what is alive at the moment comes and goes from
    one sample to the next. The lowest of each wander more.
    """
    begin, end = samples[0][0], samples[-1][0]
    stretches: dict[int, list[tuple[float, float]]] = {}
    for one in samples:
        at = min(STRETCHES - 1, int((one[0] - begin) / max(1e-9, end - begin) * STRETCHES))
        stretches.setdefault(at, []).append(one)
    return [
        (statistics.mean(at for at, _ in each), statistics.median(value for _, value in each))
        for each in stretches.values()
    ]


LONG_SECONDS = 15 * 60.0
"""A shorter run judges gross growth only."""
GROSS_SHARE = 0.25
"""Growth of this share of the value, within a short run."""


def judge_memory(samples: Sequence[tuple[float, float]], *, slope_max: float) -> Verdict:
    """Of resident memory in MiB over seconds; `slope_max` in MiB an hour."""
    kept = after_warm_up(samples)
    hours = (kept[-1][0] - kept[0][0]) / HOUR
    found = trend(levels(kept))
    growth = found.per_hour * hours
    grows = found.low > 0 and growth >= MEMORY_STEP_MIB
    said = (
        f"{found.per_hour:+.2f} MiB/h over the last {hours * 60:.1f} min"
        f" (95 %: {found.low:+.2f} to {found.high:+.2f})"
    )
    if samples[-1][0] - samples[0][0] < LONG_SECONDS:
        level = statistics.median(value for _, value in kept)
        gross = grows and growth > GROSS_SHARE * level
        return Verdict(gross, f"{said}: too short for a slope, looked for gross growth only")
    if grows and found.per_hour >= slope_max:
        return Verdict(True, f"{said}: it grows, {slope_max:g} MiB/h is allowed")
    if found.high > slope_max or slope_max * hours < MEMORY_STEP_MIB:
        return Verdict(
            False, f"{said}: no growth to be seen, but a longer run must show {slope_max:g} MiB/h"
        )
    return Verdict(False, f"{said}: within {slope_max:g} MiB/h")


def judge_bounded(
    name: str, samples: Sequence[tuple[float, float]], *, factor: float, slack: float
) -> Verdict:
    """The highest value of the last third is no more than `factor` times that of the third before,
    and `slack`.
    """
    kept = after_warm_up(samples)
    middle = kept[0][0] + (kept[-1][0] - kept[0][0]) / 2
    before = max(value for at, value in kept if at <= middle)
    after = max(value for at, value in kept if at > middle)
    failed = after > factor * before + slack
    return Verdict(
        failed,
        f"{name}: at most {before:.1f}, then at most {after:.1f}{': it grows' if failed else ''}",
    )


def plot(name: str, samples: Sequence[tuple[float, float]], *, width: int = 60) -> str:
    """One line: bars from the lowest to the highest value, each the median of its stretch."""
    begin, end = samples[0][0], samples[-1][0]
    stretch = max(1e-9, (end - begin) / width)
    columns: list[list[float]] = [[] for _ in range(width)]
    for at, value in samples:
        columns[min(width - 1, int((at - begin) / stretch))].append(value)
    low = min(value for _, value in samples)
    high = max(value for _, value in samples)
    span = high - low or 1.0
    bars = "".join(
        BARS[min(len(BARS) - 1, int((statistics.median(column) - low) / span * len(BARS)))]
        if column
        else " "
        for column in columns
    )
    return f"{name:<14} {low:>10.1f} {bars} {high:.1f}"
