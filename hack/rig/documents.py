"""What the pages of the documentation show, for tests that run it."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rig import processes

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
SHELL = frozenset({"sh", "bash", "console", "shell"})


@dataclass(frozen=True, slots=True)
class Block:
    """One code block. `not_run` = why no test runs it, from the comment before it."""

    page: Path
    language: str
    text: str
    not_run: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page, in their order."""
    for found in _BLOCK.finditer(page.read_text()):
        yield Block(page, found["language"], found["text"], found["reason"])


def block(page: Path, language: str, text: str) -> str:
    """The code block of a page that has `text` in it; there is exactly one."""
    (found,) = [
        each.text for each in blocks(page) if each.language == language and text in each.text
    ]
    return found


def ending_its_jobs(script: str) -> str:
    """A script for bash: what it leaves in the background ends with it, and so does its output."""
    return f"trap 'left=$(jobs -p); [ -z \"$left\" ] || kill $left' EXIT\n{script}"


def run(script: str, variables: Mapping[str, str], *, seconds_max: float) -> str:
    """Run commands with this environment's programs; what they said. They must succeed, and what
    they leave in the background ends with them.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])
    command = ["bash", "-euo", "pipefail", "-c", ending_its_jobs(script)]
    shell = processes.start(command, {**variables, "PATH": path})
    try:
        said, _ = shell.communicate(timeout=seconds_max)
    finally:
        processes.stop(shell)
    assert shell.returncode == 0, said
    return said
