"""Example 05's scripts, as its worker runs them."""

import asyncio
import hashlib
import pathlib
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from penstock.v1 import task_pb2, task_service_pb2
from rig import wire, worker_processes

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "05-any-language"
State = task_pb2.Task


@pytest.fixture
def worker(
    dispatcher_process: Any, tmp_path: pathlib.Path
) -> Iterator[worker_processes.WorkerProcess]:
    """A worker with the Dockerfile's own command line, in this tree."""
    (words,) = re.findall(r"^CMD \[(.*)\]$", (EXAMPLE / "Dockerfile").read_text(), re.MULTILINE)
    arguments = [word.strip(' "') for word in words.split(",")]
    assert arguments[-1] == "/app/work.sh"
    workers = worker_processes.Workers(tmp_path)
    script = str(EXAMPLE / "work.sh")
    yield workers.start(dispatcher_process.address, *arguments[:-1], script, slots=2)
    workers.close()


@pytest_asyncio.fixture
async def stubs(dispatcher_process: Any, stubs_for: Any) -> AsyncIterator[wire.Stubs]:
    """Stubs of the dispatcher."""
    await asyncio.to_thread(dispatcher_process.configure)
    made = stubs_for(dispatcher_process.address)
    yield made
    await made.channel.close()


async def test_what_the_scripts_do(stubs: Any, worker: Any) -> None:
    text = "to be or not to be: Übel, übel"
    content = bytes(range(256)) * 1000
    words = await stubs.submit(type="words", payload=text.encode(), labels={"top": "2"})
    longer = await stubs.submit(type="words", payload=text.encode())
    checksum = await stubs.submit(type="checksum", payload=content)
    waited = await stubs.submit(type="wait", payload=b"1\n")
    done = await stubs.wait(words.name)
    assert (done.result.decode(), done.result_content_type) == ("2\tbe\n2\tto\n", "text/plain")
    assert (await stubs.wait(longer.name)).result.decode() == "2\tbe\n2\tto\n2\tübel\n"
    done = await stubs.wait(checksum.name)
    assert done.result.decode() == hashlib.sha256(content).hexdigest() + "\n"
    done = await stubs.wait(waited.name)
    assert done.result.decode() == f"waited 1 s, attempt 1 of {waited.name.rpartition('/')[2]}\n"


@pytest.mark.parametrize(
    ("kind", "payload", "complaint"),
    [("words", b"\xff\xfe", "not UTF-8"), ("wait", b"soon", "whole number of seconds, is 'soon'")],
)
async def test_a_payload_that_is_no_use_is_not_tried_again(
    kind: str, payload: bytes, complaint: str, stubs: Any, worker: Any, rich: Any
) -> None:
    task = await stubs.submit(type=kind, payload=payload)
    done = await stubs.wait(task.name)
    assert (done.state, done.attempt) == (State.DEAD_LETTERED, 1)
    assert rich(done.error).reason == "EXIT_65"
    assert complaint in done.error.message


async def test_a_wait_that_is_cancelled_tidies_up(stubs: Any, worker: Any) -> None:
    task = await stubs.submit(type="wait", payload=b"60")
    await asyncio.to_thread(worker.until, "task started")
    await asyncio.sleep(0.3)
    request = task_service_pb2.CancelTaskRequest(name=task.name)
    await stubs.tasks.CancelTask(request, timeout=5)
    assert (await stubs.wait(task.name)).state == State.CANCELLED
    await asyncio.to_thread(worker.until, "interrupted, tidying up")
