"""Links in the documents lead somewhere, every page can be reached, and Python is Python."""

import ast
import pathlib
import re
import subprocess

from rig import documents

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def pages() -> list[pathlib.Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split()]


def linked(page: pathlib.Path) -> list[pathlib.Path]:
    found = LINK.findall(page.read_text())
    return [(page.parent / target).resolve() for target in found if "://" not in target]


def test_every_link_leads_somewhere() -> None:
    broken = [(page.name, target) for page in pages() for target in linked(page)]
    assert [pair for pair in broken if not pair[1].exists()] == []


def test_every_page_of_docs_can_be_reached() -> None:
    reached: set[pathlib.Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        if page.suffix == ".md":
            waiting += linked(page)
    docs = {page for page in pages() if "docs" in page.relative_to(ROOT).parts[:1]}
    assert {str(page.relative_to(ROOT)) for page in docs - reached} == set()


def test_every_block_of_python_can_be_compiled() -> None:
    shown = [
        block
        for page in pages()
        for block in documents.blocks(page)
        if block.language in {"python", "py"}
    ]
    assert len(shown) > 15
    for block in shown:
        # Parts of an async program may stand without their function.
        compile(block.text, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
