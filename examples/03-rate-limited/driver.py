"""Thirty tasks at once against a limit of ten a second with a burst of three.

The dispatcher's own times of assignment are judged: in no window of t seconds may more than
burst + rate * t tasks start. One more task is cancelled while it waits for its token.
"""

import argparse
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "shared"))

import demo

import penstock

WORKERS = 5
RATE_PER_SECOND = 10  # spec.rateLimit.tasks
BURST = 3  # spec.rateLimit.burst
TASKS = 30
SPAN_SECONDS = (TASKS - BURST) / RATE_PER_SECOND
TOLERANCE_SECONDS = 0.3


async def run(client: penstock.Client, _: argparse.Namespace) -> int:
    """Submit all at once, wait, judge; returns the exit status."""
    await demo.until(
        client,
        f"{WORKERS} workers and {BURST} tokens",
        lambda pool: pool.slots_total >= WORKERS and pool.rate_limit_tokens >= BURST,
    )
    tasks = await demo.submitted(
        client, [penstock.Submission("call", f"{number}") for number in range(TASKS + 1)]
    )
    given_up = await client.cancel(tasks.pop(), reason="waited for a token, and was not needed")
    done = await demo.finished(client, tasks)
    mistakes = [f"{task.name} is {task.state.value}" for task in done if not task.succeeded]
    if given_up.state is not penstock.TaskState.CANCELLED or given_up.attempt:
        mistakes.append(f"the cancelled task is {given_up.state.value}")
    return judge(done, mistakes)


def judge(tasks: list[penstock.Task], mistakes: list[str]) -> int:
    """Print each task's times, and look at every window."""
    started = sorted(task.start_time.timestamp() for task in tasks if task.start_time)
    first = min(started, default=0.0)
    for task in tasks:
        waited = started_after(task, first)
        print(f"task {task.result.decode():>2}  assigned at {waited:6.3f} s  took {took(task)}")
    mistakes += windows(started)
    span = max(started, default=0.0) - first
    if abs(span - SPAN_SECONDS) > TOLERANCE_SECONDS:
        mistakes.append(f"{len(started)} tasks took {span:.3f} s, not about {SPAN_SECONDS:g} s")
    return demo.verdict(
        mistakes,
        f"{len(started)} tasks assigned in {span:.3f} s: {BURST} at once, then {RATE_PER_SECOND} "
        "a second, and never more in any window; one cancelled while it waited for its token",
    )


def windows(started: list[float]) -> list[str]:
    """Windows in which too many started; `started` is sorted."""
    return [
        f"{count} tasks were assigned within {seconds:.6f} s"
        for count, seconds in demo.too_many(started, burst=BURST, rate_per_second=RATE_PER_SECOND)
    ]


def started_after(task: penstock.Task, moment: float) -> float:
    """Seconds from a moment to its assignment."""
    return task.start_time.timestamp() - moment if task.start_time else 0.0


def took(task: penstock.Task) -> str:
    """How long its handler ran, as its worker measured."""
    seconds = task.execution_time_seconds
    return "-" if seconds is None else f"{seconds:.3f} s"


if __name__ == "__main__":
    sys.exit(demo.main(run, pool="default/rate-limited", description=__doc__))
