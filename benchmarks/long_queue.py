"""How long the dispatcher stands still while somebody lists, changes or clears a long queue.

    python benchmarks/long_queue.py [--tasks 200000]

A dispatcher in this process, its journal on disk, and a client in another. Each verb runs once
while the loop is timed each millisecond: whatever it stands still for is what heartbeats,
submissions and assignments of every pool would feel. What Python's garbage collector takes of that
is told by itself.
"""

import argparse
import asyncio
import gc
import pathlib
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio

from penstock.v1 import (
    fleet_service_pb2,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from penstock_dispatcher import garbage, server

POOL = "namespaces/default/pools/long"
TICK_SECONDS = 0.001
BATCH = 500
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class Stopwatch:
    """The longest times for which the loop stood still, and the collector collected."""

    def __init__(self) -> None:
        self.longest = self.collector = 0.0
        self._began = 0.0
        gc.callbacks.append(self._collecting)

    def _collecting(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.collector = max(self.collector, time.perf_counter() - self._began)

    def reset(self) -> None:
        """Begin anew."""
        self.longest = self.collector = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            self.longest = max(self.longest, time.perf_counter() - before - TICK_SECONDS)


# ---------------------------------------------------------------- the client's side


class Client:
    """What is measured, verb by verb."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
        channel = grpc.aio.insecure_channel(address, options=options)
        self._tasks: Any = task_service_pb2_grpc.TaskServiceStub(channel)

    async def fill(self, count: str) -> None:
        """So many tasks, of a hundred priorities and two types."""
        for first in range(0, int(count), BATCH):
            requests = [
                task_service_pb2.SubmitTaskRequest(
                    task=task_pb2.Task(
                        type="odd" if number % 2 else "even",
                        priority=number % 100,
                        payload=b"x" * 100,
                        labels={"tenant": f"{number % 7}"},
                    )
                )
                for number in range(first, min(first + BATCH, int(count)))
            ]
            batch = task_service_pb2.BatchSubmitTasksRequest(parent=POOL, requests=requests)
            await self._tasks.BatchSubmitTasks(batch)

    async def list(self, pages: str, query: str = "") -> None:
        """At most so many pages."""
        token = ""
        for _ in range(int(pages)):
            answer = await self._tasks.ListTasks(
                task_service_pb2.ListTasksRequest(
                    parent=POOL, filter=query, page_size=1000, page_token=token
                )
            )
            token = answer.next_page_token
            if not token:
                return

    async def get(self) -> None:
        """One task, with its place in the queue."""
        listed = await self._tasks.ListTasks(
            task_service_pb2.ListTasksRequest(parent=POOL, page_size=1)
        )
        await self._tasks.GetTask(task_service_pb2.GetTaskRequest(name=listed.tasks[0].name))

    async def preview(self, query: str) -> None:
        """What would be cancelled."""
        await self._cancel(query, preview=True)

    async def cancel(self, query: str) -> None:
        """What matches."""
        await self._cancel(query, preview=False)

    async def _cancel(self, query: str, *, preview: bool) -> None:
        request = task_service_pb2.BatchCancelTasksRequest(
            parent=POOL, filter=query, validate_only=preview
        )
        await self._tasks.BatchCancelTasks(request)


async def serve_client(address: str) -> None:
    """Do what each line of standard input says, and answer with a line."""
    client = Client(address)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        verb, *arguments = line.split()
        run: Callable[..., Awaitable[None]] = getattr(client, verb)
        await run(*arguments)
        print("done", flush=True)


# ---------------------------------------------------------------- the dispatcher's side

STEPS = (
    ("list, the very first page", "list 1"),
    ("list, the first page again", "list 1"),
    ("list, 20 pages of 1,000", "list 20"),
    ("list by a label that no task has, to the end", "list 1000000 label.tenant=none"),
    ("GetTask with place and wait", "get"),
    ("cancel, preview by a label", "preview label.tenant=3"),
    ("cancel, every second task", "cancel type=odd"),
    ("cancel, all that is left", "cancel *"),
)


async def measure(dispatcher: server.Dispatcher, count: int) -> None:
    """Every step, one after the other."""
    stopwatch = Stopwatch()
    ticking = asyncio.ensure_future(stopwatch.run())
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--client", dispatcher.address),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    print(f"{'':<46} {'seconds':>8} {'longest stall, ms':>18} {'collector, ms':>14}")
    for what, order in ((f"fill with {count} tasks", f"fill {count}"), *STEPS):
        await asyncio.sleep(0.1)
        stopwatch.reset()
        began = time.perf_counter()
        client.stdin.write(f"{order}\n".encode())
        if await client.stdout.readline() != b"done\n":
            raise SystemExit(f"{what}: the client has failed")
        took = time.perf_counter() - began
        await asyncio.sleep(2 * TICK_SECONDS)
        print(
            f"{what:<46} {took:8.2f} {stopwatch.longest * 1e3:18.1f}"
            f" {stopwatch.collector * 1e3:14.1f}"
        )
    ticking.cancel()
    client.stdin.close()
    await client.wait()
    left = dispatcher.pump.registry.by_name[POOL].book.waiting
    if left:
        raise SystemExit(f"{left} of {count} tasks are left")


async def run(count: int) -> None:
    """See the module's docstring."""
    config = fleet_service_pb2.PoolConfig(
        name=POOL, uid="uid-long", generation=1, max_pending=count, max_pending_bytes=2**40
    )
    garbage.Collector(now=time.monotonic())  # as the program has it
    with tempfile.TemporaryDirectory() as folder:
        settings = server.Settings(listen="127.0.0.1:0", data=pathlib.Path(folder) / "data")
        async with server.serving(settings, pools=[config]) as dispatcher:
            await measure(dispatcher, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--client", metavar="ADDRESS", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    asyncio.run(serve_client(chosen.client) if chosen.client else run(chosen.tasks))
