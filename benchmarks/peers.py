"""Penstock beside Celery, Dramatiq, Taskiq and NATS JetStream: the same load, on the same 2 cores.

    python benchmarks/peers.py [--only NAME …] [--rounds 3] [--quick] [--json FOLDER]

The load is tasks of 100 bytes that do nothing, from one producer process through one server to one
worker process. What the peers need is installed or built first, into the cache and never into the
project's environment: `redis-server` by Debian's package, `nats-server` from its pinned Go module,
and the Python packages of `peers/requirements.txt`. A round measures every system in turn; the
medians over `--rounds` are shown. Exit status 1 = a system could not be measured.
"""

import argparse
import os
import pathlib
import signal
import statistics
import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import peers_rounds
import peers_servers
import peers_systems
import rich.console
import rich.progress
import rich.table
from json_files import write_json
from peers_rounds import Figures
from peers_systems import System
from report import ClusterError

from rig import compiled

CORES = 2
#: figure → its heading, and whether more of it is better
HEADINGS = {
    "end_to_end": ("tasks\n/s", True),
    "one_by_one": ("submits\n/s", True),
    "many": ("in bulk\n/s", True),
    "p50_ms": ("p50\nms", False),
    "p99_ms": ("p99\nms", False),
    "memory_mib": ("memory\nMiB", False),
}
LEGEND = (
    "tasks: submitted in bulk, until the last has run. submits: one after the other, each awaited."
    " in bulk: the best way from one process. p50, p99: from the submission to the handler's"
    " start, at 200 a second. memory: server and worker after the run. synced: when what was"
    " accepted is on disk."
)


@dataclass(slots=True)
class Measured:
    """A system with what its rounds gave, or why there is nothing."""

    system: System
    rounds: list[Figures] = field(default_factory=list)
    problem: str = ""

    def median(self, figure: str) -> float | None:
        """Over the rounds; None = not measured."""
        values = [getattr(each, figure) for each in self.rounds]
        return None if not values or None in values else statistics.median(values)


def prepare(chosen: list[Measured]) -> None:
    """Fetch and build what is needed, each once; notes what cannot be had."""
    problems: dict[object, str] = {}
    for measured in chosen:
        for need in measured.system.needs:
            if need not in problems:
                problems[need] = _problem(need)
            measured.problem = measured.problem or problems[need]


def _problem(need: Any) -> str:
    try:
        need()
    except ClusterError as error:
        return f"{error.what.splitlines()[0]}; {error.remedy}".rstrip("; ")
    return ""


def measure(chosen: list[Measured], rounds: int, load: peers_rounds.Load) -> None:
    """Round by round, so that a noisy minute touches all alike."""
    able = [each for each in chosen if not each.problem]
    console = rich.console.Console(stderr=True)
    with rich.progress.Progress(console=console, transient=True) as progress:
        step = progress.add_task("", total=len(able) * rounds)
        for number in range(rounds):
            for each in able:
                progress.update(step, description=f"round {number + 1}: {each.system.name}")
                if not each.problem:
                    _one_round(each, load)
                progress.advance(step)


def _one_round(measured: Measured, load: peers_rounds.Load) -> None:
    try:
        measured.rounds.append(measured.system.measure(load))
    except Exception as error:  # whatever it is, the others are measured
        measured.problem = f"{type(error).__name__}: {error}".splitlines()[0]
        measured.rounds.clear()


def ratio(of: Measured, to: Measured, figure: str) -> float | None:
    """Penstock ÷ peer."""
    ours, theirs = of.median(figure), to.median(figure)
    return ours / theirs if ours is not None and theirs else None


# ------------------------------------------------------------ what is shown


def figures_table(chosen: list[Measured]) -> rich.table.Table:
    """The medians."""
    made = _table("measured")
    for each in chosen:
        if each.rounds:
            cells = (_number(each.median(name)) for name in HEADINGS)
            made.add_row(each.system.title, each.system.durability, *cells)
    return made


def ratios_table(chosen: list[Measured]) -> rich.table.Table:
    """Penstock with its SDK ÷ each other system; green where Penstock is better."""
    made = _table("Penstock ÷ it")
    for each in chosen[1:]:
        if each.rounds:
            cells = []
            for name, (_, more) in HEADINGS.items():
                found = ratio(chosen[0], each, name)
                better = found is not None and (found >= 1) == more
                cells.append(f"[{'green' if better else 'red'}]{_number(found)}[/]")
            made.add_row(each.system.title, each.system.durability, *cells)
    return made


def _table(title: str) -> rich.table.Table:
    made = rich.table.Table(title=title, title_justify="left", box=None)
    made.add_column("", no_wrap=True)
    made.add_column("synced", no_wrap=True)
    for heading, _ in HEADINGS.values():
        made.add_column(heading, justify="right")
    return made


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def document(chosen: list[Measured], load: peers_rounds.Load) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load": asdict(load),
        "servers": peers_servers.versions(),
        "systems": [
            {
                "name": each.system.name,
                "title": each.system.title,
                "durability": each.system.durability,
                "how": each.system.how,
                "problem": each.problem or None,
                "median": {name: each.median(name) for name in HEADINGS},
                "penstock_divided_by_it": {name: ratio(chosen[0], each, name) for name in HEADINGS},
                "rounds": [asdict(one) for one in each.rounds],
            }
            for each in chosen
        ],
    }


def main() -> int:
    """Exit status 1 = a system could not be measured."""
    assert set(HEADINGS) == {each.name for each in fields(Figures)}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = peers_systems.systems()
    names = [each.name for each in known]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument(
        "--json", type=pathlib.Path, metavar="FOLDER", help="write peers.json there"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    load = peers_rounds.QUICK if given.quick else peers_rounds.FULL
    # Penstock is always measured: the ratios are to it.
    chosen = [Measured(each) for each in known if each.name in {*given.only, names[0]}]
    prepare(chosen)
    with compiled.for_children():
        measure(chosen, given.rounds, load)
    console = rich.console.Console()
    for part in (figures_table(chosen), "", ratios_table(chosen), "", LEGEND, ""):
        console.print(part)
    for title, how in {each.system.title: each.system.how for each in chosen}.items():
        console.print(f"{title}: {how}.")
    for name, version in peers_servers.versions().items():
        console.print(f"{name}: {version}.")
    if given.json:
        write_json(given.json, "peers", document(chosen, load))
    failed = [each for each in chosen if each.problem]
    for each in failed:
        print(f"not measured: {each.system.name}: {each.problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
