"""Three tenants, one pool: the share of each, the rate of one alone, a cap on what runs at once.

The dispatcher's own times of assignment are judged. All tenants' tasks are submitted while the pool
is paused, so that each wants more than its share from the first moment on.
"""

import argparse
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "shared"))

import demo

import penstock

SLOTS = 6  # three workers of spec.slotsPerWorker
WEIGHTS = {"gold": 3, "silver": 2, "bronze": 1}  # spec.queue.fairness.weights; bronze has none
RATE_PER_SECOND = 8  # spec.rateLimit.perKeyTasks
BURST = 3  # spec.rateLimit.perKeyBurst
AT_ONCE = 2  # spec.rateLimit.maxInFlightPerKey
EACH = 24
FIRST = 36
"""Starts that are counted: all tenants have tasks waiting until then."""
TOLERANCE = 2
"""Tasks: where the count ends within a round, and a tenant whose next token is a moment late."""


async def run(client: penstock.Client, _: argparse.Namespace) -> int:
    """Three acts; returns the exit status."""
    await demo.until(client, f"{SLOTS} idle slots", lambda pool: pool.slots_total >= SLOTS)
    contended = await demo.paused(
        client,
        [
            penstock.Submission("work", fairness_key=tenant)
            for tenant in WEIGHTS  # one after the other: first come would be first served
            for _ in range(EACH)
        ],
    )
    alone = await demo.paused(
        client, [penstock.Submission("work", fairness_key="gold") for _ in range(EACH)]
    )
    one_thing = await demo.paused(
        client,
        [
            penstock.Submission("work", fairness_key=tenant, concurrency_key="repository-7")
            for tenant in WEIGHTS
            for _ in range(EACH // 6)
        ],
    )
    every = (*contended, *alone, *one_thing)
    mistakes = [f"{task.name} is {task.state.value}" for task in every if not task.succeeded]
    mistakes += shares(contended) + windows(alone) + at_once(one_thing)
    return demo.verdict(
        mistakes,
        f"each tenant had its share; one alone never started more than {BURST} + "
        f"{RATE_PER_SECOND} a second; never more than {AT_ONCE} worked on the same thing",
    )


def shares(tasks: list[penstock.Task]) -> list[str]:
    """Print each tenant's share of the first starts; what is wrong with it."""
    first = sorted(tasks, key=started)[:FIRST]
    wrong = []
    print(f"{'TENANT':<10}{'WEIGHT':>8}{'FAIR':>8}{'STARTED':>10}   of the first {FIRST}")
    for tenant, weight in WEIGHTS.items():
        fair = FIRST * weight / sum(WEIGHTS.values())
        found = sum(task.fairness_key == tenant for task in first)
        print(f"{tenant:<10}{weight:>8}{fair:>8g}{found:>10}   {'#' * found}")
        if abs(found - fair) > TOLERANCE:
            wrong.append(f"{tenant} started {found} of the first {FIRST}, not about {fair:g}")
    return wrong


def windows(tasks: list[penstock.Task]) -> list[str]:
    """Windows in which a tenant alone started more than its rate allows."""
    starts = sorted(map(started, tasks))
    span = starts[-1] - starts[0] if starts else 0.0
    print(f"\ngold alone: {len(starts)} tasks started within {span:.2f} s")
    return [
        f"{count} tasks of one tenant started within {seconds:.6f} s"
        for count, seconds in demo.too_many(starts, burst=BURST, rate_per_second=RATE_PER_SECOND)
    ]


def at_once(tasks: list[penstock.Task]) -> list[str]:
    """Moments at which more than allowed worked on the same thing."""
    counts = [
        sum(started(other) <= started(task) < ended(other) for other in tasks) for task in tasks
    ]
    most = max(counts, default=0)
    print(f"repository-7: {len(tasks)} tasks, at most {most} at once")
    return [f"{most} tasks with one concurrency key ran at once"] if most > AT_ONCE else []


def started(task: penstock.Task) -> float:
    """When it was assigned; never = after everything."""
    return task.start_time.timestamp() if task.start_time else float("inf")


def ended(task: penstock.Task) -> float:
    """When its outcome was recorded."""
    return task.end_time.timestamp() if task.end_time else float("inf")


if __name__ == "__main__":
    sys.exit(demo.main(run, pool="default/fair-tenants", description=__doc__))
