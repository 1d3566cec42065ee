"""Examples 02 to 04 as their READMEs tell them: the driver, against a dispatcher that was started
from the example's own manifest, and worker processes with its handlers.
"""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import yaml

from rig import installation, programs

Driver = Callable[..., "subprocess.CompletedProcess[str]"]


@contextlib.contextmanager
def driver(name: str, folder: pathlib.Path) -> Iterator[Driver]:
    """A way to run an example's driver, with as many workers as its pool has at least."""
    config = installation.manifest(name)
    example = config.parent
    manifest = yaml.safe_load(config.read_text())
    pool, count = manifest["metadata"]["name"], manifest["spec"]["scaling"]["minReplicas"]
    dispatcher = programs.Standalone(folder, config)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        # The pool's name is the driver's own default.
        clean = {key: value for key, value in os.environ.items() if key != "PENSTOCK_POOL"}
        return subprocess.run(
            [sys.executable, "driver.py", "--address", dispatcher.address, *arguments],
            cwd=example,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    try:
        with programs.workers(
            count, app="handlers:worker", folder=example, address=dispatcher.address, pool=pool
        ):
            yield run
    finally:
        dispatcher.kill()


def test_priority(tmp_path: pathlib.Path) -> None:
    with driver("02-priority", tmp_path) as run:
        done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    shown = [re.search(r"priority +(\d+) +submitted as number (\d)", line) for line in lines[:7]]
    places = [(int(each[1]), int(each[2])) for each in shown if each]
    assert places == [(10, 4), (7, 6), (5, 2), (3, 5), (2, 3), (1, 1), (1, 7)]
    found = re.search(r"in the order 10, 7, 5, 3, 2, 1, 1, at (\d) moments", lines[-1])
    assert found is not None
    assert int(found[1]) > 3, "one after the other, not three at once"


def test_rate_limited(tmp_path: pathlib.Path) -> None:
    with driver("03-rate-limited", tmp_path) as run:
        done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    took = re.findall(
        r"^task +\d+ +assigned at +([\d.]+) s +took [\d.]+ s$", done.stdout, re.MULTILINE
    )
    assert len(took) == 30
    assert re.search(r"^30 tasks assigned in [23]\.", done.stdout, re.MULTILINE)


def test_backpressure(tmp_path: pathlib.Path) -> None:
    with driver("04-backpressure", tmp_path) as run:
        done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(
        r"^(\w+) +20 offered, (\d+) refusals, (\d+) done, (\d+) stored for later, (\d+) given up$",
        done.stdout,
        re.MULTILINE,
    )
    by_answer = {name: tuple(map(int, counts)) for name, *counts in rows}
    assert list(by_answer) == ["retry", "store", "drop", "alert"]
    for refusals, finished, stored, given_up in by_answer.values():
        assert refusals > 0
        assert finished + given_up == 20
        assert stored <= refusals
    assert by_answer["retry"][1] == by_answer["store"][1] == 20
    assert by_answer["store"][2] > 0
    assert by_answer["drop"][3] > 0
    assert done.stderr.count("ALERT: ") == by_answer["alert"][3] > 0


def test_a_driver_without_a_dispatcher_says_so_in_one_line() -> None:
    for name in ("01-dynamic-scaling", "02-priority"):
        example = installation.manifest(name).parent
        arguments = ["burst"] if name.startswith("01") else []
        done = subprocess.run(
            [sys.executable, "driver.py", *arguments, "--address", "nowhere/at/all"],
            cwd=example,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1
        assert "must be host:port" in done.stderr.splitlines()[0]
        assert len(done.stderr.splitlines()) == 1
