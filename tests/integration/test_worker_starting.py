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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--", "./work.sh"], "cannot run './work.sh': it is not executable (chmod +x)"),
        (["--", "./nowhere"], "there is no such file in"),
        (["--", "no-such-command-at-all"], "there is no command 'no-such-command-at-all' in PATH"),
        (["--", "./folder"], "it is a folder"),
        (["--", "./windows.sh"], r"its first line names '/bin/sh\r', which is not there"),
        (["--", "./env"], "its first line names 'no-such-language', which is not there"),
        (["./work.sh"], "unrecognized arguments"),
        (["--"], "name the command after --"),
        ([], "put -- and the command at the end"),
        (["--no-retry", "0", "--", "true"], "--no-retry: must be an exit status, 1 to 255"),
        (["--retry-later-seconds", "soon", "--", "true"], "must be a number of seconds"),
        (["--type", "", "--", "true"], "--type: must have 1 to 128 characters"),
    ],
)
def test_a_command_that_cannot_be_run_is_one_line(
    tmp_path: pathlib.Path, arguments: list[str], complaint: str
) -> None:
    (tmp_path / "work.sh").write_text("#!/bin/sh\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "windows.sh").write_bytes(b"#!/bin/sh\r\necho\r\n")
    (tmp_path / "env").write_text("#!/usr/bin/env no-such-language\n")
    for name in ("windows.sh", "env"):
        (tmp_path / name).chmod(0o755)
    ended = subprocess.run(
        [sys.executable, "-m", "penstock_worker", "exec", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PENSTOCK_POOL": "p"},
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
