"""What the lines of workers prove. Pure: lines in, findings out; the caller asserts.

Two sources are read. The handlers of the tests say `e2e start N` and `e2e end N`; the worker
runtime says `SIGTERM received running=N`. They are independent of each other, so a busy pod that is
stopped shows up in both.
"""

import collections
import re
from collections.abc import Iterable

from rig.logs import Line

_SIGTERM = re.compile(r"SIGTERM received running=(\d+)")
_STEP = re.compile(r"^e2e (start|end) (\d+)$")


def starts(lines: Iterable[Line]) -> collections.Counter[int]:
    """How often each task was started, by its number."""
    found: collections.Counter[int] = collections.Counter()
    for line in lines:
        match = _STEP.match(line.text)
        if match is not None and match[1] == "start":
            found[int(match[2])] += 1
    return found


def sigterms(lines: Iterable[Line]) -> dict[str, int]:
    """Pods (by UID) that got SIGTERM → how many tasks the runtime said it was running then."""
    found = {}
    for line in lines:
        match = _SIGTERM.search(line.text)
        if match is not None:
            found[line.pod_uid] = int(match[1])
    return found


def busy_at_sigterm(lines: Iterable[Line]) -> dict[str, set[int]]:
    """Pods (by UID) that got SIGTERM between a task's start and its end → those tasks."""
    open_tasks: dict[str, set[int]] = collections.defaultdict(set)
    found = {}
    for line in sorted(lines, key=lambda one: one.time):
        step = _STEP.match(line.text)
        if step is not None:
            act = (
                open_tasks[line.pod_uid].add
                if step[1] == "start"
                else open_tasks[line.pod_uid].discard
            )
            act(int(step[2]))
        elif _SIGTERM.search(line.text) and open_tasks[line.pod_uid]:
            found[line.pod_uid] = set(open_tasks[line.pod_uid])
    return found
