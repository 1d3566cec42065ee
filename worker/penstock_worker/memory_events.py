"""Whether the kernel has killed something in this container for want of memory.

Its counter of such kills is in the files of the control group: `memory.events` (version 2) or
`memory.oom_control` (version 1), which a container sees below /sys/fs/cgroup. Where there is none
to read, nothing is known, and nothing is said to be the cause.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")


def places(membership: str, root: Path = ROOT) -> list[Path]:
    """Where the counter may be, best first; `membership` is the text of /proc/self/cgroup.

    A container often sees its own group at the root, whatever path the kernel names.
    """
    second, first = [root / "memory.events"], [root / "memory" / "memory.oom_control"]
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        below = path.strip("/")
        if number == "0" and not controllers:
            second.insert(0, root / below / "memory.events")
        elif "memory" in controllers.split(","):
            first.insert(0, root / "memory" / below / "memory.oom_control")
    return second + first


def kills_in(text: str) -> int | None:
    """The counter in the text of such a file; None if it has none."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return None


class Counter:
    """The counter of this process's container."""

    def __init__(self, candidates: Iterable[Path]) -> None:
        self._file = next((each for each in candidates if _read(each) is not None), None)

    def kills(self) -> int:
        """How many so far; always the same where that cannot be known."""
        return (None if self._file is None else _read(self._file)) or 0


def of_this_container() -> Counter:
    """The counter that applies to this process and its children."""
    membership = ""
    with contextlib.suppress(OSError):
        membership = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    return Counter(places(membership))


def _read(file: Path) -> int | None:
    try:
        return kills_in(file.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return None
