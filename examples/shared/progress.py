"""Shows what a run does: workers, active and queued whenever they change, and a bar on a terminal.

Plain lines where the output is not a terminal, or where rich is not installed.
"""

import asyncio
import contextlib
import dataclasses
import sys
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Final, Self

import penstock

SAMPLE_SECONDS: Final = 0.25
LINES_PER_SECOND_MAX: Final = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """The pool at one moment."""

    seconds: float
    workers: int
    active: int
    queued: int


class Timeline:
    """Samples of the pool, printed as they change."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.samples: list[Sample] = []
        self._printed_at = float("-inf")
        self._changed = asyncio.Event()

    async def until(self, wanted: Callable[[int], bool], *, seconds: float) -> int:
        """Wait for a number of workers, but not for ever; returns how many there are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.samples or not wanted(self.samples[-1].workers):
                    self._changed.clear()
                    await self._changed.wait()
        return self.samples[-1].workers if self.samples else 0

    def say(self, text: str) -> None:
        """One line, with the seconds since the start."""
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)

    def add(self, pool: penstock.PoolInfo) -> None:
        """Remember a sample; print it if the number of workers changed, or now and then."""
        now = time.monotonic()
        sample = Sample(now - self.started, pool.slots_total, pool.in_flight, pool.pending)
        last = self.samples[-1] if self.samples else None
        if last is None or dataclasses.replace(sample, seconds=last.seconds) != last:
            self.samples.append(sample)
            self._changed.set()
            grew = last is None or last.workers != sample.workers
            if grew or now - self._printed_at >= 1 / LINES_PER_SECOND_MAX:
                self._printed_at = now
                self.say(
                    f"workers {sample.workers:3}   active {sample.active:3}   "
                    f"queued {sample.queued:4}"
                )


@contextlib.asynccontextmanager
async def watch(client: penstock.Client) -> AsyncIterator[Timeline]:
    """Sample the pool while the block runs."""
    timeline = Timeline()

    async def sample() -> None:
        while True:
            # A dispatcher that restarts is no reason to stop watching.
            with contextlib.suppress(penstock.errors.Unavailable):
                timeline.add(await client.pool())
            await asyncio.sleep(SAMPLE_SECONDS)

    task = asyncio.create_task(sample())
    try:
        yield timeline
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Bar:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, *, total: int, label: str) -> None:
        self._bar: Any = None
        self._task: Any = None
        if sys.stdout.isatty():
            with contextlib.suppress(ImportError):
                from rich import progress as rich_progress

                self._bar = rich_progress.Progress()
                self._task = self._bar.add_task(label, total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more."""
        if self._bar is not None:
            self._bar.advance(self._task)
