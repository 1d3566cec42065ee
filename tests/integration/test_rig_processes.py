"""Helper programs of the tests and the demo: an interrupt lets them clean up first."""

import os
import pathlib
import signal
import subprocess
import sys
import time

from rig import processes

CHILD = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def clean_up(*_):
    time.sleep(1)  # longer than a caller in a hurry would wait
    (folder / "cleaned").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, clean_up)
(folder / "ready").touch()
time.sleep(60)
"""
CALLER = """
import sys
from rig import processes
processes.run_to_end([sys.executable, "-c", sys.argv[1], sys.argv[2]])
"""
HACK = pathlib.Path(__file__).resolve().parents[2] / "hack"


def test_an_interrupted_caller_waits_for_what_it_started(tmp_path: pathlib.Path) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, CHILD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(HACK)},
        stderr=subprocess.DEVNULL,
        preexec_fn=processes.hear_interrupts,  # noqa: PLW1509 - no threads here
    )
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        caller.send_signal(signal.SIGINT)
        assert caller.wait(20) != 0
        assert (tmp_path / "cleaned").exists()
    finally:
        caller.kill()
        caller.wait()
