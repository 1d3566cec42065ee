"""What the pages of the documentation show, for tests that run it."""

import re
from pathlib import Path


def block(page: Path, language: str, text: str) -> str:
    """The code block of a page that has `text` in it; there is exactly one."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [each for each in blocks if text in each]
    return str(found)
