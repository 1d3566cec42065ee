"""`make demo` as people see it: it checks itself, and says so."""

import pathlib
import subprocess
import sys

import pytest

DEMO = pathlib.Path(__file__).resolve().parents[2] / "hack" / "demo_local.py"


@pytest.mark.timeout(300)
def test_the_standard_library_through_a_local_fleet() -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compared with a computation here: 0 differ or are missing" in done.stdout
    assert "every result was right" in done.stdout
    assert done.stdout.count("→ 8 workers (Demand)") >= 3
