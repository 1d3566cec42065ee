"""How much memory this process may have, and what part of it is for tasks.

The bound is that of the control group (a container's limit) or of one above it, if there is one,
else what the machine has. What tasks may take is the larger part of it: the rest is the interpreter
and its libraries, the journal's process, connections, and what lies between objects that come and
go.
"""

import contextlib
import os
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
BASE_BYTES: Final = 256 * 1024 * 1024
"""Of both processes without a task, with a thousand workers, and of what is not durable yet."""
TASKS_PART: Final = 0.7
"""Of what is left."""
TASK_MEMORY_MIN: Final = 16 * 1024 * 1024

_UNITS: Final = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def bytes_in(text: str) -> int:
    """Bytes as people write them: 600000000, 600Mi, 2Gi. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,15})(Ki|Mi|Gi|)", text.strip())
    if found is None or (size := int(found[1]) * _UNITS[found[2]]) < TASK_MEMORY_MIN:
        least = TASK_MEMORY_MIN // 2**20
        raise ValueError(f"must be bytes, or a number with Ki, Mi or Gi, and at least {least}Mi")
    return size


def for_tasks(available: int) -> int:
    """The part of a process's memory that its tasks may take."""
    return max(TASK_MEMORY_MIN, int((available - BASE_BYTES) * TASKS_PART))


def available(membership: str | None = None, root: Path = ROOT) -> int:
    """Bytes that this process may have; `membership` is the text of /proc/self/cgroup."""
    if membership is None:
        membership = ""
        with contextlib.suppress(OSError):
            membership = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_limits(membership, root)])


def _limits(membership: str, root: Path) -> list[int]:
    found = []
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        # A container often sees its own group at the top, whatever path the kernel names.
        folder = top / path.strip("/")
        for each in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValueError):
                found.append(int((each / name).read_text()))
            if each == top:
                break
    return found
