"""Every block of commands in the documents is run by a test, or says in a comment why it is not.

A test runs a block when it takes it out of the page: `documents.block(PAGE, "sh", "some words")`.
So the tests are read here, not run: which page and which words each of them names.
"""

import ast
import functools
import pathlib
import subprocess

import pytest

from rig import documents

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"


def pages() -> list[pathlib.Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split()]


def shell_blocks() -> list[documents.Block]:
    return [
        block
        for page in pages()
        for block in documents.blocks(page)
        if block.language in documents.SHELL
    ]


def path_of(node: ast.expr) -> list[str] | None:
    """The parts of an expression such as `ROOT / "docs" / "README.md"`, without what it begins
    with.
    """
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        before = path_of(node.left)
        if before is not None and isinstance(node.right, ast.Constant):
            return [*before, str(node.right.value)]
    return [] if isinstance(node, ast.Name | ast.Attribute) else None


def taken(source: pathlib.Path) -> list[tuple[pathlib.Path, str, str]]:
    """Page, language and words of each block that a test module takes."""
    tree = ast.parse(source.read_text())
    constants = {
        target.id: ROOT.joinpath(*parts)
        for statement in tree.body
        if isinstance(statement, ast.Assign) and (parts := path_of(statement.value))
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="block"),
                args=[ast.Name(id=page), ast.Constant(language), ast.Constant(words)],
            ):
                found.append((constants[page], str(language), str(words)))
    return found


@functools.cache
def everything_taken() -> list[tuple[pathlib.Path, str, str]]:
    modules = sorted(TESTS.rglob("test_*.py"))
    return [
        each
        for module in modules
        if module != pathlib.Path(__file__) and "documents.block(" in module.read_text()
        for each in taken(module)
    ]


def runs(block: documents.Block) -> list[str]:
    return [
        words
        for page, language, words in everything_taken()
        if (page, language) == (block.page, block.language) and words in block.text
    ]


def named(block: documents.Block) -> str:
    return f"{block.page.relative_to(ROOT)}: {block.text.splitlines()[0]}"


@pytest.mark.parametrize("block", shell_blocks(), ids=named)
def test_it_is_run_or_says_why_not(block: documents.Block) -> None:
    if block.not_run is None:
        assert runs(block), f"no test takes this block:\n{block.text}"
    else:
        assert not runs(block), f"it is run, so its comment is wrong: {block.not_run}"


def test_there_are_blocks_to_look_at() -> None:
    assert len(shell_blocks()) > 20
    assert any(runs(block) for block in shell_blocks())


def test_what_a_test_takes_is_one_block() -> None:
    """Also for the tests that need a cluster, before there is one."""
    for page, language, words in everything_taken():
        assert documents.block(page, language, words)
