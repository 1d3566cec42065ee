"""The kernel's own killer: in a control group with a memory limit, where this machine lets us make
one.
"""

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from penstock.v1 import task_pb2

LIMIT_BYTES = 256 * 1024 * 1024
GREEDY = b"x = b'x' * (1 << 30); print(len(x))"
ROOT = pathlib.Path("/sys/fs/cgroup")


@pytest.fixture
def limited() -> Iterator[pathlib.Path]:
    """The file that takes a process into a group with a limit; the group goes with the test."""
    version_1 = (ROOT / "memory").is_dir()
    group = (ROOT / "memory" if version_1 else ROOT) / f"penstock-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        limit = "memory.limit_in_bytes" if version_1 else "memory.max"
        (group / limit).write_text(str(LIMIT_BYTES))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    yield group / "cgroup.procs"
    deadline = time.monotonic() + 10
    while group.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            group.rmdir()
        time.sleep(0.1)


def start_worker(limited: pathlib.Path, address: str, *command: str) -> subprocess.Popen[bytes]:
    """A worker inside the group."""
    inside = f'echo $$ >{limited}; exec "$@"'
    worker = (sys.executable, "-m", "penstock_worker", "exec", "--", *command)
    environment = {"PENSTOCK_POOL": "demo", "PENSTOCK_ADDRESS": address}
    return subprocess.Popen(["sh", "-c", inside, "sh", *worker], env={**os.environ, **environment})


@pytest.mark.parametrize("shell", [False, True])
async def test_out_of_memory_is_a_worker_loss_with_that_cause(
    shell: bool, limited: pathlib.Path, dispatcher: Any, stubs: Any, rich: Any
) -> None:
    """Also when it is the command's own child that is killed, and a shell tells of it with 137."""
    command = ["sh", "-c", f"{sys.executable} -; exit $?"] if shell else [sys.executable, "-"]
    worker = start_worker(limited, dispatcher.address, *command)
    try:
        task = await stubs.submit(payload=GREEDY)
        done = await stubs.wait(task.name, 30)
        assert (done.state, done.attempt) == (task_pb2.Task.DEAD_LETTERED, 0)
        assert done.worker_losses == 3
        assert rich(done.error).reason == "OUT_OF_MEMORY"
        assert "raise the memory limit" in done.error.message
        small = await stubs.submit(payload=b"print(1)")
        assert (await stubs.wait(small.name, 30)).result == b"1\n", "the worker lives"
    finally:
        worker.kill()
        await asyncio.to_thread(worker.wait)
