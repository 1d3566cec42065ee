"""Draws docs/images/fleet.svg from docs/images/fleet.json, which a real run has recorded.

    python3 hack/render_fleet.py            # write it
    python3 hack/render_fleet.py --check    # exit 1 when it is not fresh

Three panels share the seconds: queue, workers, rate. An SVG writer of our own, because one chart of
four lines does not pay for a plotting library (matplotlib brings ten packages and turns text into
outlines or wants its fonts), and so the same recording gives the same bytes everywhere.

The card has a background of its own, in two colours that follow the reader's theme together with
the text: whatever page it stands on, it can be read.
"""

import pathlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax import saxutils

from rig import recording, timeline

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs" / "images" / "fleet.json"
TARGET = ROOT / "docs" / "images" / "fleet.svg"
WIDTH, LEFT, RIGHT, TOP = 840, 118, 18, 70
PANEL, GAP, BOTTOM = 92, 22, 40
RATE_SECONDS = 1.0
TICKS_MAX = 7
STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000)
STYLE = """\
svg { font-family: system-ui, -apple-system, "Segoe UI", sans-serif; font-size: 12px }
.card { fill: #ffffff; stroke: #d1d9e0 }
text { fill: #59636e } .title { fill: #1f2328; font-size: 15px; font-weight: 600 }
.name { fill: #1f2328; font-weight: 600 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.queue { fill: #bf8700; fill-opacity: .35; stroke: #9a6700 }
.workers { fill: #0969da; fill-opacity: .16; stroke: #0969da }
.busy { fill: #0969da; fill-opacity: .55 }
.rate { fill: none; stroke: #1a7f37 }
.queue, .workers, .rate { stroke-width: 1.5; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
.card { fill: #0d1117; stroke: #3d444d }
text { fill: #9198a1 } .title, .name { fill: #f0f6fc }
.grid { stroke: #3d444d }
.queue { fill: #d29922; stroke: #d29922 }
.workers, .busy { fill: #4493f8 } .workers { stroke: #4493f8 }
.rate { stroke: #3fb950 }
}"""


def ticks(top: float) -> list[int]:
    """Round numbers from 0 to the first that is not below `top`, at most `TICKS_MAX`."""
    step = next((each for each in STEPS if top / each <= TICKS_MAX - 1), STEPS[-1])
    return list(range(0, int(-(-top // step)) * step + 1, step))


def rates(samples: Sequence[timeline.Sample]) -> list[float]:
    """Tasks per second that ended well, over the last `RATE_SECONDS` before each sample."""
    found, first = list[float](), 0
    for sample in samples:
        while samples[first + 1].seconds < sample.seconds - RATE_SECONDS:
            first += 1
        since = sample.seconds - samples[first].seconds
        found.append((sample.done - samples[first].done) / since if since else 0.0)
    return found


@dataclass(frozen=True, slots=True)
class Panel:
    """One scale of its own, at a height of the picture."""

    top: float
    marks: list[int]
    seconds: float

    def x(self, seconds: float) -> float:
        """Where a moment is."""
        return LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Where a value is."""
        return self.top + PANEL * (1 - value / self.marks[-1])

    def frame(self, name: str, detail: Sequence[str]) -> str:
        """Its name, its scale, and a line for each mark."""
        lines = [_text(16, self.top + 14, name, "name")]
        for number, each in enumerate(detail):
            lines.append(_text(16, self.top + 32 + 16 * number, each))
        for mark in self.marks:
            y = self.y(mark)
            lines.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
            if mark in (0, self.marks[-1]):
                lines.append(_text(LEFT - 8, y + 4, f"{mark:,}", anchor="end"))
        return "\n".join(lines)

    def steps(self, points: Sequence[tuple[float, float]], kind: str) -> str:
        """An area whose top holds each value until the next."""
        path = f"M{self.x(points[0][0]):.1f} {self.y(0):.1f}"
        path += "".join(f"V{self.y(value):.1f}H{self.x(to):.1f}" for value, to in _held(points))
        return f'<path class="{kind}" d="{path}V{self.y(0):.1f}Z"/>'

    def line(self, points: Sequence[tuple[float, float]], kind: str, *, area: bool = False) -> str:
        """A line through the points, closed along the bottom when it is an area."""
        path = "L".join(f"{self.x(when):.1f} {self.y(value):.1f}" for when, value in points)
        if area:
            first, last = self.x(points[0][0]), self.x(points[-1][0])
            path = f"{first:.1f} {self.y(0):.1f}L{path}L{last:.1f} {self.y(0):.1f}Z"
        return f'<path class="{kind}" d="M{path}"/>'


def _held(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    ends = [when for when, _ in points[1:]] + [points[-1][0]]
    return [(value, end) for (_, value), end in zip(points, ends, strict=True)]


def _text(x: float, y: float, said: str, kind: str = "", *, anchor: str = "start") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.0f}" y="{y:.1f}"{of_kind}{anchored}>{saxutils.escape(said)}</text>'


def render(run: recording.Recording) -> str:
    """The picture; the same for the same recording."""
    samples = run.samples
    end = samples[-1].seconds
    rate = rates(samples)

    def points(value: Callable[[timeline.Sample], float]) -> list[tuple[float, float]]:
        return [(sample.seconds, value(sample)) for sample in samples]

    tops = [TOP + number * (PANEL + GAP) for number in range(3)]
    queue = Panel(tops[0], ticks(max(each.pending for each in samples)), end)
    fleet = Panel(tops[1], ticks(max(each.wanted for each in samples)), end)
    speed = Panel(tops[2], ticks(max(rate)), end)
    height = tops[2] + PANEL + BOTTOM
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{saxutils.escape(run.title)}</title>",
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        _text(16, 28, run.title, "title"),
        _text(16, 47, run.circumstances),
        queue.frame("Queue", ["tasks", "that wait"]),
        queue.line(points(lambda each: each.pending), "queue", area=True),
        fleet.frame("Workers", ["outline: there", "filled: busy"]),
        fleet.steps(points(lambda each: each.wanted), "workers"),
        fleet.steps(points(lambda each: each.running), "busy"),
        speed.frame("Rate", ["tasks/s done,", f"over {RATE_SECONDS:g} s"]),
        speed.line(
            [(each.seconds, value) for each, value in zip(samples, rate, strict=True)], "rate"
        ),
    ]
    for second in ticks(end):
        if second <= end:
            label = f"{second} s"
            parts.append(_text(speed.x(second), height - 16, label, anchor="middle"))
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Return 1 when it is to be checked and is not fresh."""
    picture = render(recording.load(SOURCE))
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(picture, encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == picture:
        return 0
    print(f"{TARGET.relative_to(ROOT)} is not fresh: run hack/render_fleet.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
