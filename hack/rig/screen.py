"""The latest sample of a timeline: a live table and a plot on a terminal, lines elsewhere."""

from typing import Self

import rich.console
import rich.live
import rich.table
import rich.text

from rig import timeline

LINE_SECONDS = 2.0


class Screen:
    """Shows one sample after another. Use as a context manager. `workers` is what those that are
    asked for are called.
    """

    def __init__(
        self, title: str, console: rich.console.Console, *, workers: str = "replicas"
    ) -> None:
        self._title = title
        self._console = console
        self._workers = workers
        self._live = rich.live.Live(console=console, refresh_per_second=8, transient=True)
        self._samples: list[timeline.Sample] = []
        self._printed = timeline.Sample(-LINE_SECONDS, 0, 0, 0, 0, 0)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, sample: timeline.Sample, *, rate: float | None = None) -> None:
        """Draw it. `rate`: tasks per second, where it is known."""
        self._samples.append(sample)
        if self._console.is_terminal:
            self._live.update(self._table(sample, rate))
            return
        old = self._printed
        changed = (sample.wanted, sample.ready) != (old.wanted, old.ready)
        if changed or sample.seconds - old.seconds >= LINE_SECONDS:
            self._printed = sample
            pace = "" if rate is None else f"   {rate:4.0f} tasks/s"
            self._console.print(
                f"{sample.seconds:6.1f} s   queued {sample.pending:4}   "
                f"running {sample.running:3}   {self._workers} {sample.wanted:3}   "
                f"ready {sample.ready:3}{pace}"
            )

    def _table(self, sample: timeline.Sample, rate: float | None) -> rich.table.Table:
        table = rich.table.Table(
            title=f"{self._title}   {sample.seconds:.0f} s", title_justify="left"
        )
        cells = {
            "queued": sample.pending,
            "running": sample.running,
            self._workers: sample.wanted,
            "ready": sample.ready,
        }
        for head in cells:
            table.add_column(head, justify="right", min_width=9)
        values = list(map(str, cells.values()))
        if rate is not None:
            table.add_column("tasks/s", justify="right", min_width=9)
            values.append(f"{rate:.0f}")
        table.add_row(*values)
        table.caption = rich.text.Text(timeline.plot(self._samples))
        return table
