"""Examples 02 to 05 as their READMEs tell them, from outside, with pods for workers."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys

from rig import installation, pools, programs

DRIVER_SECONDS_MAX = 200


def driven(pool: pools.Pool, example: str, *, address: str, **variables: str) -> str:
    """Run an example's driver against its pool; what it said. It must be content."""
    driver = installation.manifest(example).with_name("driver.py")
    done = subprocess.run(
        [
            *(sys.executable, str(driver), "--address", address),
            *("--pool", f"{pool.namespace}/{pool.name}"),
        ],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=DRIVER_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    print(done.stdout)
    return done.stdout


def admin_token(pool: pools.Pool) -> str:
    """The chart's token for those who operate pools."""
    secret = pool.api.get(f"/api/v1/namespaces/{pool.namespace}/secrets/penstock-auth")
    return base64.b64decode(secret["data"]["admin"]).decode()


def test_the_highest_priority_goes_first(make_pool: pools.Maker, address: str) -> None:
    pool = make_pool.from_file(installation.manifest("02-priority"))
    said = driven(pool, "02-priority", address=address, PENSTOCK_TOKEN=admin_token(pool))
    assert "assigned in the order 10, 7, 5, 3, 2, 1, 1" in said
    workers = set(re.findall(r" on (\S+)$", said, re.MULTILINE))
    assert workers <= {pod["metadata"]["name"] for pod in pool.pods()}


def test_no_window_has_more_starts_than_the_limit(make_pool: pools.Maker, address: str) -> None:
    pool = make_pool.from_file(installation.manifest("03-rate-limited"))
    said = driven(pool, "03-rate-limited", address=address)
    assert re.search(r"^30 tasks assigned in \d", said, re.MULTILINE)
    assert pool.ready() == 5


def test_what_a_full_queue_refuses_is_accounted_for(make_pool: pools.Maker, address: str) -> None:
    pool = make_pool.from_file(installation.manifest("04-backpressure"))
    said = driven(pool, "04-backpressure", address=address)
    for answer in ("retry", "store", "drop", "alert"):
        assert re.search(rf"^{answer} +20 offered, [1-9]", said, re.MULTILINE), said
    assert "every task that was accepted ran once" in said


def test_a_shell_script_and_a_perl_program_are_the_workers(
    make_pool: pools.Maker, address: str
) -> None:
    pool = make_pool.from_file(installation.manifest("05-any-language"))
    penstock = programs.penstock(address, pool=f"{pool.namespace}/{pool.name}")

    def result(*arguments: str) -> str:
        done = penstock("submit", *arguments, "--wait", "--timeout", "90", "-o", "json")
        assert done.returncode == 0, done.stderr + done.stdout
        return str(json.loads(done.stdout)["result"])

    assert (
        result("words", "--payload", "to be or not to be", "--label", "top=2") == "2\tbe\n2\tto\n"
    )
    shown = installation.manifest("05-any-language")
    expected = hashlib.sha256(shown.read_bytes()).hexdigest()
    assert result("checksum", "--payload-file", str(shown)) == f"{expected}\n"
    assert result("wait", "--payload", "1").startswith("waited 1 s, attempt 1 of ")
    given_up = penstock("submit", "words", "--payload-file", "/bin/sh", "--wait", "-o", "json")
    assert given_up.returncode == 1, given_up.stderr
    task = json.loads(given_up.stdout)
    assert (task["state"], task["attempt"], task["error"]["reason"]) == (
        "DEAD_LETTERED",
        1,
        "EXIT_65",
    )
    names = {pod["metadata"]["name"] for pod in pool.pods()}
    assert task["worker"].rpartition("/")[2] in names
