"""`kill -9` of a real dispatcher at 200 random points under load."""

import os
import time

from rig import dispatchers, kills

KILLS = int(os.environ.get("SOAK_KILLS", "200"))


async def test_kill_9_under_load_loses_nothing_and_runs_nothing_twice(
    dispatcher_process: dispatchers.DispatcherProcess,
) -> None:
    began = time.monotonic()

    def told(kill: int, history: kills.History) -> None:
        print(
            f"{time.monotonic() - began:7.1f} s  kill {kill} of {KILLS}: "
            f"{len(history.accepted)} accepted, {sum(history.runs.values())} runs, "
            f"{len(history.acknowledged)} acknowledged",
            flush=True,
        )

    await kills.kill_under_load(dispatcher_process, KILLS, told=told, settle_seconds=300)
