"""How fast the dispatcher is: everything in, durable (FULL sync), on this machine.

    python benchmarks/dispatcher.py [--only NAME …] [--rounds 3] [--quick] [--interpreted]
                                    [--json FOLDER]

Each row starts a dispatcher of its own as a process on loopback, with a journal in a folder of this
machine's disk, and the processes of `roles` around it; all of them share this machine's cores. The
dispatcher's core is compiled, as the images have it. A row is run `--rounds` times, and the median
is shown; those with a million tasks once.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import grpc
import rich.console
import rich.progress
import rich.table
from harness import STEP_SECONDS_MAX, Bench, Row, bench, first_line, result
from json_files import JSON_HELP, write_json
from roles import common

from penstock.v1 import pool_service_pb2, pool_service_pb2_grpc
from rig import compiled, wire

LATENCY_WARM_UP = 400
PUSHBACK_MS_MIN = 50


# ------------------------------------------------------------ rows


def end_to_end(tasks: int) -> Row:
    """One producer with batches of 100, one worker process with credit 1,000."""
    with bench() as at:
        at.start()
        workers = at.role("workers", workers=1, slots=1000, tasks=tasks)
        first_line(workers)
        producer = at.role("producer", tasks=tasks, batch=100, bytes=100)
        ended, submitted = result(workers), result(producer)
        used = at.cpu_seconds()
        rate = tasks / (ended["ended"] - submitted["began"])
        return Row(
            "end-to-end",
            "end to end, stream of batches of 100, one worker process",
            rate,
            "tasks/s",
            ">",
            40_000,
            {
                "dispatcher_cpu_us": used / tasks * 1e6,
                "producer_cpu_us": submitted["cpu_seconds"] / tasks * 1e6,
                "worker_cpu_us": ended["cpu_seconds"] / tasks * 1e6,
            },
        )


def with_sdk(tasks: int) -> Row:
    """The same with `Client.submit_many` and `penstock-worker`."""
    with bench() as at:
        at.start()
        at.worker(1000)
        at.until(lambda: at.stats().slots_total == 1000)
        submitted = result(at.role("sdk_producer", tasks=tasks, bytes=100))
        ended = at.until(lambda: at.stats().succeeded_total >= tasks)
        rate = tasks / (ended - submitted["began"])
        details = {
            "dispatcher_cpu_us": at.cpu_seconds() / tasks * 1e6,
            "producer_cpu_us": submitted["cpu_seconds"] / tasks * 1e6,
        }
        return Row(
            "with-sdk",
            "the same with Client.submit_many and penstock-worker",
            rate,
            "tasks/s",
            ">",
            9_000,
            details,
        )


def drain(tasks: int) -> Row:
    """A full queue, one worker process."""
    with bench() as at:
        at.start()
        at.pause(True)
        result(at.role("producer", tasks=tasks, batch=500, bytes=100))
        before = at.cpu_seconds()
        workers = at.role("workers", workers=1, slots=1000, tasks=tasks)
        first_line(workers)
        at.until(lambda: at.stats().slots_total == 1000)
        at.pause(False)
        ended = result(workers)
        rate = tasks / (ended["ended"] - ended["began"])
        return Row(
            "drain",
            "drain of a full queue by one worker process",
            rate,
            "tasks/s",
            ">",
            40_000,
            {"dispatcher_cpu_us": (at.cpu_seconds() - before) / tasks * 1e6},
        )


def one_slot_each(tasks: int) -> Row:
    """16 workers of one slot: frames cannot batch."""
    with bench() as at:
        at.start()
        at.pause(True)
        result(at.role("producer", tasks=tasks, batch=500, bytes=100))
        workers = at.role("workers", workers=16, slots=1, tasks=tasks)
        first_line(workers)
        at.until(lambda: at.stats().slots_total == 16)
        at.pause(False)
        ended = result(workers)
        rate = tasks / (ended["ended"] - ended["began"])
        return Row("one-slot", "16 workers of one slot each", rate, "tasks/s", ">", 3_000)


def unary(seconds: int) -> Row:
    """64 callers, one task a call."""
    with bench() as at:
        at.start()
        said = result(at.role("callers", callers=64, seconds=seconds, bytes=100, pause=0))
        return Row(
            "unary",
            "unary submits, 64 at a time",
            said["accepted_per_second"],
            "tasks/s",
            ">",
            2_000,
            said["accepted"],
        )


def latency(tasks: int) -> list[Row]:
    """200 a second, an idle worker; from the caller's clock before the call to the handler's."""
    with bench() as at:
        at.start()
        found = _paced(at, wire.POOL, tasks)
        what = "submit to handler start at 200/s, idle worker"
        return [
            Row("latency", f"{what}, p50", found["p50_ms"], "ms", "<", 1.8, found),
            Row("latency", f"{what}, p99", found["p99_ms"], "ms", "<", 5.0, found),
        ]


def _paced(at: Bench, pool: str, tasks: int, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """How long tasks of an even stream took to a handler; `meanwhile` is called when it begins."""
    stamps = at.folder / "stamps.json"
    worker = at.worker(16, pool.rpartition("/")[2], BENCH_STAMPS=str(stamps))
    at.until(lambda: at.stats(pool).slots_total == 16)
    meanwhile()
    result(at.role("pacer", pool=pool, tasks=LATENCY_WARM_UP + tasks, rate=200))
    at.until(lambda: at.stats(pool).succeeded_total >= LATENCY_WARM_UP + tasks)
    worker.terminate()
    worker.wait(STEP_SECONDS_MAX)
    return common.milliseconds(json.loads(stamps.read_text())[LATENCY_WARM_UP:])


def refusals(seconds: int) -> list[Row]:
    """A full pool and 64 callers who come again as soon as the least push-back allows, while
    another pool of the same dispatcher goes on.
    """
    full, other = f"{wire.POOL}-0", f"{wire.POOL}-1"
    with bench() as at:
        at.start(pools=2, max_pending=1000)
        at.pause(True, full)
        result(at.role("producer", pool=full, tasks=1000, batch=500, bytes=100))

        def hammer(seconds: int, pause: int) -> Any:
            numbers = {"callers": 64, "seconds": seconds, "bytes": 100, "pause": pause}
            return at.role("callers", pool=full, **numbers)

        calm = result(hammer(seconds, PUSHBACK_MS_MIN))["refused"]
        hard = result(hammer(seconds, 0))["refused"]
        meanwhile = _paced(at, other, 200 * seconds, lambda: hammer(seconds + 5, PUSHBACK_MS_MIN))
    what = "refusal by a full pool, 64 callers that come again after 50 ms"
    return [
        Row(
            "refusals", f"{what}, p99", calm["p99_ms"], "ms", "<", 10.0, {**calm, "no pause": hard}
        ),
        Row(
            "refusals",
            "submit to handler start of another pool meanwhile, p99",
            meanwhile["p99_ms"],
            "ms",
            "<",
            10.0,
            meanwhile,
        ),
    ]


def memory(tasks: int) -> Row:
    """What a pending task of 100 bytes takes of the dispatcher's memory."""
    with bench() as at:
        at.start()
        at.pause(True)
        result(at.role("producer", tasks=10_000, batch=500, bytes=100))
        before = at.resident_bytes()
        result(at.role("producer", tasks=tasks, batch=500, bytes=100))
        each = (at.resident_bytes() - before) / tasks
        return Row("memory", "memory of a pending task of 100 bytes", each, "bytes", "<", 1024)


def million(tasks: int) -> list[Row]:
    """A long queue: its start, and what it costs those that come and go."""
    with bench() as at:
        at.start()
        empty = _through(at, 100_000)
    with bench() as at:
        at.start()
        at.pause(True)
        rows = [_start(at, tasks // 10, 2.0), _start(at, tasks - tasks // 10, 15.0)]
        at.pause(False)
        long = _through(at, 100_000)
        rows.append(
            Row(
                "million",
                f"throughput with {tasks:,} pending, of that with none",
                100 * long / empty,
                "%",
                ">",
                80.0,
                {"empty": empty, "long": long},
            )
        )
        return rows


def _start(at: Bench, more: int, target: float) -> Row:
    """Of a process that was killed with so many more tasks waiting, until it serves."""
    result(at.role("producer", tasks=more, batch=500, bytes=100))
    pending = at.stats().pending
    at.dispatcher.kill()
    began = time.monotonic()
    at.dispatcher.start()
    what = f"start with {pending:,} pending"
    return Row("million", what, time.monotonic() - began, "s", "<", target)


def _through(at: Bench, tasks: int) -> float:
    """Tasks a second that end while as many come."""
    workers = at.role("workers", workers=1, slots=1000, tasks=tasks)
    first_line(workers)
    producer = at.role("producer", tasks=tasks, batch=100, bytes=100)
    ended, submitted = result(workers), result(producer)
    took: float = max(ended["ended"], submitted["ended"]) - submitted["began"]
    return tasks / took


def idle(pools: int, workers: int, seconds: float) -> list[Row]:
    """Many pools and connected workers with nothing to do."""
    with bench() as at:
        at.start(pools=pools)
        at.role("idlers", pools=pools, workers=workers)
        at.until(lambda: _connected(at) >= workers, step=0.5)
        time.sleep(10)
        before, began = at.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        share = 100 * (at.cpu_seconds() - before) / (time.monotonic() - began)
        what = f"{pools} pools and {workers:,} idle workers"
        return [
            Row("idle", f"{what}: memory", at.resident_bytes() / 2**20, "MiB", "<", 300.0),
            Row("idle", f"{what}: processor", share, "% of a core", "<", 5.0),
        ]


def _connected(at: Bench) -> int:
    with grpc.insecure_channel(at.dispatcher.address) as channel:
        stub = pool_service_pb2_grpc.PoolServiceStub(channel)
        count, token = 0, ""
        while True:
            page = stub.ListPools(
                pool_service_pb2.ListPoolsRequest(page_size=1000, page_token=token)
            )
            count += sum(pool.stats.slots_total for pool in page.pools)
            token = page.next_page_token
            if not token:
                return count


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to run. `once`: it takes minutes."""

    name: str
    run: Callable[[], Row | list[Row]]
    once: bool = False


def entries(quick: bool) -> list[Entry]:
    """All of them; `quick` = smaller, to see that they run."""
    part = 10 if quick else 1
    return [
        Entry("end-to-end", lambda: end_to_end(200_000 // part)),
        Entry("with-sdk", lambda: with_sdk(100_000 // part)),
        Entry("drain", lambda: drain(200_000 // part)),
        Entry("one-slot", lambda: one_slot_each(20_000 // part)),
        Entry("unary", lambda: unary(10 // part or 1)),
        Entry("latency", lambda: latency(4_000 // part)),
        Entry("refusals", lambda: refusals(10 // part or 1)),
        Entry("memory", lambda: memory(200_000 // part)),
        Entry("million", lambda: million(1_000_000 // part), once=True),
        Entry("idle", lambda: idle(500 // part, 1_000 // part, 30.0 / part), once=True),
    ]


def medians(rounds: list[list[Row]]) -> list[Row]:
    """Of each row the round whose value is in the middle."""
    found = []
    for number in range(len(rounds[0])):
        same = sorted((each[number] for each in rounds), key=lambda row: row.value)
        found.append(same[(len(same) - 1) // 2])
    return found


def table(rows: list[Row], all_rounds: dict[str, list[float]]) -> rich.table.Table:
    """For people."""
    made = rich.table.Table("what", "measured", "target", "rounds", box=None)
    for row in rows:
        colour = "green" if row.reached else "red"
        made.add_row(
            row.what,
            f"[{colour}]{_number(row.value)} {row.unit}[/]",
            f"{'at least' if row.better == '>' else 'at most'} {_number(row.target)}",
            " ".join(_number(value) for value in all_rounds[row.what]),
        )
    return made


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main() -> int:
    """Exit status 1 = a target was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [entry.name for entry in entries(False)]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--interpreted", action="store_true", help="the core as it is in the tree")
    parser.add_argument("--json", type=pathlib.Path, metavar="FOLDER", help=JSON_HELP)
    given = parser.parse_args()
    with contextlib.nullcontext() if given.interpreted else compiled.for_children():
        return measure(given)


def measure(given: argparse.Namespace) -> int:
    """Run the rows, and show them."""
    console = rich.console.Console()
    rows: list[Row] = []
    all_rounds: dict[str, list[float]] = {}
    todo = [entry for entry in entries(given.quick) if entry.name in given.only]
    with rich.progress.Progress(console=console, transient=True) as progress:
        step = progress.add_task("", total=len(todo))
        for entry in todo:
            rounds = []
            for number in range(1 if entry.once else given.rounds):
                progress.update(step, description=f"{entry.name} {number + 1}")
                said = entry.run()
                rounds.append(said if isinstance(said, list) else [said])
            for row in medians(rounds):
                rows.append(row)
                same = (each for some in rounds for each in some if each.what == row.what)
                all_rounds[row.what] = [each.value for each in same]
            progress.advance(step)
    console.print(table(rows, all_rounds))
    if given.json:
        shown = [{**asdict(row), "rounds": all_rounds[row.what]} for row in rows]
        write_json(given.json, "dispatcher", shown)
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
