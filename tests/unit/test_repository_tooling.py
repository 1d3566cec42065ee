"""The tools agree with each other: versions, the lock, the Makefile, continuous integration."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_make_target_says_what_it_does() -> None:
    targets = re.findall(r"^([a-z][a-z0-9-]*):(?!=)(.*)$", MAKEFILE, re.MULTILINE)
    assert len(targets) > 10
    assert [name for name, rest in targets if "## " not in rest] == []


def test_every_make_target_is_phony() -> None:
    declared = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert declared is not None
    targets = re.findall(r"^([a-z][a-z0-9-]*):(?!=)", MAKEFILE, re.MULTILINE)
    assert sorted(declared[1].split()) == sorted(targets)


def test_the_layers_are_checked_by_make_lint() -> None:
    recipe = MAKEFILE.split("\nlint:")[1].split("\n\n")[0]
    for tool in ("ruff check", "ruff format --check", "lint-imports"):
        assert tool in recipe
    assert "lint types unit" in MAKEFILE.split("\ncheck:")[1].splitlines()[0]


def test_the_lock_names_no_host_and_every_hash() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert re.search(r"https?://|--index-url|--find-links|--extra-index", text) is None
    pins = re.findall(r"^[a-z0-9][^\s=]*==", text, re.MULTILINE | re.IGNORECASE)
    blocks = re.split(r"^(?=[a-z0-9][^\s=]*==)", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert len(pins) > 30
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_lock_holds_every_direct_dependency() -> None:
    text = (ROOT / "requirements.lock").read_text().lower()
    locked = set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE))
    groups = PROJECT["dependency-groups"].values()
    wanted = [*PROJECT["project"]["dependencies"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    for group in groups:
        wanted += [one for one in group if isinstance(one, str)]
    names = {re.split(r"[\[<>=~ ]", one)[0].lower() for one in wanted} - {"penstock"}
    assert names - locked == set()


def test_the_core_is_compiled_by_what_checks_its_types() -> None:
    wanted = re.search(r"mypy\[mypyc\]==(\S+)\"", (ROOT / "hatch_build.py").read_text())
    assert wanted is not None
    assert f"\nmypy=={wanted[1]} " in (ROOT / "requirements.lock").read_text()


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts" / "penstock" / "Chart.yaml").read_text())
    assert chart["version"] == version
    assert chart["appVersion"] == version
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(one for one in headings if one != "Unreleased") == version


def test_continuous_integration_runs_make_test_and_nothing_else() -> None:
    lines = [
        line
        for line in (ROOT / ".ci" / "run").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines == ['cd "$(dirname "$0")/.." && exec make test']
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


def test_every_kind_of_test_is_run_by_make_test_but_long_runs() -> None:
    runner = (ROOT / "hack" / "run_tests.py").read_text()
    run = set(re.findall(r'"([a-z0-9]+)"', "".join(re.findall(r"KINDS = (\(.*\))", runner))))
    kinds = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}
    assert kinds - run == {"soak"}
    assert run <= kinds | {"typing"}
    assert "tests/soak" in MAKEFILE.split("\nsoak:")[1].split("\n\n")[0]
    # Nor by pytest alone, unless asked for.
    assert "soak" in PROJECT["tool"]["pytest"]["ini_options"]["norecursedirs"]
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert [
        kind
        for kind in sorted(kinds)
        if f"`{kind}`" not in contributing and f"tests/{kind}`" not in contributing
    ] == []


def test_hooks_fetch_nothing() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repository["repo"] for repository in hooks["repos"]} == {"local"}
