"""What a dispatcher and its journal's process hold at the moment, from /proc and its metrics."""

import asyncio
import os
import pathlib
import time
import urllib.request
from collections.abc import Callable
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


class Figures(NamedTuple):
    """One look. `memory_bytes`: resident and its own (not mapped from files)."""

    memory_bytes: int
    descriptors: int
    threads: int
    open_calls: int

    def __str__(self) -> str:
        return (
            f"{self.memory_bytes / MIB:.1f} MiB, {self.descriptors} descriptors, "
            f"{self.threads} threads, {self.open_calls} open calls"
        )


def tree(pid: int) -> list[int]:
    """A process, its children, and theirs."""
    found = [pid]
    for file in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in file.read_text().split():
            found += tree(int(child))
    return found


def memory_bytes(pid: int) -> int:
    """Anonymous resident memory of a process and its children."""
    return sum(_number(each, "status", "RssAnon") for each in tree(pid)) * 1024


def proportional_bytes(pid: int) -> int:
    """Memory of a process and its children; pages that some of them share count once."""
    return sum(_number(each, "smaps_rollup", "Pss") for each in tree(pid)) * 1024


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children so far."""
    found = 0
    for each in tree(pid):
        fields = pathlib.Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        found += int(fields[11]) + int(fields[12])
    return found / TICKS


def _number(pid: int, file: str, field: str) -> int:
    for line in pathlib.Path(f"/proc/{pid}/{file}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise KeyError(field)


def metrics(http_address: str) -> dict[str, float]:
    """Every metric of a dispatcher, its series added up."""
    found: dict[str, float] = {}
    with urllib.request.urlopen(f"http://{http_address}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line and not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                name = series.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
    return found


def of(pid: int, http_address: str) -> Figures:
    """A dispatcher's figures now."""
    pids = tree(pid)
    return Figures(
        memory_bytes=memory_bytes(pid),
        descriptors=sum(len(list(pathlib.Path(f"/proc/{each}/fd").iterdir())) for each in pids),
        threads=sum(_number(each, "status", "Threads") for each in pids),
        open_calls=int(metrics(http_address).get("penstock_dispatcher_open_calls", 0)),
    )


async def settle(
    pid: int, http_address: str, settled: Callable[[Figures], bool], *, seconds: float
) -> Figures:
    """The figures as soon as they are as wanted, or when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        found = await asyncio.to_thread(of, pid, http_address)
        if settled(found) or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.2)
