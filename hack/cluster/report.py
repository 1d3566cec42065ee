"""What the user reads: lines on standard error, errors with a remedy, progress.

Standard output belongs to values that other programs read (``env``,
``kubeconfig``, ``status``), so everything said here goes to standard error.
A progress bar is drawn only on a terminal and only when ``rich`` happens to be
installed; everywhere else the same facts come as plain lines, one at the start,
one every half minute, one at the end, so that a CI log shows that work goes on.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

LINE_INTERVAL_SECONDS = 30.0

EXIT_FAILED = 1
EXIT_USAGE = 2
#: No cluster can be had on this machine: callers skip what needs one, and say why.
EXIT_IMPOSSIBLE = 3


class ClusterError(Exception):
    """Something failed in a way the user can act on: what happened, and what helps."""

    def __init__(self, what: str, *, remedy: str = "", exit_code: int = EXIT_FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.exit_code = exit_code


def say(text: str) -> None:
    """Print one line for the user."""
    print(f"cluster: {text}", file=sys.stderr, flush=True)


class Ticker(Protocol):
    """Called again and again while something long runs."""

    def __call__(self) -> None: ...


@contextlib.contextmanager
def progress(label: str, *, expected_seconds: float) -> Iterator[Ticker]:
    """Show that ``label`` is under way; the body calls the ticker at least each second."""
    started = time.monotonic()
    bar = _rich_bar(label, expected_seconds) if sys.stderr.isatty() else None
    if bar is not None:
        with bar as tick:
            yield tick
    else:
        say(f"{label} (about {expected_seconds:.0f} s)")
        said = started

        def plain() -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= LINE_INTERVAL_SECONDS:
                said = now
                say(f"{label}: {now - started:.0f} s of about {expected_seconds:.0f}")

        yield plain
    say(f"{label}: done in {time.monotonic() - started:.0f} s")


def _rich_bar(
    label: str, expected_seconds: float
) -> contextlib.AbstractContextManager[Ticker] | None:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None

    @contextlib.contextmanager
    def bar() -> Iterator[Callable[[], None]]:
        started = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("of about {task.total:.0f} s"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
            task = drawn.add_task(label, total=max(expected_seconds, 1.0))

            def tick() -> None:
                # An estimate may be short; the bar then waits just below its end.
                spent = min(time.monotonic() - started, expected_seconds * 0.99)
                drawn.update(task, completed=spent)

            yield tick

    return bar()
