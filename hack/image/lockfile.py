"""The part of ``requirements.lock`` that one image needs.

The lock holds everything for everybody: all extras and the development tools. An
image gets the closure of the base dependencies and its own extra, with the
exact versions, markers and hashes of the lock. Which package is there because of
which is read from the lock's own ``# via`` notes.

    python3 lockfile.py --extra operator

prints the requirements. It is a file of its own, without imports beyond the
standard library, because it runs in two places: on the machine that prepares
the wheels, and inside the image build.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(slots=True)
class Entry:
    """One locked package: its lines as they stand, and who asked for it."""

    lines: list[str]
    via: set[str] = field(default_factory=set)


def normal(name: str) -> str:
    """A package's name in the one spelling that compares."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(text: str) -> dict[str, Entry]:
    """Read a lock: package → entry."""
    found: dict[str, Entry] = {}
    entry: Entry | None = None
    for line in text.splitlines():
        bare = line.strip()
        if not bare:
            continue
        if bare.startswith("#"):
            # "# via one", or "# via" and then "#   one" on lines of their own.
            words = bare.lstrip("# ").removeprefix("via").split()
            if entry is not None and words and line[0].isspace():
                entry.via.add(normal(words[0]))
        elif line[0].isspace():
            if entry is not None:
                entry.lines.append(line)
        else:
            name = NAME.match(line)
            if name is None:
                raise SystemExit(f"lockfile: cannot read {line!r}")
            entry = found[normal(name[0])] = Entry([line])
    return found


def direct(project: dict[str, Any], extras: Iterable[str]) -> set[str]:
    """What the project itself asks for, with these extras; extras may name others."""
    known = project.get("optional-dependencies", {})
    wanted: set[str] = set()
    queue, seen = [list(project["dependencies"])], set()
    names = list(extras)
    while names or queue:
        if names:
            extra = names.pop()
            if extra in seen:
                continue
            if extra not in known:
                raise SystemExit(f"lockfile: pyproject.toml has no extra {extra!r}")
            seen.add(extra)
            queue.append(known[extra])
        for requirement in queue.pop():
            name = NAME.match(requirement)
            assert name is not None, requirement
            if normal(name[0]) == normal(project["name"]):
                inner = requirement[requirement.index("[") + 1 : requirement.index("]")]
                names += [one.strip() for one in inner.split(",")]
            else:
                wanted.add(normal(name[0]))
    return wanted


def select(lock: str, pyproject: str, extras: Iterable[str]) -> str:
    """The requirements for these extras: the base, the extras, and all they need."""
    locked = entries(lock)
    needed = direct(tomllib.loads(pyproject)["project"], extras)
    absent = sorted(needed - set(locked))
    if absent:
        raise SystemExit(f"lockfile: requirements.lock lacks {', '.join(absent)}: lock again")
    while more := {
        name for name, entry in locked.items() if name not in needed and entry.via & needed
    }:
        needed |= more
    return "\n".join(line for name in sorted(needed) for line in locked[name].lines) + "\n"


def main() -> None:
    """Print the selection."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml")
    extras = parser.parse_args().extra
    lock = (REPOSITORY / "requirements.lock").read_text()
    sys.stdout.write(select(lock, (REPOSITORY / "pyproject.toml").read_text(), extras))


if __name__ == "__main__":
    main()
