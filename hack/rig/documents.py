"""What the pages of the documentation show, for tests that run it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
