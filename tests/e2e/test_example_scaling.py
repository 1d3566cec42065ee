"""Example 01 as its README tells it: two bursts, and the standard library, from outside."""

import re
import subprocess
import sys

from rig import installation, pools

EXAMPLE = installation.manifest("01-dynamic-scaling")
WORKERS_MIN, WORKERS_MAX = 2, 10
SCALED = re.compile(r"Scaled (\d+) → (\d+): .* = (\d+)")
"""An Event of demand: before, after, and what its arithmetic comes to."""


def test_bursts_take_the_fleet_from_two_workers_to_ten_and_back(make_pool: pools.Maker) -> None:
    pool = make_pool.from_file(EXAMPLE)
    with pool.timeline() as seen:
        first = pool.submit("sleep", [1] * 20)
        pool.api.wait("ten workers", lambda: pool.ready() == WORKERS_MAX, seconds=60)
        table = pool.api.kubectl("get", "wpool", pool.name, "--namespace", pool.namespace)
        second = pool.submit("sleep", [1] * 10)
        done = pool.wait_all(first + second, seconds=60)
        pool.settles_at(WORKERS_MIN, seconds=60)

    assert [task.state.value for task in done] == ["SUCCEEDED"] * 30
    wanted = [sample.wanted for sample in seen.samples]
    assert max(wanted) == WORKERS_MAX
    rising = wanted[: wanted.index(WORKERS_MAX)]
    assert rising == sorted(rising)
    heads, row = (line.split() for line in table.splitlines()[:2])
    shown = dict(zip(heads, row, strict=False))
    assert shown["NAME"] == pool.name
    assert (shown["MIN"], shown["MAX"], shown["DESIRED"]) == ("2", "10", "10")
    assert {"READY", "BUSY", "QUEUED", "RUNNING", "STATUS", "AGE"} <= set(heads)

    last = pool.resource()["status"]["lastScale"]
    assert (last["to"], last["reason"]) == (WORKERS_MIN, "Idle")
    assert "idle for 5 s" in last["message"]
    told = [event["message"] for event in pool.events()]
    steps = [tuple(map(int, found.groups())) for text in told if (found := SCALED.match(text))]
    ups = [(after, need) for before, after, need in steps if after > before]
    # Demand is pushed: what was accepted first may be answered before the rest of the burst is in.
    # Whatever is known, the fleet goes all the way in one step.
    assert all(after == min(need, WORKERS_MAX) for after, need in ups), told
    assert ups[-1][0] == WORKERS_MAX, told


def test_the_whole_standard_library_goes_through_the_pool(
    make_pool: pools.Maker, address: str
) -> None:
    """The driver compares each result with a computation of its own."""
    pool = make_pool.from_file(EXAMPLE)
    name = f"{pool.namespace}/{pool.name}"
    driver = EXAMPLE.with_name("driver.py")
    done = subprocess.run(
        [sys.executable, str(driver), "stdlib", "--address", address, "--pool", name],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "compared with a computation here: 0 differ or are missing" in done.stdout
    found = re.search(r"^(\d+) files in (\d+) pieces", done.stdout, re.MULTILINE)
    assert found is not None
    assert int(found[1]) > 500
    print(done.stdout)
