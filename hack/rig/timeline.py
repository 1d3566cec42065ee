"""Queue and fleet over time, sampled several times a second, and a plot of both in plain text."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from rig import kube

SAMPLE_SECONDS = 0.25
#: At the rate above, an hour.
SAMPLES_MAX = 15_000
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. Pods on their way out count as terminating and as nothing else."""

    #: Since the timeline began.
    seconds: float
    pending: int
    running: int
    #: `replicas` of all of the pool's Deployments.
    wanted: int
    ready: int
    terminating: int
    #: Tasks of the pool that have succeeded so far; 0 where nobody counts them.
    done: int = 0


@dataclass(frozen=True, slots=True)
class Depth:
    """What the queue's owner says of it."""

    pending: int
    running: int


class Timeline:
    """Samples a pool in a thread until it is closed. Use as a context manager.

    `depth` tells the queue; while it raises ConnectionError (the dispatcher is away) the last
    answer stands.
    """

    def __init__(
        self,
        api: kube.Kube,
        *,
        namespace: str,
        pool: str,
        depth: Callable[[], Depth],
        on_sample: Callable[[Sample], None] | None = None,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._selector = f"penstock.dev/pool={pool}"
        self._depth = depth
        self._on_sample = on_sample
        self._closed = threading.Event()
        self._started = 0.0
        self._last = Depth(pending=0, running=0)
        self.samples: list[Sample] = []
        self._thread = threading.Thread(target=self._run, name=f"timeline {pool}", daemon=True)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._closed.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._closed.is_set() and len(self.samples) < SAMPLES_MAX:
            with contextlib.suppress(OSError, http.client.HTTPException, RuntimeError):
                sample = self._look()
                self.samples.append(sample)
                if self._on_sample is not None:
                    self._on_sample(sample)
            self._closed.wait(SAMPLE_SECONDS)

    def _look(self) -> Sample:
        with contextlib.suppress(ConnectionError):
            self._last = self._depth()
        deployments = self._api.deployments(self._namespace, self._selector)
        pods = self._api.pods(self._namespace, self._selector)
        return Sample(
            seconds=time.monotonic() - self._started,
            pending=self._last.pending,
            running=self._last.running,
            wanted=sum(one["spec"]["replicas"] for one in deployments),
            ready=sum(map(kube.is_ready, pods)),
            terminating=sum("deletionTimestamp" in pod["metadata"] for pod in pods),
        )


def plot(samples: Sequence[Sample], *, columns: int = 72) -> str:
    """Queue and ready workers over time, one row of bars each, with a scale of seconds."""
    if not samples:
        return "(nothing was sampled)"
    end = max(samples[-1].seconds, 1.0)
    queue = [0] * columns
    ready = [0] * columns
    column_of = [min(int(one.seconds / end * columns), columns - 1) for one in samples]
    for column, one in zip(column_of, samples, strict=True):
        queue[column] = max(queue[column], one.pending + one.running)
        ready[column] = max(ready[column], one.ready)
    # A column that no sample fell into shows what was last seen.
    for column in range(1, columns):
        if column not in column_of:
            queue[column], ready[column] = queue[column - 1], ready[column - 1]
    rows = [
        f"tasks   {_bars(queue)}  max {max(queue)}",
        f"workers {_bars(ready)}  max {max(ready)}",
        f"        0{f'{end:.0f} s':>{columns - 1}}",
    ]
    return "\n".join(rows)


def _bars(values: Sequence[int]) -> str:
    top = max(*values, 1)
    steps = len(_BARS) - 1
    # Anything above nothing is visible.
    heights = [0 if value == 0 else max(1, round(value / top * steps)) for value in values]
    return "".join(_BARS[height] for height in heights)
