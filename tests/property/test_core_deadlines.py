"""`next_deadline` may be early, never late: by the passing of time alone nothing starts before it,
and nobody is let in.

Hypothesis draws the seed of a history, not its steps: what goes wrong needs many of them, more than
it would draw.
"""

import dataclasses
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_dispatcher.core import effects
from penstock_dispatcher.core import settings as core_settings
from rig import pool_bench

S = pool_bench.S
UNLIMITED_S = 1_000_000


def a_rate(rng: random.Random) -> core_settings.RateLimit:
    return core_settings.RateLimit(
        tasks=rng.choice([1, 3]), period_ns=rng.choice([1, 2]) * S, burst=rng.choice([1, 2, 4])
    )


def a_config(rng: random.Random) -> dict[str, Any]:
    return {
        "max_pending": rng.choice([5, 30]),
        "max_pending_bytes": 10**6,
        "max_pending_per_key": rng.choice([0, 0, 1, 3]),
        "lease_ns": UNLIMITED_S * S,
        "execution_timeout_ns": UNLIMITED_S * S,
        "fair": rng.random() < 0.4,
        "rate_limit": rng.choice([None, None, a_rate(rng)]),
        "rate_limit_per_key": rng.choice([None, a_rate(rng), a_rate(rng)]),
        "max_in_flight": rng.choice([0, 0, 0, 1, 4]),
        "max_in_flight_per_key": rng.choice([0, 0, 1, 2]),
    }


def a_task(rng: random.Random) -> dict[str, Any]:
    return {
        "priority": rng.choice([0, 0, 1, 5]),
        "fairness_key": rng.choice(["", "a", "b"]),
        "concurrency_key": rng.choice(["", "x"]),
        "slots": rng.choice([1, 1, 2, 4]),
        "type": rng.choice(["t", "u"]),
    }


def settle(bench: pool_bench.Bench) -> None:
    """Nothing is left that a turn, or the journal, would bring about."""
    while bench.effects() or bench.pool.awaits_journal:
        pass


def act(bench: pool_bench.Bench, number: int, rng: random.Random) -> None:
    """One event."""
    drawn = rng.random()
    if drawn < 0.4:
        bench.submit(f"t{number}", **a_task(rng))
    elif drawn < 0.6:
        bench.wait_for_room(f"t{number}", **a_task(rng))
    elif drawn < 0.65:
        bench.submit(f"t{number}", not_before=bench.now + rng.randrange(3 * S))
    elif drawn < 0.95:
        running = bench.pool.fleet.leases.all()
        if running:
            bench.end(rng.choice(running).task.id)
    else:
        bench.pool.configure(dataclasses.replace(bench.pool.config, **a_config(rng)), bench.now)
    settle(bench)


def pass_time(bench: pool_bench.Bench, elapsed: int) -> None:
    """Up to the deadline nothing must come; then the deadline, if it is within that time."""
    until, due = bench.now + elapsed, bench.pool.next_deadline()
    just_before = min(until, due - 1)
    if just_before > bench.now:
        bench.now = just_before
        assert bench.pool.dispatch(bench.now) == 0, "a start that no deadline announced"
        assert not bench.effects(effects.WaiterAnswered), "room that no deadline announced"
    bench.now = until
    if due <= until:
        bench.pool.tick(bench.now)
        settle(bench)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_nothing_happens_before_the_deadline(seed: int) -> None:
    rng = random.Random(seed)
    bench = pool_bench.Bench(**a_config(rng))
    for number in range(rng.randint(1, 3)):
        bench.worker(f"w{number}", slots=rng.choice([1, 2, 4]))
    settle(bench)
    for number in range(100):
        act(bench, number, rng)
        pass_time(bench, rng.choice([0, S // 10, S // 2, S, 3 * S]))
