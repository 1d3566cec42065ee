"""A thousand workers that stopped reading: what others notice of them, and what they cost.

    python benchmarks/stalled_workers.py [--workers 1000] [--tasks 2000] [--rate 200] [--json]

A dispatcher process on loopback serves two pools. Tasks are submitted one by one at a fixed rate,
each to be taken at once by a healthy worker: one of the pool whose workers then stall, one of
another pool. The table has the time from submission to that worker, without and with the stalled
ones, and the dispatcher's own memory.
"""

import argparse
import asyncio
import json
import pathlib
import sys
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "hack"))

import rich.console  # noqa: E402
import rich.table  # noqa: E402

from rig import crowd, dispatchers, figures, stalled  # noqa: E402

PASSED_BY = 5_000


def row(phase: stalled.Phase) -> dict[str, float]:
    """One line of the table: milliseconds and MiB."""
    found = {
        f"{name} p{share}": crowd.percentile(getattr(phase, name), share / 100) * 1000
        for name in ("beside", "apart")
        for share in (50, 99)
    }
    return {**found, "MiB": phase.figures.memory_bytes / figures.MIB}


async def measured(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """All lines, by what was going on."""
    process = dispatchers.DispatcherProcess(folder)
    process.start()
    try:
        process.configure(*stalled.CONFIGS)
        found = await stalled.measure(
            process,
            count=options.tasks,
            per_second=options.rate,
            passed_by=PASSED_BY,
            workers=options.workers,
        )
    finally:
        process.terminate()
    return {
        "none stalled": row(found.without),
        f"{options.workers} stalled": row(found.stalled),
        f"after {found.passed_by} tasks more": row(found.later),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=stalled.WORKERS)
    parser.add_argument("--tasks", type=int, default=2_000, help="in each phase and pool")
    parser.add_argument("--rate", type=float, default=200.0, help="tasks a second and pool")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        rows = asyncio.run(measured(options, pathlib.Path(folder)))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    table = rich.table.Table("", *next(iter(rows.values())), title="ms from submission to worker")
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.1f}" for value in values.values()))
    rich.console.Console().print(table)


if __name__ == "__main__":
    main()
