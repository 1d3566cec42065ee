"""Gives the pool work and checks what comes back.

    python driver.py burst     20 tasks of one second, then 10; watches the fleet grow and shrink
    python driver.py stdlib    every file of Python's standard library: hashed, compressed, compared

The pool takes 100 waiting tasks and refuses more. `stdlib` offers a few more than that on purpose;
the client sends the refused ones again when the dispatcher says so. Where the dispatcher is: see
--address and --pool, or PENSTOCK_ADDRESS, PENSTOCK_POOL and PENSTOCK_TOKEN.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import pathlib
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "shared"))

import demo
import pieces
import progress

import penstock

BURSTS = (20, 10)
OUTSTANDING_MAX = 115  # the pool's bound of 100, ten workers, and some to be refused
WORKERS_MIN = 2  # the pool's spec.scaling.minReplicas
PATIENCE_SECONDS = 600.0
FAILURES_SHOWN_MAX = 10
RETRY = penstock.Retry(max_attempts=100_000, max_elapsed_seconds=PATIENCE_SECONDS)


async def burst(client: penstock.Client, *, settle_seconds: float) -> int:
    """Two bursts; then waits until the fleet is as small as it may be."""
    async with progress.watch(client) as timeline:
        before = await timeline.until(
            lambda workers: workers >= WORKERS_MIN, seconds=PATIENCE_SECONDS
        )
        for count in BURSTS:
            timeline.say(f"burst of {count} tasks of one second")
            batch = [penstock.Submission("sleep", b"1") for _ in range(count)]
            outcomes = [outcome async for outcome in client.submit_many(batch, retry=RETRY)]
            await asyncio.gather(
                *(client.result(outcome.task, timeout=PATIENCE_SECONDS) for outcome in outcomes)
            )
        timeline.say("done; idle workers leave")
        left = await timeline.until(lambda workers: workers <= WORKERS_MIN, seconds=settle_seconds)
    most = max(sample.workers for sample in timeline.samples)
    print(f"{sum(BURSTS)} tasks done; workers: {before} at first, {most} at most, {left} at last")
    return 0 if left == WORKERS_MIN or settle_seconds == 0 else 1


@dataclasses.dataclass(slots=True)
class Tally:
    """What came of the pieces."""

    files: int = 0
    count: int = 0
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    workers: set[str] = dataclasses.field(default_factory=set)
    failures: list[str] = dataclasses.field(default_factory=list)

    def add(self, piece: pieces.Piece, task: penstock.Task) -> None:
        """Compare a finished task with what was computed here."""
        self.count += 1
        self.workers.add(task.worker)
        wrong = (
            pieces.check(piece, task.result)
            if task.succeeded
            else f"{task.state.value}: {task.error}"
        )
        if wrong:
            self.failures.append(f"{piece.path}, piece {piece.index}: {wrong}")
        else:
            self.bytes_in += piece.size_bytes
            self.bytes_out += len(task.result) - pieces.SHA256_BYTES

    @property
    def right(self) -> bool:
        """Every result was what it should be."""
        return not self.failures

    def lines(self, *, seconds: float) -> list[str]:
        """The sum of it, for people."""
        work = (
            f"{self.files} files in {self.count} pieces: {self.bytes_in / 1e6:.1f} MB compressed "
            f"to {self.bytes_out / 1e6:.1f} MB by {len(self.workers)} workers in {seconds:.1f} s, "
            f"{self.count / seconds:.0f} tasks/s"
        )
        return [
            work,
            f"refused while the queue was full, and sent again: {self.refused}",
            f"compared with a computation here: {len(self.failures)} differ or are missing",
        ]


async def send(
    client: penstock.Client,
    paths: Sequence[pathlib.Path],
    *,
    root: pathlib.Path,
    tally: Tally,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Every piece of these files through the pool; each result is compared. Returns when all are
    over.
    """
    refused_before = (await client.pool()).refused_total
    sent = dict[str, pieces.Piece]()
    run_id, numbers = uuid.uuid4().hex, itertools.count()
    room = asyncio.Semaphore(OUTSTANDING_MAX)

    async def source() -> AsyncIterator[penstock.Submission]:
        for path in paths:
            for piece, content in pieces.pieces_of(path, root=root):
                await room.acquire()
                # Our own key tells which piece an outcome belongs to.
                key = f"{run_id}-{next(numbers)}"
                sent[key] = piece
                yield penstock.Submission("digest", content, request_id=key)
            tally.files += 1
            advance()

    async def collect(outcome: penstock.Outcome) -> None:
        piece = sent.pop(outcome.request_id)
        try:
            tally.add(piece, await client.wait(outcome.task, timeout=PATIENCE_SECONDS))
        except penstock.PenstockError as error:
            tally.count += 1
            tally.failures.append(f"{piece.path}, piece {piece.index}: {error}")
        finally:
            room.release()

    async with asyncio.TaskGroup() as group:
        outcomes = client.submit_many(source(), retry=RETRY)
        async with contextlib.aclosing(outcomes):
            async for outcome in outcomes:
                group.create_task(collect(outcome))
    tally.failures += [f"{each.path}, piece {each.index}: no outcome" for each in sent.values()]
    tally.refused += (await client.pool()).refused_total - refused_before


async def standard_library(client: penstock.Client, *, root: pathlib.Path) -> int:
    """Every file below `root` through the pool; each result is compared."""
    started, tally, paths = time.monotonic(), Tally(), pieces.files(root)
    async with progress.watch(client):
        with progress.Bar(total=len(paths), label="files") as bar:
            await send(client, paths, root=root, tally=tally, advance=bar.advance)
    for line in tally.lines(seconds=time.monotonic() - started):
        print(line)
    for failure in tally.failures[:FAILURES_SHOWN_MAX]:
        print(f"  {failure}", file=sys.stderr)
    return 0 if tally.right else 1


async def run(client: penstock.Client, options: argparse.Namespace) -> int:
    """The chosen run; returns the exit status."""
    if options.run == "burst":
        return await burst(client, settle_seconds=options.settle_seconds)
    return await standard_library(client, root=options.root)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What this driver takes beside --address and --pool."""
    parser.add_argument("run", choices=["burst", "stdlib"])
    parser.add_argument(
        "--settle-seconds", type=float, default=60, help="burst: wait for the fleet to shrink"
    )
    parser.add_argument(
        "--root", type=pathlib.Path, default=pieces.standard_library(), help="stdlib: the files"
    )


if __name__ == "__main__":
    sys.exit(
        demo.main(run, pool="default/dynamic-scaling", description=__doc__, arguments=arguments)
    )
