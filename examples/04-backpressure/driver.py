"""Twenty tasks at once for a pool that lets five wait: four answers to a refusal.

retry    come back when the dispatcher says, until it takes the task
store    put it aside, and submit it when there is room again
drop     do without it
alert    tell somebody, and do without it

Each answer gets twenty tasks of its own. Whatever was accepted runs exactly once, and whatever was
refused has left nothing behind: the dispatcher's own counts must agree with those here.
"""

import argparse
import asyncio
import collections
import dataclasses
import pathlib
import sys
from collections.abc import Awaitable, Callable

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "shared"))

import demo
import progress

import penstock

WORKERS = 3
TASKS = 20
RETRY = penstock.Retry(max_attempts=1_000, max_elapsed_seconds=demo.PATIENCE_SECONDS)


@dataclasses.dataclass
class Tally:
    """What became of the tasks of one answer, by their numbers."""

    accepted: dict[int, penstock.Task] = dataclasses.field(default_factory=dict)
    stored: collections.deque[int] = dataclasses.field(default_factory=collections.deque)
    given_up: list[int] = dataclasses.field(default_factory=list)


Answer = Callable[[penstock.Client, Tally, int, penstock.QueueFull], Awaitable[None]]


async def retry(client: penstock.Client, tally: Tally, number: int, _: penstock.QueueFull) -> None:
    """The client sleeps for as long as each refusal says, and submits again: `RetryInfo`."""
    tally.accepted[number] = await client.submit("double", f"{number}", retry=RETRY)


async def store(_: penstock.Client, tally: Tally, number: int, __: penstock.QueueFull) -> None:
    """Aside, in order; `deliver` submits it later."""
    tally.stored.append(number)


async def drop(_: penstock.Client, tally: Tally, number: int, __: penstock.QueueFull) -> None:
    """Fine for what is out of date by the time that there is room."""
    tally.given_up.append(number)


async def alert(_: penstock.Client, tally: Tally, number: int, full: penstock.QueueFull) -> None:
    """A person, or a pager, hears of it; here it is standard error."""
    tally.given_up.append(number)
    print(
        f"ALERT: task {number} was refused: {full.message}; room in about "
        f"{full.retry_after_seconds or 0:.2f} s",
        file=sys.stderr,
    )


async def deliver(client: penstock.Client, tally: Tally) -> None:
    """Submit what was stored, one after the other, each when there is room."""
    while tally.stored:
        number = tally.stored[0]
        tally.accepted[number] = await client.submit("double", f"{number}", retry=RETRY)
        tally.stored.popleft()


async def offer(client: penstock.Client, answer: Answer) -> list[str]:
    """All twenty at once; returns what is wrong afterwards."""
    before, tally = await client.pool(), Tally()

    async def one(number: int) -> None:
        try:
            tally.accepted[number] = await client.submit("double", f"{number}")
        except penstock.QueueFull as full:
            await answer(client, tally, number, full)

    await asyncio.gather(*(one(number) for number in range(TASKS)))
    stored = len(tally.stored)
    await deliver(client, tally)
    numbers = sorted(tally.accepted)
    done = await demo.finished(client, [tally.accepted[number] for number in numbers])
    after = await client.pool()
    refusals = after.refused_total - before.refused_total
    print(
        f"{answer.__name__:6} {TASKS} offered, {refusals} refusals, {len(done)} done, "
        f"{stored} stored for later, {len(tally.given_up)} given up"
    )
    wrong = [
        f"task {number} is {task.state.value} with {task.result!r} after attempt {task.attempt}"
        for number, task in zip(numbers, done, strict=True)
        if not task.succeeded or task.result != f"{2 * number}".encode() or task.attempt != 1
    ]
    if sorted([*numbers, *tally.given_up]) != list(range(TASKS)):
        wrong.append(f"{answer.__name__}: some tasks are lost, or there twice")
    if len({task.name for task in done}) != len(done):
        wrong.append(f"{answer.__name__}: one task stands for two")
    for what in ("accepted_total", "succeeded_total"):
        count = getattr(after, what) - getattr(before, what)
        if count != len(done):
            wrong.append(f"{answer.__name__}: {what} grew by {count}, not by {len(done)}")
    if not refusals:
        wrong.append(f"{answer.__name__}: nothing was refused, so nothing was shown")
    return wrong


async def run(client: penstock.Client, _: argparse.Namespace) -> int:
    """One answer after the other; returns the exit status."""
    await demo.until(
        client, f"{WORKERS} workers", lambda pool: pool.slots_total >= WORKERS and not pool.pending
    )
    mistakes = []
    async with progress.watch(client):  # how deep the queue is, all the time
        for answer in (retry, store, drop, alert):
            mistakes += await offer(client, answer)
    return demo.verdict(
        mistakes, "every task that was accepted ran once, every other one is accounted for"
    )


if __name__ == "__main__":
    sys.exit(demo.main(run, pool="default/backpressure", description=__doc__))
