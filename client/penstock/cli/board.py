"""The local fleet as people watch it: a live table on a terminal, lines elsewhere.

A line comes when a pool's numbers have changed, at most once in `LINE_SECONDS`; a change of the
number of workers, and a problem, at once. Whoever reads may go: the fleet does not stop for that.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import rich.console
import rich.live
import rich.markup
import rich.table

from penstock.cli import output

if TYPE_CHECKING:
    from penstock_operator import status
    from penstock_operator.local import picture

LINE_SECONDS: Final = 1.0
REFRESH_PER_SECOND: Final = 4.0
KEYS: Final = "Ctrl-C: finish what runs, then stop; twice: stop at once"


class Board:
    """Shows one picture after another. Use as a context manager."""

    def __init__(self) -> None:
        self._console = output.console()
        self._live: rich.live.Live | None = None
        self._said: dict[str, tuple[float, str]] = {}
        self._told: dict[str, str] = {}
        self._scaled: dict[str, float] = {}
        """By pool, when the last change that was told happened."""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = rich.live.Live(
                console=self._console,
                refresh_per_second=REFRESH_PER_SECOND,
                vertical_overflow="crop",
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, seen: "picture.Picture") -> None:
        """The fleet as it is now."""
        try:
            if self._live is not None:
                self._live.update(table(seen))
            else:
                self._lines(seen)
        except (OSError, SystemExit):
            # The terminal has gone, or the pipe: rich ends the program for that, the fleet goes on.
            self._live = None

    def _lines(self, seen: "picture.Picture") -> None:
        self._once("stage", f"{seen.stage.value}, dispatcher at {seen.address}", seen)
        self._once("", seen.problem, seen)
        for pool in seen.pools:
            name = short(pool.name)
            for each in pool.scales:
                if each.time > self._scaled.get(name, 0.0):
                    self._scaled[name] = each.time
                    self._say(f"{name}: {scale(each)}", seen)
            # What comes and goes by the second is not told anew.
            problem, _, _ = pool.problem.partition("; the next one")
            self._once(f"{name} problem", f"{name}: {problem}" if problem else "", seen)
            at, before = self._said.get(name, (-LINE_SECONDS, ""))
            line = (
                f"{name}: queued {queued(pool)}, running {pool.load.in_flight}, "
                f"workers {crew(pool)}, done {pool.load.succeeded_total}, "
                f"failed {pool.load.failed_total}"
            )
            if line != before and seen.seconds - at >= LINE_SECONDS:
                self._said[name] = (seen.seconds, line)
                self._say(line, seen)

    def _once(self, about: str, text: str, seen: "picture.Picture") -> None:
        if text and self._told.get(about) != text:
            self._say(text, seen)
        self._told[about] = text

    def _say(self, text: str, seen: "picture.Picture") -> None:
        self._console.print(f"{seen.seconds:7.1f} s  {text}", markup=False)


def table(seen: "picture.Picture") -> rich.console.Group:
    """A head, a row for each pool, and below why each is as large as it is."""
    made = rich.table.Table(
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for title in (
        "POOL",
        "QUEUED",
        "RUNNING",
        "WORKERS",
        "SLOTS",
        "RATE",
        "OLDEST",
        "DONE",
        "FAILED",
    ):
        made.add_column(title)
    notes = [f"[red]{rich.markup.escape(seen.problem)}[/red]"] if seen.problem else []
    for pool in seen.pools:
        load = pool.load
        oldest = load.oldest_pending_time
        cells = (
            short(pool.name),
            queued(pool),
            str(load.in_flight),
            crew(pool),
            f"{load.slots_in_use}/{load.slots_total}",
            f"{load.completion_rate:.3g}/s",
            output.span(None if oldest is None else seen.now - oldest),
            str(load.succeeded_total),
            str(load.failed_total),
        )
        made.add_row(*map(rich.markup.escape, cells))
        if pool.scales:
            last = pool.scales[-1]
            ago = output.span(seen.now - last.time)
            notes.append(rich.markup.escape(f"{short(pool.name)}: {scale(last)} ({ago} ago)"))
        if pool.problem:
            notes.append(f"[red]{rich.markup.escape(f'{short(pool.name)}: {pool.problem}')}[/red]")
    head = f"penstock {seen.stage.value}   {seen.address}   {output.span(seen.seconds)}"
    return rich.console.Group(f"[bold]{head}[/bold]", made, *notes, f"[dim]{KEYS}[/dim]")


def short(pool: str) -> str:
    """`pool`, or `namespace/pool` outside of the namespace default."""
    _, namespace, _, name = pool.split("/")
    return name if namespace == "default" else f"{namespace}/{name}"


def queued(pool: "picture.PoolPicture") -> str:
    """What waits, by priority; and what is not due yet."""
    from penstock_operator.local import picture

    waiting = picture.by_priority(pool.load.pending_by_priority)
    return f"{waiting} + {pool.load.delayed} delayed" if pool.load.delayed else waiting


def crew(pool: "picture.PoolPicture") -> str:
    """`5: 3 busy, 1 ready, 1 starting`."""
    kinds = {
        "busy": pool.busy,
        "ready": pool.ready,
        "starting": pool.starting,
        "draining": pool.draining,
    }
    words = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    return f"{pool.processes}: {words}" if words else "0"


def scale(last: "status.LastScale") -> str:
    """A change of the number of workers, with its reason and the arithmetic."""
    return f"{last.before} → {last.after} workers ({last.reason}): {last.message}"
