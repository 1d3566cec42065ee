"""How a worker process starts, and what it says when it cannot."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

IMPORTING = """\
import pathlib, time
pathlib.Path("importing").touch()
try:
    time.sleep(60)
except BaseException:
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_is_heard(number: int, tmp_path: pathlib.Path) -> None:
    (tmp_path / "handlers.py").write_text(IMPORTING)
    worker = subprocess.Popen(
        [sys.executable, "-m", "penstock_worker", "handlers"],
        cwd=tmp_path,
        env={**os.environ, "PENSTOCK_POOL": "p"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "importing").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        worker.send_signal(number)
        _, said = worker.communicate(timeout=10)
    finally:
        worker.kill()
        worker.wait()
    assert worker.returncode == 0
    assert "received while starting" in said


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        ([], {}, "name the handlers"),
        (["nowhere:worker"], {}, "no module 'nowhere'"),
        (["handlers:missing"], {}, "is not a penstock_worker.Worker"),
        (["handlers"], {"PENSTOCK_POOL": ""}, "PENSTOCK_POOL is not set"),
        (["handlers"], {"PENSTOCK_SLOTS": "many"}, "PENSTOCK_SLOTS must be a number"),
        (["handlers"], {"PENSTOCK_LOG_LEVEL": "LOUD"}, "PENSTOCK_LOG_LEVEL must be DEBUG"),
        (["handlers"], {"PENSTOCK_TOKEN_FILE": "/nowhere"}, "PENSTOCK_TOKEN_FILE: cannot read"),
        (["runs"], {"PENSTOCK_SLOTS": "many"}, "PENSTOCK_SLOTS must be a number"),
    ],
)
def test_bad_configuration_is_one_line(
    tmp_path: pathlib.Path, arguments: list[str], environment: dict[str, str], complaint: str
) -> None:
    made = "from penstock_worker import Worker\nworker = Worker()\n"
    (tmp_path / "handlers.py").write_text(made)
    (tmp_path / "runs.py").write_text(made + "raise SystemExit(worker.run())\n")
    ended = subprocess.run(
        [sys.executable, "-m", "penstock_worker", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PENSTOCK_POOL": "p", "PENSTOCK_APP": "", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_module_that_cannot_be_imported_shows_where_and_ends_with_a_line(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "handlers.py").write_text("import no_such_library\n")
    ended = subprocess.run(
        [sys.executable, "-m", "penstock_worker", "handlers"],
        cwd=tmp_path,
        env={**os.environ, "PENSTOCK_POOL": "p"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    *traceback, last = ended.stderr.splitlines()
    assert "handlers.py" in "".join(traceback)
    assert last.startswith("penstock-worker: cannot import 'handlers': ModuleNotFoundError")
