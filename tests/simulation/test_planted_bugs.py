"""The simulation finds what it is for: each bug of `rig.bugs`, one at a time."""

from pathlib import Path

import pytest

from rig import bugs, planted

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "testing.md"


@pytest.mark.parametrize("bug", bugs.BUGS, ids=[bug.title for bug in bugs.BUGS])
def test_a_planted_bug_breaks_its_promise(bug: bugs.Bug) -> None:
    right = bug.owner.__dict__[bug.name]
    found = planted.hunt(bug)
    assert found is not None, f"{planted.SEEDS_MAX} histories went by, and nothing was noticed"
    assert any(words in found.promise for words in bug.breaks), found
    assert bug.owner.__dict__[bug.name] is right
    # The same history without the bug: what was found was the bug's.
    planted.WORLDS[bug.world](found.seed)


def test_the_page_names_each_of_them() -> None:
    named = [line.split("|")[1].strip() for line in PAGE.read_text().splitlines() if "|" in line]
    missing = [bug.title for bug in bugs.BUGS if bug.title not in named]
    assert not missing
